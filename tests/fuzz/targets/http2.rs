//! Whatever a client says by HTTP/2: what is passed on of it is so many requests, to every reader, in how many pieces ever
//! it came.
//!
//! An input begins with a byte that says in pieces of how many bytes the rest comes, and goes on with frames: the preface
//! and the settings that have to come first are put ahead of it.

use krater_amphora::fuzz::conversation;

use crate::witness::WITNESSES;

pub(super) fn take(bytes: &[u8]) {
    let Some((piece, frames)) = bytes.split_first() else {
        return;
    };
    let all = [PREFACE, SETTINGS, frames].concat();
    let said = conversation(&all, usize::from(*piece));
    assert_eq!(said, conversation(&all, all.len()));
    for request in said.requests {
        let mut first = None;
        for witness in WITNESSES {
            let seen = witness.read(&request);
            let told = || format!("{}: {seen:?} in {}", witness.name, request.escape_ascii());
            let Ok([one]) = seen.as_deref() else {
                panic!("{}", told());
            };
            assert!(one.host.is_some(), "{}", told());
            let same = first.get_or_insert_with(|| one.clone());
            assert_eq!(same, one, "{}", told());
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
