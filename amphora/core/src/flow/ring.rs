//! Rings of numbered nodes: lists from which a node leaves, and to which it comes, in constant time.

use alloc::vec::Vec;

/// A fixed number of rings, and nodes each of which is in one of them or by itself.
#[derive(Debug)]
pub(super) struct Rings {
    /// First the heads of the rings, then the nodes. Each is linked to itself when it is alone.
    links: Vec<Link>,
    heads: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

impl Rings {
    /// That many empty rings, and no node.
    pub(super) fn new(rings: u32) -> Self {
        let mut this = Self {
            links: Vec::new(),
            heads: rings,
        };
        for _ in 0..rings {
            this.add();
        }
        this
    }

    /// One more node, by itself. Nodes are numbered from zero.
    pub(super) fn add(&mut self) {
        let own = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        self.links.push(Link {
            before: own,
            after: own,
        });
    }

    /// The first node of a ring.
    pub(super) fn front(&self, ring: u32) -> Option<u32> {
        self.link(ring).after.checked_sub(self.heads)
    }

    /// Takes a node out of its ring, if it is in one.
    pub(super) fn unlink(&mut self, node: u32) {
        let own = self.heads.saturating_add(node);
        let Link { before, after } = self.link(own);
        self.set(before, |link| link.after = after);
        self.set(after, |link| link.before = before);
        self.set(own, |link| {
            *link = Link {
                before: own,
                after: own,
            };
        });
    }

    /// Puts a node at the end of a ring, whichever it is in now.
    pub(super) fn move_to_back(&mut self, ring: u32, node: u32) {
        let own = self.heads.saturating_add(node);
        let last = self.link(ring).before;
        if last == own {
            return;
        }
        self.unlink(node);
        self.set(last, |link| link.after = own);
        self.set(own, |link| {
            *link = Link {
                before: last,
                after: ring,
            };
        });
        self.set(ring, |link| link.before = own);
    }

    fn link(&self, at: u32) -> Link {
        self.links.get(at as usize).copied().unwrap_or(Link {
            before: at,
            after: at,
        })
    }

    fn set(&mut self, at: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(at as usize) {
            change(link);
        }
    }
}
