use std::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn id(number: u128) -> MemberId {
    MemberId::new(Uuid::from_u128(number))
}

fn trail(value: &str) -> Trail {
    let mut trail = Trail::default();
    trail.read(value.as_bytes());
    trail
}

fn rest(line: &str) -> Option<String> {
    without(line.as_bytes(), "SRV").map(|rest| String::from_utf8(rest).unwrap())
}

#[test]
fn the_others_stay_as_they_are() {
    for (line, left) in [
        ("a=1", None),
        ("", None),
        ("SRVX=1; XSRV=2; srv=3", None),
        ("SRV", None),
        ("a=SRV=1", None),
        ("SRV=1", Some("")),
        (" SRV = 1 ; ", Some("")),
        ("SRV=1; SRV=2", Some("")),
        ("SRV=1; a=2", Some("a=2")),
        ("a=2; SRV=1", Some("a=2")),
        ("a=2; SRV=1; b=\"3, 4\"", Some("a=2; b=\"3, 4\"")),
        ("a=2;SRV=1;b=3", Some("a=2;b=3")),
        ("a=\"x; SRV=1; b=3", Some("a=\"x; b=3")),
        ("a; SRV=; =; ;b==", Some("a; =; ;b==")),
    ] {
        assert_eq!(rest(line).as_deref(), left, "{line:?}");
    }
}

#[test]
fn a_line_of_set_cookie_begins_with_its_pair() {
    for (line, pair) in [
        ("id=a; Path=/; x=y", Some(("id", "a"))),
        (" id = \"a b\" ;HttpOnly", Some(("id", "\"a b\""))),
        ("id=", Some(("id", ""))),
        ("id; a=b", None),
        ("", None),
    ] {
        let pair = pair.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(set_pair(line.as_bytes()), pair, "{line:?}");
    }
}

#[test]
fn a_value_names_members_and_everything_else_in_it_is_passed_over() {
    let (one, two) = (id(1).to_string(), id(2).to_string());
    for (value, members) in [
        (one.clone(), vec![id(1)]),
        (std::format!("{one}.{two}"), vec![id(1), id(2)]),
        (
            std::format!("..{one}.x.{one}.\u{e9}.{two}"),
            vec![id(1), id(2)],
        ),
        ("".into(), vec![]),
        ("member-1".into(), vec![]),
    ] {
        assert_eq!(
            trail(&value).members().collect::<Vec<_>>(),
            members,
            "{value}"
        );
    }
    let many: Vec<_> = (0..100).map(|number| id(number).to_string()).collect();
    assert_eq!(trail(&many.join(".")).members().count(), COOKIE_MEMBERS_MAX);
}

#[test]
fn a_member_takes_the_place_of_the_one_of_the_same_pool() {
    let before = trail(&std::format!("{}.{}.{}", id(1), id(2), id(3)));
    let after = before.followed_by(id(9), |other| other == id(2));
    assert_eq!(after.members().collect::<Vec<_>>(), [id(9), id(2)]);
    assert_eq!(
        after.set_cookie(),
        std::format!("SRV={}.{}; Path=/; HttpOnly", id(9), id(2))
    );
}

proptest! {
    #[test]
    fn what_was_set_is_read_again(numbers in prop::collection::btree_set(any::<u128>(), 1..COOKIE_MEMBERS_MAX)) {
        let ids: Vec<_> = numbers.into_iter().map(id).collect();
        let printed = Trail(ids.clone()).set_cookie();
        let (name, value) = set_pair(printed.as_bytes()).unwrap();
        prop_assert_eq!(name, OWN.as_bytes());
        let mut read = Trail::default();
        read.read(value);
        prop_assert_eq!(read.0, ids);
    }

    #[test]
    fn taking_out_leaves_none_of_that_name_and_all_others_in_order(line in "[ SRVa=;\"]{0,24}") {
        let others = |line: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
            pairs(line)
                .filter(|(name, _)| *name != b"SRV")
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect()
        };
        let left = without(line.as_bytes(), "SRV").unwrap_or_else(|| line.clone().into_bytes());
        prop_assert!(pairs(&left).all(|(name, _)| name != b"SRV"));
        prop_assert_eq!(others(&left), others(line.as_bytes()));
    }

    #[test]
    fn nothing_in_a_cookie_is_too_strange(line in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = without(&line, "SRV");
        let _ = set_pair(&line);
        let mut read = Trail::default();
        for (_, value) in pairs(&line) {
            read.read(value);
        }
    }
}
