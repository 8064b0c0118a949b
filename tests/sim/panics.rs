//! Tasks that panic: whoever began them does not ask, so that nobody would notice.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    static SAID: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on what panics in this thread is noted.
pub(crate) fn heed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let is_noted = SAID
                .with_borrow_mut(|said| said.as_mut().map(|said| said.push(panicked.to_string())));
            if is_noted.is_none() {
                before(panicked);
            }
        }));
    });
    SAID.set(Some(Vec::new()));
}

/// What has panicked in this thread. No more is noted.
pub(crate) fn take() -> Vec<String> {
    SAID.take().unwrap_or_default()
}
