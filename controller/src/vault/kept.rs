//! What is remembered of secrets: a bounded number of them and of bytes; who was not asked for longest goes.

use std::sync::Arc;

use krater_driver::Secret;
use lru::LruCache;

use super::Key;

pub(super) struct Kept {
    secrets: LruCache<Key, Arc<Secret>>,
    bytes: usize,
    secrets_max: usize,
    bytes_max: usize,
}

impl Kept {
    pub(super) fn new(secrets_max: usize, bytes_max: usize) -> Self {
        Self {
            secrets: LruCache::unbounded(),
            bytes: 0,
            secrets_max,
            bytes_max,
        }
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<Secret>> {
        self.secrets.get(key).map(Arc::clone)
    }

    pub(super) fn put(&mut self, key: Key, secret: Arc<Secret>) {
        self.bytes += secret.bytes();
        if let Some(before) = self.secrets.put(key, secret) {
            self.bytes -= before.bytes();
        }
        while self.secrets.len() > self.secrets_max || self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.secrets.pop_lru() else {
                break;
            };
            self.bytes -= oldest.bytes();
        }
    }

    /// Drops those that are not wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Key) -> bool) {
        let keys = self.secrets.iter().map(|(key, _)| key);
        let gone: Vec<Key> = keys.filter(|key| !is_wanted(key)).cloned().collect();
        for key in gone {
            if let Some(secret) = self.secrets.pop(&key) {
                self.bytes -= secret.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use krater_controller_core::{
        model::{ProjectId, SecretRef},
        secret::{Need, Purpose},
    };

    use super::*;

    fn key(name: &str) -> Key {
        Key {
            project: ProjectId::parse("p").unwrap(),
            need: Need {
                purpose: Purpose::Authorities,
                reference: SecretRef::parse(name.to_owned()).unwrap(),
            },
        }
    }

    fn secret(bytes: usize) -> Arc<Secret> {
        Arc::new(Secret::Authorities("x".repeat(bytes)))
    }

    #[test]
    fn neither_number_nor_bytes_grow_beyond_their_bounds() {
        let mut kept = Kept::new(2, 100);
        kept.put(key("a"), secret(10));
        kept.put(key("b"), secret(10));
        assert!(kept.get(&key("a")).is_some());
        kept.put(key("c"), secret(10));
        assert!(kept.get(&key("b")).is_none(), "asked for longest ago");
        kept.put(key("c"), secret(90));
        assert_eq!(kept.bytes, 100);
        kept.put(key("d"), secret(20));
        assert_eq!((kept.bytes, kept.secrets.len()), (20, 1));
        kept.put(key("e"), secret(101));
        assert_eq!((kept.bytes, kept.secrets.len()), (0, 0), "too large at all");
        kept.put(key("f"), secret(1));
        kept.retain(|key| key.need.reference.as_str() != "f");
        assert_eq!((kept.bytes, kept.secrets.len()), (0, 0));
    }
}
