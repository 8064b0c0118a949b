//! Plans, and a tiny world in which they are carried out.

use alloc::{string::String, vec};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::sample::{House, generation};

fn amphora(number: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(number))
}

fn present(number: u64) -> Desired {
    Desired {
        generation: generation(number),
        intent: Intent::Present,
        avoid: None,
        seats: &[Seat::First],
    }
}

fn absent(number: u64) -> Desired {
    Desired {
        generation: generation(number),
        intent: Intent::Absent,
        avoid: None,
        seats: &[Seat::First],
    }
}

fn in_force(number: u64) -> Option<Settled> {
    Some(Settled {
        generation: generation(number),
        outcome: Outcome::InForce,
    })
}

fn carrier(agent: Agent, applied: Option<u64>) -> Carrier {
    Carrier {
        amphora: amphora(1),
        seat: Seat::First,
        agent,
        applied: applied.and_then(Generation::from_number),
    }
}

fn settle(number: u64) -> Step {
    Step::Settle {
        generation: generation(number),
        outcome: Outcome::InForce,
    }
}

const PUSH: fn(u128) -> Step = |number| Step::Push {
    amphora: amphora(number),
};
const REMOVE: fn(u128) -> Step = |number| Step::Remove {
    amphora: amphora(number),
};

#[test]
fn what_is_nowhere_is_placed_first() {
    assert_eq!(
        plan(&present(1), &Actual::default()),
        [Step::Place(Seat::First)]
    );
}

#[test]
fn what_is_placed_is_shipped_and_settles() {
    let carriers = vec![carrier(Agent::Unknown, None)];
    let actual = Actual {
        carriers,
        ..Actual::default()
    };
    assert_eq!(
        plan(&present(1), &actual),
        [Step::EnsureAmphora(amphora(1)), PUSH(1), settle(1)]
    );
    let carriers = vec![carrier(Agent::Known, Some(1))];
    let actual = Actual {
        carriers,
        settled: in_force(1),
        ..Actual::default()
    };
    assert_eq!(plan(&present(2), &actual), [PUSH(1), settle(2)]);
    assert_eq!(plan(&present(1), &actual), []);
}

#[test]
fn an_amphora_that_came_back_empty_gets_it_again_though_it_has_settled() {
    let actual = Actual {
        carriers: vec![carrier(Agent::Known, None)],
        settled: in_force(3),
        ..Actual::default()
    };
    assert_eq!(plan(&present(3), &actual), [PUSH(1)]);
}

#[test]
fn what_settled_as_failed_settles_again_once_it_is_in_force() {
    let settled = Some(Settled {
        generation: generation(3),
        outcome: Outcome::Failed,
    });
    let actual = Actual {
        carriers: vec![carrier(Agent::Known, Some(3))],
        settled,
        ..Actual::default()
    };
    assert_eq!(plan(&present(3), &actual), [settle(3)]);
}

#[test]
fn it_is_removed_from_an_old_place_only_after_the_new_one_has_it() {
    let actual = Actual {
        carriers: vec![carrier(Agent::Known, None)],
        strays: vec![amphora(2), amphora(1)],
        settled: in_force(2),
    };
    assert_eq!(plan(&present(2), &actual), [PUSH(1), REMOVE(2)]);
}

#[test]
fn of_two_places_each_is_taken_and_both_are_needed() {
    let desired = Desired {
        seats: &[Seat::First, Seat::Second],
        ..present(1)
    };
    let second = Carrier {
        amphora: amphora(2),
        seat: Seat::Second,
        ..carrier(Agent::Known, Some(1))
    };
    let of = |carriers| Actual {
        carriers,
        ..Actual::default()
    };
    let place = |seat| [Step::Place(seat)];
    assert_eq!(plan(&desired, &of(vec![])), place(Seat::First));
    let first = carrier(Agent::Known, None);
    assert_eq!(plan(&desired, &of(vec![first])), place(Seat::Second));
    assert_eq!(plan(&desired, &of(vec![second])), place(Seat::First));
    assert_eq!(
        plan(&desired, &of(vec![first, second])),
        [PUSH(1), settle(1)]
    );
}

