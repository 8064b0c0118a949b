//! Lines of `Cookie` and `Set-Cookie`: what is taken out of them is one cookie, and what names members names few.
//!
//! An input is a line that is the name of a cookie, and a line of cookies.

use krater_amphora_api::MemberId;
use krater_amphora_core::{
    cookie::{OWN, Trail, pairs, set_pair, without},
    limits::COOKIE_MEMBERS_MAX,
};
use uuid::Uuid;

pub(super) fn take(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (name, line) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let name = std::str::from_utf8(name).unwrap_or(OWN);
    // A name is one that can stand in a line: the API takes no others.
    let name = if name.is_empty() || name.bytes().any(|byte| !byte.is_ascii_alphanumeric()) {
        OWN
    } else {
        name
    };
    let named = |(key, _): &(&[u8], &[u8])| *key == name.as_bytes();
    match without(line, name) {
        None => assert!(!pairs(line).any(|pair| named(&pair))),
        Some(rest) => {
            assert!(pairs(line).any(|pair| named(&pair)));
            let kept: Vec<_> = pairs(line).filter(|pair| !named(pair)).collect();
            assert_eq!(pairs(&rest).collect::<Vec<_>>(), kept);
            assert!(rest.len() < line.len());
            assert_eq!(without(&rest, name), None);
        }
    }
    if let Some((key, value)) = set_pair(line) {
        assert!(!key.contains(&b';') && !value.contains(&b';'));
    }
    let mut trail = Trail::default();
    for (_, value) in pairs(line) {
        trail.read(value);
    }
    let next = trail.followed_by(MemberId::new(Uuid::nil()), |_| true);
    for trail in [&trail, &next] {
        assert!(trail.members().count() <= COOKIE_MEMBERS_MAX);
    }
    // What a browser is told is understood when it comes back.
    let told = next.set_cookie();
    let (key, value) = set_pair(told.as_bytes()).expect("a pair");
    assert_eq!(key, OWN.as_bytes());
    let mut again = Trail::default();
    again.read(value);
    assert_eq!(again, next);
}
