//! Who is chosen, from what tenants ask to what clients get: pools as compiled, parsed and prepared for choice.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use krater_amphora_api::MemberId;
use krater_amphora_core::{
    roster::{Choice, Roster, Tier},
    snapshot::Pool,
};
use krater_controller_core::{
    command::{Command, MemberUpdate, NewMember},
    model::LbAlgorithm,
};
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    sample::{Index, select},
};

use crate::{
    cases,
    house::House,
    value,
    wish::{
        self,
        member::{member_update, new_member},
        pool_of,
    },
};

/// One change of one member.
#[derive(Clone, Debug)]
enum Event {
    /// A tenant's.
    Update(MemberUpdate),
    Delete,
    Create(NewMember),
    /// A verdict of the health monitor: from up to down, or back.
    Flip,
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn nobody_is_chosen_who_is_disabled_weightless_or_down(
        members in vec(new_member(), 0..10),
        algorithm in value::algorithm(),
        down in vec(any::<Index>(), 0..5),
        not in btree_set(0_usize..10, 0..4),
        loads in vec(0_u32..4, 10),
        first in any::<u64>(),
    ) {
        let Some(house) = house_of(members, algorithm) else { return Ok(()) };
        let pool = pool(&house);
        let down = chosen(&down, &house);
        let roster = Roster::build(&pool, |id| !down.contains(&id));
        let usable = usable(&pool, &down);
        prop_assert_eq!(roster.positions().collect::<BTreeSet<_>>(), usable.clone());
        let backups = usable.iter().filter(|at| pool.members[**at].backup).count();
        let tier = if usable.is_empty() {
            Tier::Nobody
        } else if backups == 0 {
            Tier::Primary
        } else {
            Tier::Backup
        };
        prop_assert_eq!(roster.tier(), tier);
        let not: Vec<_> = not.into_iter().collect();
        let left = usable.iter().filter(|at| !not.contains(at)).count();
        for step in 0..64 {
            let turn = first.wrapping_add(step);
            let choice = roster.choose(&Choice {
                client: client(turn),
                turn,
                load: &|at| loads.get(at).copied().unwrap_or_default(),
                not: &not,
            });
            prop_assert_eq!(choice.is_some(), left > 0);
            prop_assert!(choice.is_none_or(|at| usable.contains(&at) && !not.contains(&at)));
        }
    }

    #[test]
    fn a_change_of_one_member_moves_only_its_own_clients(
        members in vec(new_member(), 1..10),
        algorithm in select(vec![LbAlgorithm::SourceIp, LbAlgorithm::SourceIpPort]),
        down in vec(any::<Index>(), 0..4),
        at in any::<Index>(),
        event in event(),
    ) {
        let Some(mut house) = house_of(members, algorithm) else { return Ok(()) };
        let mut down = chosen(&down, &house);
        let before = homes(&pool(&house), &down);
        let Some(changed) = happen(&mut house, &mut down, at, event) else { return Ok(()) };
        let after = homes(&pool(&house), &down);
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(
                before == after || before == Some(changed) || after == Some(changed),
                "{changed} changed, and a client moved from {before:?} to {after:?}"
            );
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => member_update().prop_map(Event::Update),
        1 => Just(Event::Delete),
        1 => new_member().prop_map(Event::Create),
        2 => Just(Event::Flip),
    ]
}

/// Has the event happen, and answers whom it is about; `None` if it was refused.
fn happen(
    house: &mut House,
    down: &mut BTreeSet<MemberId>,
    at: Index,
    event: Event,
) -> Option<MemberId> {
    let pool = house.tree.pools[0].value.id;
    let id = at.get(&house.tree.members).value.id;
    let command = match event {
        Event::Update(update) => Command::UpdateMember(pool, id, update),
        Event::Delete => Command::DeleteMember(pool, id),
        Event::Create(new) => {
            house.run(Command::CreateMember(pool, Box::new(new))).ok()?;
            return house.tree.members.last().map(|row| row.value.id);
        }
        Event::Flip => {
            if !down.remove(&id) {
                down.insert(id);
            }
            return Some(id);
        }
    };
    house.run(command).ok().map(|_| id)
}

/// A load balancer with one pool of those of `members` that are admitted together.
fn house_of(members: Vec<NewMember>, algorithm: LbAlgorithm) -> Option<House> {
    let mut new = wish::bare_balancer();
    new.pools = vec![pool_of(Vec::new(), algorithm)];
    let vip = wish::vip([10, 0, 0, 2].into());
    let (mut house, _) = House::build(new, vip, Vec::new()).expect("a load balancer");
    let pool = house.tree.pools[0].value.id;
    for member in members {
        // Some have an address that no member may have, or that of another.
        let _ = house.run(Command::CreateMember(pool, Box::new(member)));
    }
    (!house.tree.members.is_empty()).then_some(house)
}

fn pool(house: &House) -> Pool {
    house.snapshot().pools()[0].clone()
}

fn chosen(numbers: &[Index], house: &House) -> BTreeSet<MemberId> {
    let rows = &house.tree.members;
    numbers.iter().map(|at| at.get(rows).value.id).collect()
}

/// Who may be chosen, said in another way than the roster does.
fn usable(pool: &Pool, down: &BTreeSet<MemberId>) -> BTreeSet<usize> {
    let healthy = |backup: bool| -> BTreeSet<usize> {
        let members = pool.members.iter().enumerate();
        let fit = members.filter(|(_, member)| {
            member.backup == backup
                && member.enabled
                && member.weight > 0
                && !down.contains(&member.id)
        });
        fit.map(|(at, _)| at).collect()
    };
    let primaries = healthy(false);
    if primaries.is_empty() {
        healthy(true)
    } else {
        primaries
    }
}

/// Where each of many clients is sent.
fn homes(pool: &Pool, down: &BTreeSet<MemberId>) -> Vec<Option<MemberId>> {
    let roster = Roster::build(pool, |id| !down.contains(&id));
    let home = |number| {
        let at = roster.choose(&Choice {
            client: client(number),
            turn: number,
            load: &|_| 0,
            not: &[],
        });
        at.map(|at| pool.members[at].id)
    };
    (0..CLIENTS).map(home).collect()
}

/// A client of an address and a port of its own.
fn client(number: u64) -> SocketAddr {
    let [.., a, b, c, d] = number.wrapping_mul(SPREAD).to_be_bytes();
    (Ipv4Addr::new(10, a, b, c), 1_024 + u16::from(d)).into()
}

const CLIENTS: u64 = 200;
/// Odd, so that no two numbers meet.
const SPREAD: u64 = 0x9e37_79b9;
