//! Messages of HTTP/1 on their way through: what is sent on is one message, to every reader, and nothing of it came from
//! elsewhere than the message.
//!
//! An input begins with a byte that says in pieces of how many bytes it comes; of an answer the first bit says whether it
//! answers `HEAD`.

use http::Method;
use krater_amphora::fuzz::{Passed, answer, request};

use crate::witness::WITNESSES;

pub(super) fn take_request(bytes: &[u8]) {
    let Some((piece, received)) = bytes.split_first() else {
        return;
    };
    let passed = request(received, usize::from(*piece));
    let whole = request(received, received.len());
    assert_eq!(whole.as_ref().map(facts), passed.as_ref().map(facts));
    let Some(passed) = passed else {
        return;
    };
    assert!(passed.received <= received.len());
    // What follows is another message.
    let alone = request(&received[..passed.received], received.len());
    assert_eq!(alone, whole);
    // Nothing less is a request.
    assert_eq!(
        request(&received[..passed.received - 1], received.len()),
        None
    );
    let mut method = None;
    for witness in WITNESSES {
        let seen = witness.read(&passed.sent);
        let told = || {
            format!(
                "{}: {seen:?} in {}",
                witness.name,
                passed.sent.escape_ascii()
            )
        };
        let Ok([one]) = seen.as_deref() else {
            panic!("{}", told());
        };
        assert_eq!(one.body, passed.body, "{}", told());
        assert!(received.starts_with(one.method.as_bytes()), "{}", told());
        assert!(one.host.is_some(), "{}", told());
        let same = method.get_or_insert_with(|| one.clone());
        assert_eq!(same, one, "{}", told());
    }
    // It is one that would be taken once more, and be the same.
    if has_many_fields(&passed.sent) {
        return;
    }
    let again = request(&passed.sent, passed.sent.len()).expect("what is sent on can be read");
    assert_eq!(
        (again.received, &again.body),
        (passed.sent.len(), &passed.body)
    );
}

pub(super) fn take_answer(bytes: &[u8]) {
    let Some((piece, received)) = bytes.split_first() else {
        return;
    };
    let method = if piece & 1 == 0 {
        Method::GET
    } else {
        Method::HEAD
    };
    let piece = usize::from(*piece >> 1);
    let passed = answer(received, &method, piece);
    let whole = answer(received, &method, received.len());
    assert_eq!(whole.as_ref().map(facts), passed.as_ref().map(facts));
    let Some(passed) = passed else {
        return;
    };
    assert!(passed.received <= received.len());
    if has_many_fields(&passed.sent) {
        return;
    }
    let again = answer(&passed.sent, &method, passed.sent.len());
    let told = || format!("{again:?} of {}", passed.sent.escape_ascii());
    let Some(again) = &again else {
        panic!("{}", told());
    };
    assert_eq!(again.received, passed.sent.len(), "{}", told());
    assert_eq!(again.body, passed.body, "{}", told());
}

/// Whether there may be more fields than are served, with what was added to as many as are.
fn has_many_fields(sent: &[u8]) -> bool {
    sent.split(|byte| *byte == b'\n').count() > 100
}

/// What is the same in how many pieces ever a message comes.
fn facts(passed: &Passed) -> (&[u8], usize, bool) {
    (&passed.body, passed.received, passed.keeps)
}