#[test]
fn of_two_one_stays_until_the_other_one_is_as_wanted() {
    let leaving = Desired {
        seats: &[Seat::First, Seat::Second],
        avoid: Some(amphora(2)),
        ..present(2)
    };
    let second = Carrier {
        amphora: amphora(2),
        seat: Seat::Second,
        ..carrier(Agent::Known, Some(1))
    };
    let of = |first| Actual {
        carriers: vec![first, second],
        ..Actual::default()
    };
    let place = Step::Place(Seat::Second);
    // Should the other one not answer, what is wanted is in force at least where it was to leave.
    let behind = of(carrier(Agent::Known, Some(1)));
    assert_eq!(plan(&leaving, &behind), [PUSH(1), PUSH(2), place]);
    let ready = of(carrier(Agent::Known, Some(2)));
    assert_eq!(plan(&leaving, &ready), [place]);
    // There is nobody to wait for.
    let alone = Actual {
        carriers: vec![second],
        ..Actual::default()
    };
    assert_eq!(plan(&leaving, &alone), [Step::Place(Seat::First)]);
}

#[test]
fn what_is_to_leave_its_amphora_is_placed_anew_and_served_there_before_the_old_one_lets_go() {
    let moving = Desired {
        avoid: Some(amphora(1)),
        ..present(2)
    };
    let old = Actual {
        carriers: vec![carrier(Agent::Known, Some(1))],
        settled: in_force(1),
        ..Actual::default()
    };
    assert_eq!(plan(&moving, &old), [Step::Place(Seat::First)]);
    let new = Carrier {
        amphora: amphora(2),
        ..carrier(Agent::Known, None)
    };
    let moved = Actual {
        carriers: vec![new],
        strays: vec![amphora(1)],
        ..old
    };
    assert_eq!(plan(&moving, &moved), [PUSH(2), REMOVE(1), settle(2)]);
}

#[test]
fn an_address_is_released_only_after_nobody_answers_on_it() {
    let actual = Actual {
        carriers: vec![carrier(Agent::Known, Some(1))],
        strays: vec![amphora(2)],
        settled: None,
    };
    assert_eq!(
        plan(&absent(2), &actual),
        [REMOVE(1), REMOVE(2), Step::ReleaseVip, Step::Forget]
    );
    assert_eq!(
        plan(&absent(2), &Actual::default()),
        [Step::ReleaseVip, Step::Forget]
    );
}

#[test]
fn a_tree_wants_to_be_there_until_it_is_deleted() {
    let mut house = House::furnished();
    assert_eq!(Desired::of(&house.tree), present(1));
    let command = crate::command::Command::DeleteLoadBalancer(
        house.id(),
        crate::command::Cascade::WithChildren,
    );
    house.run(command).unwrap();
    assert_eq!(Desired::of(&house.tree), absent(2));
}

#[test]
fn silence_shows_only_after_patience_and_refusal_at_once() {
    let silent = Failure::Unreachable {
        amphora: amphora(1),
        detail: String::new(),
    };
    let refused = Failure::Refused {
        amphora: amphora(1),
        rejections: vec![],
        message: String::new(),
    };
    let failed = Some(Step::Settle {
        generation: generation(2),
        outcome: Outcome::Failed,
    });
    let actual = Actual {
        settled: in_force(1),
        ..Actual::default()
    };
    let patience = crate::blame::PATIENCE;
    assert_eq!(concede(&present(2), &actual, &silent, Duration::ZERO), None);
    assert_eq!(concede(&present(2), &actual, &silent, patience), failed);
    assert_eq!(
        concede(&present(2), &actual, &refused, Duration::ZERO),
        failed
    );
    assert_eq!(concede(&absent(2), &actual, &silent, patience), failed);
    // What is in force is not put in doubt by an amphora that fell silent.
    let actual = Actual {
        settled: in_force(2),
        ..Actual::default()
    };
    assert_eq!(concede(&present(2), &actual, &silent, patience), None);
}

/// Everything a plan acts on.
#[derive(Debug)]
struct World {
    desired: Desired,
    actual: Actual,
    is_forgotten: bool,
}

