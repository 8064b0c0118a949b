//! The `Date` of answers, written once a second.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What one worker says is the date.
pub(crate) struct Date {
    text: RefCell<String>,
    /// Until when that is right.
    until: Cell<Option<Instant>>,
}

impl Date {
    /// Not written yet.
    pub(crate) const fn new() -> Self {
        Self {
            text: RefCell::new(String::new()),
            until: Cell::new(None),
        }
    }

    /// Has `use_it` see the date as of `now`, as RFC 9110 section 5.6.7 writes it.
    pub(crate) fn with<T>(&self, now: Instant, use_it: impl FnOnce(&[u8]) -> T) -> T {
        self.renew(now);
        use_it(self.text.borrow().as_bytes())
    }

    fn renew(&self, now: Instant) {
        if self.until.get().is_some_and(|until| until > now) {
            return;
        }
        let wall = SystemTime::now();
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rest = SECOND.saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
        self.until.set(now.checked_add(rest));
        *self.text.borrow_mut() = httpdate::fmt_http_date(wall);
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_anew_when_its_second_is_over() {
        let date = Date::new();
        let now = Instant::now();
        let first = date.with(now, <[u8]>::to_vec);
        assert_eq!(first.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
        let until = date.until.get().unwrap();
        assert!(until > now && until <= now + SECOND);
        date.text.borrow_mut().clear();
        assert_eq!(date.with(now, <[u8]>::to_vec), b"", "as it was written");
        assert_eq!(date.with(until, <[u8]>::len), first.len());
    }
}
