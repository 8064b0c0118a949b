//! A small fleet of which everything is killed once: nothing is left pending, and nothing that was acknowledged is lost.

use std::time::Duration;

use krater_tests::{Blow, Siege};

#[test]
fn everything_of_a_fleet_is_killed_in_turn_and_nothing_is_stuck_or_lost() {
    let siege = Siege {
        controllers: 2,
        hosts: 3,
        balancers: 6,
        kinds: Blow::ALL.to_vec(),
        rounds: 1,
        time: Duration::from_secs(120),
        pause: Duration::from_millis(100),
        edit_pause: Duration::from_millis(200),
    };
    let outcome = siege.run(&|line| println!("{line}"));
    assert!(outcome.stuck.is_empty(), "{:#?}", outcome.stuck);
    assert!(outcome.lost_writes.is_empty(), "{:#?}", outcome.lost_writes);
    assert_eq!(outcome.left_out, 0);
    assert!(outcome.acknowledged > 0);
    assert_eq!(outcome.doubled, 0);
    for (blow, score) in &outcome.scores {
        assert_eq!(score.wrong, 0, "{blow:?}: {score:?}");
        assert_eq!(score.unsettled, [""; 0], "{blow:?}: {score:?}");
        // Whatever carries no traffic may die without anybody noticing, and whoever comes while an amphora is away waits.
        match blow {
            None | Some(Blow::Host) => {}
            Some(Blow::Amphora) => assert_eq!(score.refused, 0, "{score:?}"),
            Some(_) => assert_eq!((score.lost, score.refused), (0, 0), "{blow:?}: {score:?}"),
        }
    }
}
