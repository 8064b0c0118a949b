//! What memories tell each other.

use super::*;

/// Two that hash by the same key.
fn pair() -> (Affinity, Affinity) {
    let new = || affinity(None, None);
    (new(), new())
}

/// Tells `to` all that `from` has not told yet, as it stands at that second. How many clients that were.
fn tell(from: &Affinity, to: &Affinity, now: u32) -> usize {
    let mut count = 0;
    from.memory().tell(now, |entry| {
        to.memory().take(entry, now, |_| false);
        count += 1;
    });
    count
}

#[test]
fn who_is_told_goes_on_where_the_other_one_was() {
    let (here, there) = pair();
    for number in 0..1_000 {
        goes(&here, client(number), 5, u16::try_from(number % 7).unwrap());
    }
    assert!(here.memory().has_untold() && !there.memory().has_untold());
    assert_eq!(tell(&here, &there, 7), 1_000);
    for number in 0..1_000 {
        let home = u16::try_from(number % 7).unwrap();
        assert_eq!(goes(&there, client(number), 8, 99), home);
    }
    assert!(!here.memory().has_untold());
    assert_eq!(tell(&here, &there, 8), 0, "nothing is told twice");
}

#[test]
fn a_visit_is_told_once_and_what_was_told_is_not_told_back() {
    let (here, there) = pair();
    goes(&here, client(1), 5, 1);
    assert_eq!(tell(&here, &there, 5), 1);
    assert_eq!(tell(&there, &here, 5), 0);
    goes(&here, client(1), 5, 1);
    assert_eq!(tell(&here, &there, 5), 0, "it came in that second before");
    goes(&here, client(1), 6, 1);
    assert_eq!(tell(&here, &there, 6), 1);
    goes(&there, client(1), 9, 1);
    assert_eq!(tell(&there, &here, 9), 1, "whoever serves it tells of it");
}

#[test]
fn all_that_is_remembered_is_told_to_who_comes_later() {
    let (here, there) = pair();
    for number in 0..5_000 {
        goes(&here, client(number), 5, 3);
    }
    here.memory().tell(5, |_| {});
    for part in 0..Memory::PARTS {
        for entry in here.memory().part(part, 6) {
            assert_eq!(entry.age, 1);
            assert!(there.memory().take(entry, 6, |_| false));
        }
    }
    let all = |memory: &Affinity| -> Vec<Entry> {
        let parts = 0..Memory::PARTS;
        let mut all: Vec<_> = parts
            .flat_map(|part| memory.memory().part(part, 6))
            .collect();
        all.sort();
        all
    };
    assert_eq!(all(&here), all(&there));
    assert!(all(&here).len() > 4_990);
}

#[test]
fn the_later_visit_counts_and_of_two_at_once_the_one_that_prevails() {
    let (here, there) = pair();
    goes(&here, client(1), 10, 1);
    goes(&there, client(1), 12, 2);
    let entry = |memory: &Affinity, now| {
        let mut parts = (0..Memory::PARTS).flat_map(|part| memory.memory().part(part, now));
        parts.next().unwrap()
    };
    let (old, new) = (entry(&here, 12), entry(&there, 12));
    assert!(!there.memory().take(old, 12, |_| true), "it is older");
    assert!(here.memory().take(new, 12, |_| false), "it is newer");
    assert_eq!(goes(&here, client(1), 12, 9), 2);
    let same = Entry {
        handle: Handle(1),
        ..new
    };
    assert!(!there.memory().take(same, 12, |_| false));
    assert_eq!(goes(&there, client(1), 12, 9), 2);
    assert!(there.memory().take(same, 12, |noted| noted == Handle(2)));
    assert_eq!(goes(&there, client(1), 12, 9), 1);
}

