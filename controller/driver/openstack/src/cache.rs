//! What is remembered of tokens: bounded, by the hash of each, for a time.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;
use sha2::{Digest as _, Sha256};

use crate::{limits::REFUSED_MAX, settings::CacheSettings};

/// A token by its hash, and whether it may have ended: the answers differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32], Ended);

/// Whether a token that has ended is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    /// It is not.
    Refused,
    /// It is: a service passes on what was good when its work began.
    Accepted,
}

impl Key {
    /// The key of a token.
    pub(crate) fn of(token: &str, ended: Ended) -> Self {
        Self(Sha256::digest(token.as_bytes()).into(), ended)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.1)
    }
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known<V> {
    /// It is good.
    Good(V),
    /// It was good, and has to be asked about again; it goes on only while nobody can say.
    Stale(V),
    /// It was refused a moment ago.
    Refused,
    /// Nothing.
    Nothing,
}

/// The memory.
pub(crate) struct Cache<V> {
    settings: CacheSettings,
    good: Mutex<LruCache<Key, Entry<V>>>,
    refused: Mutex<LruCache<Key, Instant>>,
}

struct Entry<V> {
    value: V,
    /// Until then it counts.
    fresh_until: Instant,
    /// Until then it counts while nobody can be asked.
    stale_until: Instant,
}

impl<V: Clone> Cache<V> {
    /// An empty memory.
    pub(crate) fn new(settings: CacheSettings) -> Self {
        let most = |most| NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Self {
            good: Mutex::new(LruCache::new(most(settings.tokens_max))),
            refused: Mutex::new(LruCache::new(most(REFUSED_MAX))),
            settings,
        }
    }

    /// What is known of a token.
    pub(crate) fn look(&self, key: &Key, now: Instant) -> Known<V> {
        {
            let mut good = lock(&self.good);
            match good.get(key) {
                Some(entry) if now < entry.fresh_until => return Known::Good(entry.value.clone()),
                Some(entry) if now < entry.stale_until => return Known::Stale(entry.value.clone()),
                Some(_) => drop(good.pop(key)),
                None => {}
            }
        }
        let mut refused = lock(&self.refused);
        match refused.get(key) {
            Some(until) if now < *until => Known::Refused,
            Some(_) => {
                refused.pop(key);
                Known::Nothing
            }
            None => Known::Nothing,
        }
    }

    /// Remembers a good token that ends after `left`.
    pub(crate) fn keep(&self, key: Key, value: V, left: Duration, now: Instant) {
        let fresh = self.settings.lifetime.min(left);
        let stale = fresh.saturating_add(self.settings.outage).min(left);
        let entry = Entry {
            value,
            fresh_until: now + fresh,
            stale_until: now + stale,
        };
        lock(&self.refused).pop(&key);
        lock(&self.good).put(key, entry);
    }

    /// Remembers that a token is refused.
    pub(crate) fn refuse(&self, key: Key, now: Instant) {
        lock(&self.good).pop(&key);
        lock(&self.refused).put(key, now + self.settings.refused);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache<u8> {
        Cache::new(CacheSettings {
            tokens_max: 2,
            lifetime: seconds(10),
            refused: seconds(5),
            outage: seconds(20),
        })
    }

    fn key(token: &str) -> Key {
        Key::of(token, Ended::Refused)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_good_token_is_fresh_then_stale_then_forgotten() {
        // How long the token lasts; when it is fresh no longer, when it is forgotten.
        for (left, stale, gone) in [(100, 10, 30), (20, 10, 20), (7, 7, 7)] {
            let (cache, now) = (cache(), Instant::now());
            let just_before = |end| now + seconds(end) - Duration::from_nanos(1);
            cache.keep(key("a"), 1, seconds(left), now);
            assert_eq!(cache.look(&key("a"), just_before(stale)), Known::Good(1));
            if gone > stale {
                let at = now + seconds(stale);
                assert_eq!(cache.look(&key("a"), at), Known::Stale(1));
                assert_eq!(cache.look(&key("a"), just_before(gone)), Known::Stale(1));
            }
            let at = now + seconds(gone);
            assert_eq!(cache.look(&key("a"), at), Known::Nothing);
        }
    }

    #[test]
    fn a_refused_token_is_refused_for_a_moment_and_no_longer_good() {
        let (cache, now) = (cache(), Instant::now());
        cache.keep(key("a"), 1, seconds(100), now);
        cache.refuse(key("a"), now);
        assert_eq!(cache.look(&key("a"), now), Known::Refused);
        assert_eq!(cache.look(&key("a"), now + seconds(5)), Known::Nothing);
        cache.refuse(key("a"), now);
        cache.keep(key("a"), 2, seconds(100), now);
        assert_eq!(cache.look(&key("a"), now), Known::Good(2));
    }

    #[test]
    fn the_least_recently_used_token_makes_room_and_refused_ones_take_none() {
        let (cache, now) = (cache(), Instant::now());
        cache.keep(key("a"), 1, seconds(100), now);
        cache.keep(key("b"), 2, seconds(100), now);
        for number in 0..REFUSED_MAX + 10 {
            cache.refuse(key(&number.to_string()), now);
        }
        assert_eq!(cache.look(&key("a"), now), Known::Good(1));
        cache.keep(key("c"), 3, seconds(100), now);
        assert_eq!(cache.look(&key("b"), now), Known::Nothing);
        assert_eq!(cache.look(&key("a"), now), Known::Good(1));
        assert_eq!(cache.look(&key("c"), now), Known::Good(3));
        assert_eq!(lock(&cache.refused).len(), REFUSED_MAX);
        assert_eq!(cache.look(&key("0"), now), Known::Nothing);
    }

    #[test]
    fn what_is_known_of_an_ended_token_is_not_of_a_valid_one() {
        let (cache, now) = (cache(), Instant::now());
        cache.keep(Key::of("a", Ended::Accepted), 1, seconds(100), now);
        assert_eq!(cache.look(&key("a"), now), Known::Nothing);
    }
}
