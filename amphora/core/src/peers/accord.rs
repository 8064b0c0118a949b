//! Whose memory of a pool two amphorae go on with.

use core::cmp::Ordering;

use crate::affinity::Key;

/// A memory of a pool, as it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which clients it tells apart, and how ([`crate::affinity::likeness`]).
    pub likeness: u64,
    /// What it hashes by.
    pub key: Key,
    /// Whether anybody is remembered.
    pub knows_somebody: bool,
    /// Seconds since it began.
    pub age: u32,
}

impl Offer {
    /// Which of two both go on with, the greater one: one that knows somebody before one that knows nobody, then the
    /// older one. Two that are alike in that are told apart by their keys, so that both sides decide alike.
    #[must_use]
    pub fn rank(&self, other: &Self) -> Ordering {
        let ranked = |offer: &Self| (offer.knows_somebody, offer.age, offer.key);
        ranked(self).cmp(&ranked(other))
    }
}

/// What two have said to each other of a pool. Each decides by what both have said, whatever has changed since: so they
/// decide alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accord {
    said: Option<Offer>,
    heard: Option<Offer>,
}

/// How it stands between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// One of them has not said anything yet, or they do not tell the same clients apart.
    Open,
    /// Both go on with this key, which the other one brought.
    Theirs(Key, u32),
    /// Both go on with this key, which was the own one.
    Own(Key),
}

impl Accord {
    /// Notes what was said to the other one.
    pub const fn say(&mut self, offer: Offer) {
        self.said = Some(offer);
    }

    /// Notes what the other one said.
    pub const fn hear(&mut self, offer: Offer) {
        self.heard = Some(offer);
    }

    /// What was said to the other one last.
    #[must_use]
    pub const fn said(&self) -> Option<&Offer> {
        self.said.as_ref()
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.said, self.heard) {
            (Some(said), Some(heard)) if said.likeness == heard.likeness => {
                if said.key != heard.key && heard.rank(&said) == Ordering::Greater {
                    Standing::Theirs(heard.key, heard.age)
                } else {
                    Standing::Own(said.key)
                }
            }
            _ => Standing::Open,
        }
    }

    /// Whether what the other one tells by a key of that check can be taken, and it can be told: both go on with it.
    #[must_use]
    pub fn is_of(&self, key: Key) -> bool {
        match self.standing() {
            Standing::Open => false,
            Standing::Theirs(agreed, _) | Standing::Own(agreed) => agreed == key,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer() -> impl Strategy<Value = Offer> {
        (0..2_u64, any::<[u64; 2]>(), any::<bool>(), 0..3_u32).prop_map(
            |(likeness, key, knows_somebody, age)| Offer {
                likeness,
                key: Key(key),
                knows_somebody,
                age,
            },
        )
    }

    const NEW: Offer = Offer {
        likeness: 1,
        key: Key([9, 9]),
        knows_somebody: false,
        age: 500,
    };

    fn accord(said: Offer, heard: Offer) -> Accord {
        let mut accord = Accord::default();
        accord.say(said);
        accord.hear(heard);
        accord
    }

    #[test]
    fn whoever_knows_somebody_is_followed_and_of_two_such_the_older_one() {
        let knows = Offer {
            key: Key([1, 1]),
            knows_somebody: true,
            age: 3,
            ..NEW
        };
        let stands = accord(NEW, knows).standing();
        assert_eq!(stands, Standing::Theirs(knows.key, 3));
        assert_eq!(accord(knows, NEW).standing(), Standing::Own(knows.key));
        let older = Offer {
            key: Key([0, 0]),
            age: 4,
            ..knows
        };
        let stands = accord(knows, older).standing();
        assert_eq!(stands, Standing::Theirs(older.key, 4));
    }

    #[test]
    fn nothing_is_told_before_both_have_said_what_they_go_by() {
        let mut accord = Accord::default();
        assert_eq!(accord.standing(), Standing::Open);
        accord.say(NEW);
        assert!(!accord.is_of(NEW.key));
        accord.hear(Offer { likeness: 2, ..NEW });
        assert!(!accord.is_of(NEW.key), "they tell other clients apart");
        accord.hear(NEW);
        assert!(accord.is_of(NEW.key));
    }

    proptest! {
        #[test]
        fn both_sides_decide_alike(a in offer(), b in offer()) {
            let key = |standing| match standing {
                Standing::Open => None,
                Standing::Theirs(key, _) | Standing::Own(key) => Some(key),
            };
            let (here, there) = (accord(a, b), accord(b, a));
            prop_assert_eq!(key(here.standing()), key(there.standing()));
            prop_assert_eq!(key(here.standing()).is_some(), a.likeness == b.likeness);
            let both_follow = matches!(
                (here.standing(), there.standing()),
                (Standing::Theirs(..), Standing::Theirs(..))
            );
            prop_assert!(!both_follow);
        }
    }
}
