//! The `Date` of answers, written once a second.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

/// What one worker says is the date.
pub(crate) struct Date {
    /// Kept ready as a value, which costs no copy to hand out.
    text: RefCell<HeaderValue>,
    /// Until when that is right.
    until: Cell<Option<Instant>>,
}

impl Date {
    /// Not written yet.
    pub(crate) const fn new() -> Self {
        Self {
            text: RefCell::new(HeaderValue::from_static("")),
            until: Cell::new(None),
        }
    }

    /// Has `use_it` see the date as of `now`, as RFC 9110 section 5.6.7 writes it.
    pub(crate) fn with<T>(&self, now: Instant, use_it: impl FnOnce(&[u8]) -> T) -> T {
        self.renew(now);
        use_it(self.text.borrow().as_bytes())
    }

    /// The date as of `now` as the value of a field.
    pub(crate) fn value(&self, now: Instant) -> HeaderValue {
        self.renew(now);
        self.text.borrow().clone()
    }

    fn renew(&self, now: Instant) {
        if self.until.get().is_some_and(|until| until > now) {
            return;
        }
        let wall = SystemTime::now();
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rest = SECOND.saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
        self.until.set(now.checked_add(rest));
        // A date is a valid value whatever the clock says.
        if let Ok(text) = HeaderValue::try_from(httpdate::fmt_http_date(wall)) {
            *self.text.borrow_mut() = text;
        }
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
        *date.text.borrow_mut() = HeaderValue::from_static("");
        assert_eq!(date.with(now, <[u8]>::to_vec), b"", "as it was written");
        assert_eq!(date.value(now), "");
        assert_eq!(date.with(until, <[u8]>::len), first.len());
        assert_eq!(date.value(until).len(), first.len());
    }
}
