//! Clients that are kept with their members by cookies.

use std::net::SocketAddr;

use krater_amphora_api::{
    Algorithm, Comparison, MemberHealth, MemberId, PersistenceSpec, PoolProtocol, RuleSubject,
    SnapshotSpec,
};

use super::{
    policies::{other_pool, policy, rule},
    talk::{Expect, Message, Talk, http_member},
};
use crate::testbed::{Bed, member_spec, nobody};

/// A member that says its name and, in lines of their own, the cookies it was shown; a path of `/set/X` has it set the
/// cookie `sid` to `X`.
fn named(name: &'static str) -> SocketAddr {
    http_member(move |request| {
        let body: Vec<_> = std::iter::once(name).chain(request.all("cookie")).collect();
        let body = body.join("\n");
        let set = request.start.split(' ').nth(1).unwrap();
        let set = set.strip_prefix("/set/").map_or_else(String::new, |value| {
            format!("Set-Cookie: other=1\r\nSet-Cookie: sid={value}; Path=/\r\n")
        });
        format!(
            "HTTP/1.1 200 OK\r\n{set}Set-Cookie: SRV=mine\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    })
}

/// Members `a`, `b` and `c`.
fn bed(persistence: PersistenceSpec) -> Bed {
    let members = ["a", "b", "c"].map(named);
    Bed::http(&members).with(|spec| spec.pools[0].persistence = Some(persistence))
}

fn by_session() -> Bed {
    bed(PersistenceSpec::AppCookie { name: "sid".into() })
}

/// A browser as far as cookies go: what it was told under the name of `SRV`.
struct Browser {
    talk: Talk,
    own: Option<String>,
}

impl Browser {
    fn of(bed: &Bed) -> Self {
        Self {
            talk: Talk::to(bed.vip),
            own: None,
        }
    }

    /// The member that answers, and whether it came with a new cookie.
    fn ask(&mut self, path: &str) -> (String, bool) {
        let own = self.own.as_ref().map(|value| format!("SRV={value}"));
        let answer = self.send(path, own.as_deref());
        let set = own_cookie(&answer);
        let told = set.is_some();
        if let Some(value) = set {
            self.own = Some(value);
        }
        let name = answer.text().lines().next().unwrap().to_owned();
        (name, told)
    }

    fn send(&mut self, path: &str, cookie: Option<&str>) -> Message {
        let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
        self.talk
            .send(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n{cookie}\r\n"));
        self.talk.read(Expect::Answer)
    }
}

/// The value that an answer sets, if it does: at most one, as a cookie of the session.
fn own_cookie(answer: &Message) -> Option<String> {
    let set: Vec<_> = answer
        .all("set-cookie")
        .into_iter()
        .filter_map(|line| line.strip_prefix("SRV="))
        .collect();
    assert!(set.len() <= 1, "{set:?}");
    let private = answer.all("cache-control").contains(&"private");
    assert_eq!(private, set.len() == 1, "{answer:?}");
    set.first().map(|line| {
        let value = line.strip_suffix("; Path=/; HttpOnly").unwrap();
        value.to_owned()
    })
}

fn id(spec: &SnapshotSpec, name: &str) -> MemberId {
    spec.pools[0].members[position(name)].id
}

fn position(name: &str) -> usize {
    ["a", "b", "c"].iter().position(|one| *one == name).unwrap()
}

#[test]
fn a_cookie_of_ours_names_the_member_and_keeps_its_client_there() {
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::SourceIp,
        Algorithm::SourceIpPort,
    ] {
        let mut bed = bed(PersistenceSpec::HttpCookie);
        bed.edit(|spec| spec.pools[0].algorithm = algorithm);
        let mut browser = Browser::of(&bed);
        let (name, told) = browser.ask("/");
        assert!(told);
        assert_eq!(browser.own, Some(id(&bed.spec, &name).to_string()));
        for _ in 0..6 {
            assert_eq!(browser.ask("/"), (name.clone(), false));
        }
        // Over another connection too, and whatever else the pool becomes.
        browser.talk = Talk::to(bed.vip);
        bed.edit(|spec| {
            spec.pools[0].members.insert(0, member_spec(named("d")));
            spec.listeners[0].timeouts.client_data_ms = 1_234;
        });
        assert_eq!(browser.ask("/"), (name, false));
    }
}

#[test]
fn others_are_chosen_for_as_ever() {
    let bed = bed(PersistenceSpec::HttpCookie);
    let mut names: Vec<_> = (0..3).map(|_| Browser::of(&bed).ask("/").0).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_member_never_sees_our_cookie_and_sees_all_others_as_they_were() {
    let bed = bed(PersistenceSpec::HttpCookie);
    let known = id(&bed.spec, "b");
    for (sent, seen) in [
        (format!("SRV={known}"), "b"),
        (
            format!("a=1; SRV={known}; b=\"x, y\";c"),
            "b\na=1; b=\"x, y\";c",
        ),
        (format!("SRV=nonsense; SRV={known}"), "b"),
        (format!("srv=1; SRV={known}"), "b\nsrv=1"),
        (
            format!("x\r\nCookie: SRV={known}\r\nCookie: y=2"),
            "b\nx\ny=2",
        ),
    ] {
        let answer = Browser::of(&bed).send("/", Some(&sent));
        assert_eq!(answer.text(), seen, "{sent:?}");
        assert_eq!(own_cookie(&answer), None);
    }
    for sent in [
        "SRV=nonsense",
        "SRV=",
        "SRV=00000000-0000-4000-8000-000000000000",
    ] {
        let answer = Browser::of(&bed).send("/", Some(sent));
        assert_eq!(answer.text().lines().count(), 1, "{sent:?}");
        assert!(own_cookie(&answer).is_some(), "{sent:?}");
    }
}

#[test]
fn an_answer_of_ours_sets_no_cookie() {
    let mut bed = bed(PersistenceSpec::HttpCookie);
    bed.edit(|spec| {
        for member in &mut spec.pools[0].members {
            member.enabled = false;
        }
    });
    let answer = Browser::of(&bed).send("/", None);
    assert_eq!((answer.status(), own_cookie(&answer)), (503, None));
}

#[test]
fn who_drains_keeps_its_clients_and_who_is_disabled_or_down_does_not() {
    for persistence in [
        PersistenceSpec::HttpCookie,
        PersistenceSpec::AppCookie { name: "sid".into() },
    ] {
        let mut bed = bed(persistence.clone());
        let mut browser = Browser::of(&bed);
        let own = persistence == PersistenceSpec::HttpCookie;
        let mut ask = |path: &str| {
            if own {
                return browser.ask(path).0;
            }
            let answer = browser.send(path, Some("sid=1"));
            answer.text().lines().next().unwrap().to_owned()
        };
        let name = ask("/set/1");
        let at = position(&name);
        bed.edit(|spec| spec.pools[0].members[at].weight = 0);
        for _ in 0..4 {
            assert_eq!(ask("/"), name, "draining");
        }
        let new = Browser::of(&bed).send("/", None);
        assert_ne!(new.text(), name, "a new client");
        bed.edit(|spec| {
            spec.pools[0].members[at].weight = 1;
            spec.pools[0].members[at].enabled = false;
        });
        let other = ask("/");
        assert_ne!(other, name, "disabled");
        assert_eq!(ask("/"), other, "kept by who took over");
        bed.edit(|spec| spec.pools[0].members[at].enabled = true);
        assert_eq!(ask("/"), other, "and stays there");
        let (pool, member) = (bed.spec.pools[0].id, id(&bed.spec, &other));
        bed.plane
            .set_member_health(pool, member, MemberHealth::Down, None);
        let third = ask("/");
        assert_ne!(third, other, "down");
        assert_eq!(ask("/"), third);
    }
}

#[test]
fn who_cannot_be_reached_is_left_for_another() {
    let mut bed = bed(PersistenceSpec::HttpCookie);
    let mut browser = Browser::of(&bed);
    let at = position(&browser.ask("/").0);
    let gone = nobody();
    bed.edit(|spec| {
        spec.pools[0].members[at].address = gone.ip();
        spec.pools[0].members[at].port = gone.port();
    });
    let (name, told) = browser.ask("/");
    assert!(told && position(&name) != at);
    assert_eq!(browser.ask("/"), (name, false));
}

#[test]
fn who_came_to_a_backup_stays_there() {
    let mut bed = bed(PersistenceSpec::HttpCookie);
    bed.edit(|spec| {
        spec.pools[0].members[0].backup = true;
        spec.pools[0].members[1].enabled = false;
        spec.pools[0].members[2].enabled = false;
    });
    let mut browser = Browser::of(&bed);
    assert_eq!(browser.ask("/"), ("a".into(), true));
    bed.edit(|spec| {
        spec.pools[0].members[1].enabled = true;
        spec.pools[0].members[2].enabled = true;
    });
    assert_eq!(browser.ask("/"), ("a".into(), false));
    assert_ne!(Browser::of(&bed).ask("/").0, "a");
}

#[test]
fn each_pool_that_policies_send_to_keeps_its_own() {
    let mut bed = bed(PersistenceSpec::HttpCookie);
    let action = other_pool(&mut bed, &["x", "y", "z"].map(named));
    bed.edit(|spec| {
        spec.pools[1].persistence = Some(PersistenceSpec::HttpCookie);
        spec.listeners[0].policies = vec![policy(
            action,
            vec![rule(RuleSubject::Path, Comparison::StartsWith, "/other")],
        )];
    });
    let mut browser = Browser::of(&bed);
    let (here, told) = browser.ask("/");
    let (there, told_again) = browser.ask("/other");
    assert!(told && told_again);
    for _ in 0..4 {
        assert_eq!(browser.ask("/"), (here.clone(), false));
        assert_eq!(browser.ask("/other"), (there.clone(), false));
    }
    // Whose pool is gone is forgotten when there is something new to say.
    bed.edit(|spec| {
        spec.listeners[0].policies.clear();
        spec.pools[0].members.remove(position(&here));
    });
    let (_, told) = browser.ask("/");
    assert!(told && !browser.own.unwrap().contains('.'));
}

#[test]
fn an_upgrade_is_kept_like_any_request() {
    let switching = |name: &'static str| {
        http_member(move |_| {
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {name}\r\n\r\n"
            )
        })
    };
    let bed = Bed::http(&["a", "b"].map(switching))
        .with(|spec| spec.pools[0].persistence = Some(PersistenceSpec::HttpCookie));
    let upgrade = |cookie: &str| {
        let mut talk = Talk::to(bed.vip);
        talk.send(&format!(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a, b\r\n{cookie}\r\n"
        ));
        talk.read(Expect::Answer)
    };
    let first = upgrade("");
    let own = own_cookie(&first).unwrap();
    for _ in 0..3 {
        let again = upgrade(&format!("Cookie: SRV={own}\r\n"));
        assert_eq!(again.header("upgrade"), first.header("upgrade"));
        assert_eq!(own_cookie(&again), None);
    }
}

#[test]
fn a_session_stays_with_the_member_that_began_it() {
    let mut bed = by_session();
    let mut browser = Browser::of(&bed);
    let began = browser.send("/set/abc", None);
    let name = began.text().to_owned();
    let set = began.all("set-cookie");
    assert_eq!(set, ["other=1", "sid=abc; Path=/", "SRV=mine"], "as it was");
    for _ in 0..6 {
        let answer = Browser::of(&bed).send("/", Some("x=1; sid=abc"));
        assert_eq!(answer.text(), format!("{name}\nx=1; sid=abc"));
    }
    bed.edit(|spec| {
        spec.pools[0].algorithm = Algorithm::LeastConnections;
        spec.pools[0].members.insert(0, member_spec(named("d")));
    });
    let answer = browser.send("/", Some("sid=abc"));
    assert!(answer.text().starts_with(&name), "after a change");
    // A value that no member has set says nothing, and neither does another cookie.
    for strange in ["sid=abcd", "SID=abc", "sid=", "other=1"] {
        let mut names: Vec<_> = (0..8)
            .map(|_| browser.send("/", Some(strange)).text()[..1].to_owned())
            .collect();
        names.sort();
        names.dedup();
        assert!(names.len() > 1, "{strange}: {names:?}");
    }
}

#[test]
fn sessions_differ_by_more_than_how_they_begin() {
    let bed = by_session();
    let long = "x".repeat(200);
    let names = ["1", "2", "3"].map(|end| {
        let answer = Browser::of(&bed).send(&format!("/set/{long}{end}"), None);
        answer.text().to_owned()
    });
    for (end, name) in ["1", "2", "3"].iter().zip(&names) {
        let answer = Browser::of(&bed).send("/", Some(&format!("sid={long}{end}")));
        assert!(answer.text().starts_with(name));
    }
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_session_that_a_member_takes_over_is_its_own_from_then_on() {
    let mut bed = by_session();
    let mut browser = Browser::of(&bed);
    let first = browser.send("/set/s", None).text().to_owned();
    // Another one gives the same value out.
    let mut second = browser.send("/set/s", None).text().to_owned();
    while second == first {
        second = browser.send("/set/s", None).text().to_owned();
    }
    assert!(browser.send("/", Some("sid=s")).text().starts_with(&second));
    // The memory is of this cookie, not of the next one.
    bed.edit(|spec| {
        spec.pools[0].persistence = Some(PersistenceSpec::AppCookie { name: "new".into() });
    });
    let mut names: Vec<_> = (0..8)
        .map(|_| browser.send("/", Some("sid=s")).text()[..1].to_owned())
        .collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 1, "{names:?}");
}

#[test]
fn members_behind_a_proxy_header_are_kept_too() {
    let member = || {
        crate::testbed::member(|mut stream| {
            crate::testbed::read_header(&mut stream);
            let mut talk = Talk::over(stream);
            while let Some(request) = talk.try_read(Expect::Request) {
                let body = request.all("cookie").join("\n");
                talk.send(&super::talk::ok(&body));
            }
        })
    };
    let bed = Bed::new(
        krater_amphora_api::ListenerProtocol::Http,
        PoolProtocol::ProxyV2,
        &[member(), member()],
    )
    .with(|spec| spec.pools[0].persistence = Some(PersistenceSpec::HttpCookie));
    let mut browser = Browser::of(&bed);
    let own = own_cookie(&browser.send("/", None)).unwrap();
    for _ in 0..4 {
        let answer = Browser::of(&bed).send("/", Some(&format!("SRV={own}; a=1")));
        assert_eq!((answer.text(), own_cookie(&answer)), ("a=1", None));
    }
}