impl World {
    /// Carries one step out; `false` when the step fails.
    fn carry_out(&mut self, step: Step, works: bool) -> bool {
        if !works {
            return false;
        }
        let generation = self.desired.generation;
        match step {
            Step::Place(seat) => {
                let left = self
                    .actual
                    .carriers
                    .drain(..)
                    .map(|carrier| carrier.amphora);
                let strays: Vec<_> = left.filter(|id| *id != amphora(9)).collect();
                self.actual.strays.extend(strays);
                self.actual.strays.retain(|stray| *stray != amphora(9));
                self.actual.carriers.push(Carrier {
                    amphora: amphora(9),
                    seat,
                    agent: Agent::Unknown,
                    applied: None,
                });
            }
            Step::EnsureAmphora(id) => self.edit(id, |carrier| carrier.agent = Agent::Known),
            Step::Push { amphora } => {
                let known = self
                    .actual
                    .carriers
                    .iter()
                    .any(|row| row.amphora == amphora && row.agent == Agent::Known);
                assert!(known, "pushed to nowhere");
                self.edit(amphora, |carrier| carrier.applied = Some(generation));
            }
            Step::Remove { amphora } => {
                self.actual.strays.retain(|stray| *stray != amphora);
                self.edit(amphora, |carrier| carrier.applied = None);
            }
            Step::ReleaseVip => {
                assert!(
                    self.actual.strays.is_empty(),
                    "released while somebody answers"
                );
                assert!(
                    self.actual
                        .carriers
                        .iter()
                        .all(|carrier| carrier.applied.is_none())
                );
            }
            Step::Settle {
                generation,
                outcome,
            } => {
                let applied = self
                    .actual
                    .carriers
                    .iter()
                    .all(|carrier| carrier.applied >= Some(generation));
                assert!(
                    applied && !self.actual.carriers.is_empty(),
                    "I6: settled before it was in force"
                );
                self.actual.settled = Some(Settled {
                    generation,
                    outcome,
                });
            }
            Step::Forget => self.is_forgotten = true,
        }
        true
    }

    fn carries(&self, id: AmphoraId) -> bool {
        self.actual
            .carriers
            .iter()
            .any(|carrier| carrier.amphora == id)
    }

    fn edit(&mut self, id: AmphoraId, edit: impl Fn(&mut Carrier)) {
        self.actual
            .carriers
            .iter_mut()
            .filter(|carrier| carrier.amphora == id)
            .for_each(edit);
    }
}

prop_compose! {
    fn worlds()(
        newest in 1..6_u64,
        wanted in any::<bool>(),
        carriers in prop::collection::btree_map(0..4_u128, (any::<bool>(), 0..9_u64), 0..2),
        strays in prop::collection::btree_set(0..4_u128, 0..3),
        settled in prop::option::of((1..6_u64, any::<bool>())),
        avoid in prop::option::of(0..4_u128),
    ) -> World {
        let carriers = carriers.into_iter().map(|(id, (known, applied))| Carrier {
            amphora: amphora(id),
            seat: Seat::First,
            agent: if known { Agent::Known } else { Agent::Unknown },
            applied: Generation::from_number(applied),
        });
        let settled = settled.map(|(number, fine)| Settled {
            generation: generation(number.min(newest)),
            outcome: if fine { Outcome::InForce } else { Outcome::Failed },
        });
        World {
            desired: Desired {
                avoid: avoid.map(amphora),
                ..if wanted { present(newest) } else { absent(newest) }
            },
            actual: Actual {
                settled,
                carriers: carriers.collect(),
                strays: strays.into_iter().map(amphora).collect(),
            },
            is_forgotten: false,
        }
    }
}

proptest! {
    #[test]
    fn plans_come_to_an_end_from_anywhere_however_often_a_step_fails(
        mut world in worlds(),
        luck in prop::collection::vec(any::<bool>(), 0..20),
    ) {
        let mut luck = luck.into_iter();
        let mut rounds = 0;
        while !world.is_forgotten {
            let steps = plan(&world.desired, &world.actual);
            prop_assert_eq!(&steps, &plan(&world.desired, &world.actual), "the same facts, the same steps");
            if steps.is_empty() {
                break;
            }
            for step in steps {
                if !world.carry_out(step, luck.next().unwrap_or(true)) {
                    break;
                }
            }
            rounds += 1;
            prop_assert!(rounds <= 25, "no end");
        }
        match world.desired.intent {
            Intent::Absent => prop_assert!(world.is_forgotten),
            Intent::Present => {
                let generation = world.desired.generation;
                prop_assert_eq!(world.actual.settled, Some(Settled { generation, outcome: Outcome::InForce }));
                prop_assert!(world.actual.carriers.iter().all(|carrier| carrier.applied >= Some(generation)));
                prop_assert!(world.actual.strays.iter().all(|stray| world.carries(*stray)), "an old place holds it");
                prop_assert!(world.desired.avoid.is_none_or(|avoided| !world.carries(avoided)));
            }
        }
    }
}