#[test]
fn what_is_told_pushes_nobody_out_who_came_later() {
    let memory = affinity(None, None);
    for number in 0..60_000 {
        goes(&memory, client(number), 100, 1);
    }
    let known = || {
        (0..Memory::PARTS)
            .flat_map(|part| memory.memory().part(part, 100))
            .count()
    };
    let full = known();
    let told = |tag, age| Entry {
        place: Place { set: 7, tag },
        handle: Handle(2),
        age,
    };
    for tag in 0..100 {
        assert!(!memory.memory().take(told(tag, 1), 100, |_| true));
    }
    assert!(!memory.memory().take(told(1, u32::MAX), 100, |_| true));
    assert_eq!(known(), full);
    // A second later it is those that have not come since.
    assert!(memory.memory().take(told(1, 0), 101, |_| true));
}

#[test]
fn whoever_goes_on_with_a_memory_forgets_its_own_and_hashes_alike() {
    let here = Sessions::new(Key([1, 2]), at(0));
    let there = Sessions::new(Key([3, 4]), at(50));
    here.learn(b"a", Handle(1), at(60));
    there.learn(b"b", Handle(2), at(60));
    assert!(!there.memory().is_empty());
    there
        .memory()
        .adopt(here.memory().key(), here.memory().age(60), 60);
    assert!(there.memory().is_empty());
    assert_eq!(there.find(b"b", at(60)), None);
    assert_eq!(
        (there.memory().age(60), there.memory().key()),
        (60, Key([1, 2]))
    );
    here.memory().tell(60, |entry| {
        there.memory().take(entry, 60, |_| false);
    });
    assert_eq!(there.find(b"a", at(60)), Some(Handle(1)));
    assert_ne!(Key([1, 2]).check(), Key([3, 4]).check());
}

#[test]
fn who_is_told_while_others_write_misses_nobody() {
    // Few enough that each finds room in its set.
    let (here, there) = pair();
    thread::scope(|scope| {
        let writers = [0, 1].map(|own| {
            let here = &here;
            scope.spawn(move || {
                for number in 0..1_500 {
                    goes(here, client(number * 2 + own), 5, 1);
                }
            })
        });
        while !writers.iter().all(|writer| writer.is_finished()) {
            tell(&here, &there, 5);
        }
    });
    tell(&here, &there, 5);
    let known = |memory: &Affinity| -> BTreeSet<Entry> {
        let parts = 0..Memory::PARTS;
        parts
            .flat_map(|part| memory.memory().part(part, 5))
            .collect()
    };
    let missed: Vec<_> = known(&here).difference(&known(&there)).copied().collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn memories_are_alike_if_they_tell_the_same_clients_apart() {
    let of = |spec| {
        let settings = settings(&sticky(vec![], None, spec));
        likeness(&Persistence::Source(settings))
    };
    let cookie = |name: &str| likeness(&Persistence::AppCookie(name.into()));
    assert_eq!(of(None), of(Some("255.255.255.255")));
    let different = [of(None), of(Some("255.255.0.0")), cookie("a"), cookie("b")];
    let count = different.iter().collect::<BTreeSet<_>>().len();
    assert_eq!(count, different.len());
    assert_eq!(likeness(&Persistence::OwnCookie), None);
}

proptest! {
    /// Whatever two have seen and in whatever order they tell each other, they agree in the end.
    #[test]
    fn two_that_have_told_each_other_all_agree(
        visits in prop::collection::vec((any::<bool>(), 0_u32..8, 0_u16..4, 0_u64..4), 1..60),
    ) {
        let (here, there) = pair();
        let mut now = 10;
        for (is_here, number, handle, later) in visits {
            now += later;
            goes(if is_here { &here } else { &there }, client(number), now, handle);
        }
        let seconds = u32::try_from(now).unwrap();
        let swap = |from: &Affinity, to: &Affinity| {
            for part in 0..Memory::PARTS {
                let entries: Vec<_> = from.memory().part(part, seconds).collect();
                for entry in entries {
                    to.memory().take(entry, seconds, |noted| entry.handle > noted);
                }
            }
        };
        swap(&here, &there);
        swap(&there, &here);
        for number in 0..8 {
            let place = |memory: &Affinity| memory.choose(client(number), at(now), |_| true, || None);
            prop_assert_eq!(place(&here), place(&there));
        }
    }
}
