//! Reference 10.3, row by row.

use super::*;

type Asked = Redirect<u8>;

fn url(text: &str) -> RedirectUrl {
    RedirectUrl::parse(text.into()).unwrap()
}

/// `action` with a URL, a prefix and a pool, or without.
fn asked(action: Option<L7ActionType>, with: [bool; 3], code: Option<RedirectCode>) -> Asked {
    Asked {
        action,
        url: with[0].then(|| Some(url("http://u"))),
        prefix: with[1].then(|| Some(url("http://p"))),
        pool: with[2].then_some(Some(7)),
        http_code: code.map(Some),
    }
}

fn to_url(code: RedirectCode) -> L7Action<u8> {
    L7Action::RedirectToUrl {
        url: url("http://u"),
        code,
    }
}

fn to_prefix(code: RedirectCode) -> L7Action<u8> {
    L7Action::RedirectPrefix {
        prefix: url("http://p"),
        code,
    }
}

const TO_POOL: L7Action<u8> = L7Action::RedirectToPool(7);
const BOTH: &str =
    "Cannot specify redirect_pool_id and redirect_url or redirect_prefix at the same time";
const NO: bool = false;
const YES: bool = true;

#[test]
fn an_action_and_its_targets_make_one_action() {
    use L7ActionType::{RedirectPrefix, RedirectToPool, RedirectToUrl, Reject};
    use RedirectCode::{Found, Permanent};
    let no_url = "redirect_url must not be None";
    let no_prefix = "redirect_prefix must not be None";
    let no_pool = "redirect_pool_id must not be None";
    // The columns are URL, prefix and pool.
    let cases = [
        (Reject, [NO, NO, NO], Ok(L7Action::Reject)),
        (Reject, [YES, NO, YES], Ok(L7Action::Reject)),
        (Reject, [NO, YES, NO], Ok(to_prefix(Found))),
        (Reject, [YES, YES, YES], Ok(to_prefix(Found))),
        (RedirectToUrl, [NO, NO, NO], Err(no_url)),
        (RedirectToUrl, [NO, YES, YES], Err(no_url)),
        (RedirectToUrl, [YES, NO, NO], Ok(to_url(Found))),
        (RedirectToUrl, [YES, NO, YES], Ok(to_url(Found))),
        (RedirectToUrl, [YES, YES, NO], Ok(to_url(Found))),
        (RedirectToPool, [NO, NO, NO], Err(no_pool)),
        (RedirectToPool, [YES, NO, NO], Err(no_pool)),
        (RedirectToPool, [NO, NO, YES], Ok(TO_POOL)),
        (RedirectToPool, [YES, NO, YES], Ok(TO_POOL)),
        (RedirectToPool, [NO, YES, YES], Err(BOTH)),
        (RedirectPrefix, [NO, NO, NO], Err(no_prefix)),
        (RedirectPrefix, [YES, NO, NO], Err(no_prefix)),
        (RedirectPrefix, [NO, YES, NO], Ok(to_prefix(Found))),
        (RedirectPrefix, [YES, YES, NO], Ok(to_url(Found))),
        (RedirectPrefix, [NO, YES, YES], Err(BOTH)),
    ];
    for (action, with, expected) in cases {
        let expected = expected.map_err(|detail| Refusal::InvalidL7Policy(detail.into()));
        let plain = asked(Some(action), with, None);
        assert_eq!(plain.clone().settle(), expected, "{action:?} {with:?}");
        // A change that names its action is as a creation, whatever was before.
        for present in [
            L7Action::Reject,
            TO_POOL,
            to_url(Permanent),
            to_prefix(Permanent),
        ] {
            assert_eq!(
                plain.clone().change(present),
                expected,
                "{action:?} {with:?}"
            );
        }
        if let Ok(expected) = expected {
            let coded = asked(Some(action), with, Some(Permanent)).settle().unwrap();
            assert_eq!(coded.action_type(), expected.action_type());
            assert_eq!(coded.code(), expected.code().map(|_| Permanent));
        }
    }
    assert_eq!(
        Asked::default().settle(),
        Err(Refusal::UnknownL7Action("None".into()))
    );
}

#[test]
fn without_an_action_the_target_decides() {
    use RedirectCode::{Found, Permanent, SeeOther};
    for present in [
        L7Action::Reject,
        TO_POOL,
        to_url(Permanent),
        to_prefix(Permanent),
    ] {
        let become_of = |with, code| asked(None, with, code).change(present.clone());
        assert_eq!(become_of([NO, NO, YES], None), Ok(TO_POOL));
        assert_eq!(become_of([NO, NO, YES], Some(SeeOther)), Ok(TO_POOL));
        // A change of the URL alone resets the code (reference 10.3, step 3).
        assert_eq!(become_of([YES, NO, NO], None), Ok(to_url(Found)));
        assert_eq!(
            become_of([YES, YES, NO], Some(SeeOther)),
            Ok(to_url(SeeOther))
        );
        assert_eq!(become_of([NO, YES, NO], None), Ok(to_prefix(Found)));
        let both = Err(Refusal::InvalidL7Policy(BOTH.into()));
        assert_eq!(become_of([YES, NO, YES], None), both);
        assert_eq!(become_of([NO, YES, YES], None), both);
        assert_eq!(become_of([NO, NO, NO], None), Ok(present.clone()));
    }
}

#[test]
fn a_code_alone_changes_those_that_have_one() {
    use RedirectCode::{Found, Permanent, Temporary};
    let change = |code, present| {
        Asked {
            http_code: Some(code),
            ..Asked::default()
        }
        .change(present)
        .unwrap()
    };
    assert_eq!(
        change(Some(Temporary), to_url(Permanent)),
        to_url(Temporary)
    );
    assert_eq!(change(None, to_url(Permanent)), to_url(Found));
    assert_eq!(
        change(Some(Temporary), to_prefix(Found)),
        to_prefix(Temporary)
    );
    assert_eq!(change(Some(Temporary), TO_POOL), TO_POOL);
    assert_eq!(change(Some(Temporary), L7Action::Reject), L7Action::Reject);
}

#[test]
fn a_target_is_cleared_only_for_another() {
    let clear = |field: &str| Asked {
        url: (field == "url").then_some(None),
        prefix: (field == "prefix").then_some(None),
        pool: (field == "pool").then_some(None),
        ..Asked::default()
    };
    let all = [
        ("url", to_url(RedirectCode::Found)),
        ("prefix", to_prefix(RedirectCode::Found)),
        ("pool", TO_POOL),
        ("", L7Action::Reject),
    ];
    for (field, _) in &all {
        for (own, present) in &all {
            let changed = clear(field).change(present.clone());
            if field == own && !own.is_empty() {
                assert!(
                    matches!(changed, Err(Refusal::InvalidL7Policy(_))),
                    "{field}"
                );
            } else {
                assert_eq!(changed.as_ref(), Ok(present), "{field}");
            }
        }
    }
    let other = Asked {
        url: Some(None),
        pool: Some(Some(7)),
        ..Asked::default()
    };
    assert_eq!(other.change(to_url(RedirectCode::Found)), Ok(TO_POOL));
}
