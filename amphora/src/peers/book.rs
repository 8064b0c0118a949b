//! What is said on a connection, and what is made of what comes: everything but the bytes.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use krater_amphora_api::{AnnouncementState, PoolId};
use krater_amphora_core::peers::{Message, Offer, Standing, Told};

use super::{State, line::Line};
use crate::{
    limits::SESSION_POOLS_MAX,
    tallies::SessionTallies,
    world::{Balancer, Learned, PoolState},
};

/// Says what this process goes by in the pools that it carries together with another one, where that was not said yet.
pub(super) fn offer(state: &State, line: &Rc<Line>) {
    let mut bytes = Vec::new();
    let mut said = Vec::new();
    for (_, pool) in pools_with(state, line) {
        let Some(learned) = pool.learned() else {
            continue;
        };
        let id = pool.pool.id;
        let mut accords = line.accords.borrow_mut();
        let accord = accords.entry(id).or_default();
        let (key, likeness) = (learned.key(), learned.likeness());
        // What was taken on from the other one needs not be said.
        let is_said =
            |said: &Offer| said.likeness == likeness && (said.key == key || accord.is_of(key));
        if accord.said().is_some_and(is_said) {
            continue;
        }
        let offer = learned.offer();
        accord.say(offer);
        Message::Offer(id, offer).write(&mut bytes);
        said.push(id);
    }
    if said.is_empty() {
        return;
    }
    line.send(bytes);
    for pool in said {
        settle(state, line, pool);
    }
}

/// Asks for pools anew of which something was told before it was there.
pub(super) fn ask_again(state: &State, line: &Line) {
    let mut bytes = Vec::new();
    line.missed.borrow_mut().retain(|id, seen| {
        let now = state.world.pools.get(id);
        let is_new = now.is_some_and(|pool| Arc::as_ptr(pool).addr() != *seen);
        if is_new {
            Message::Want(*id).write(&mut bytes);
        }
        !is_new
    });
    if !bytes.is_empty() {
        line.send(bytes);
    }
}

/// Takes in what another one says.
pub(super) fn hear(state: &State, line: &Rc<Line>, message: Message, tallies: &SessionTallies) {
    match message {
        Message::Alive | Message::Unknown(_) => {}
        Message::Offer(pool, offer) => {
            {
                let mut accords = line.accords.borrow_mut();
                if accords.len() >= SESSION_POOLS_MAX && !accords.contains_key(&pool) {
                    return;
                }
                accords.entry(pool).or_default().hear(offer);
            }
            settle(state, line, pool);
        }
        Message::Want(pool) => owe(state, line, pool),
        Message::Told(told) => take(state, line, &told, tallies),
    }
}

/// Goes by what both have said of a pool: goes on with the other one's memory if it is that, and tells all that is known.
fn settle(state: &State, line: &Rc<Line>, id: PoolId) {
    let Some((_, pool)) = pool_with(state, line, id) else {
        return;
    };
    let Some(learned) = pool.learned() else {
        return;
    };
    let accord = line.accord(id);
    if let Standing::Theirs(key, age) = accord.standing()
        && accord.said().is_some_and(|said| said.key == learned.key())
    {
        learned.adopt(key, age);
        let others = state.lines.values();
        for other in others.filter(|other| !Rc::ptr_eq(other, line)) {
            offer(state, other);
        }
    }
    owe(state, line, id);
}

/// Has all of a pool told, if both go by the same.
fn owe(state: &State, line: &Line, id: PoolId) {
    if told_to(state, line, id).is_some() {
        line.owe(id);
    }
}

fn take(state: &State, line: &Line, told: &Told, tallies: &SessionTallies) {
    let all = told.clients.len() as u64;
    let found = pool_with(state, line, told.pool);
    let learned = found.and_then(|(balancer, pool)| Some((balancer, pool, pool.learned()?)));
    let Some((balancer, pool, learned)) = learned else {
        tallies.ignored.add(all);
        line.miss(told.pool, state.world.pools.get(&told.pool));
        return;
    };
    let key = learned.key();
    if told.check != key.check() || !line.accord(told.pool).is_of(key) {
        // It was said before both agreed: all is told once they do.
        tallies.ignored.add(all);
        return;
    }
    let heard = learned.take(told, is_active(balancer), 0);
    tallies.taken.add(heard.taken);
    tallies.known.add(heard.known);
    if heard.ignored > 0 {
        tallies.ignored.add(heard.ignored);
        line.miss(told.pool, Some(pool));
    }
}

/// Tells what was learned since it was told last.
pub(super) fn tell(state: &State, tallies: &SessionTallies) {
    let mut pools = BTreeMap::<PoolId, Vec<&Rc<Line>>>::new();
    for line in state.lines.values() {
        for (_, pool) in pools_with(state, line) {
            if pool.learned().is_some_and(|learned| learned.has_untold()) {
                pools.entry(pool.pool.id).or_default().push(line);
            }
        }
    }
    for (id, mut lines) in pools {
        lines.retain(|line| told_to(state, line, id).is_some());
        let Some((balancer, learned)) = lines.first().and_then(|line| told_to(state, line, id))
        else {
            // Nobody goes by it yet: it waits where it is.
            continue;
        };
        for told in learned.tell(is_active(balancer)) {
            let clients = told.clients.len() as u64;
            let mut bytes = Vec::new();
            Message::Told(told).write(&mut bytes);
            for line in &lines {
                if line.try_send(bytes.clone()) {
                    tallies.told.add(clients);
                } else {
                    tallies.deferred.add(clients);
                    line.owe(id);
                }
            }
        }
    }
}

/// One part of all that is known of a pool, as messages; `None` if it is not to be told any more.
pub(super) fn part(state: &State, line: &Line, id: PoolId, part: usize) -> Option<(Vec<u8>, u64)> {
    let (balancer, learned) = told_to(state, line, id)?;
    let (mut bytes, mut clients) = (Vec::new(), 0);
    for told in learned.part(part, is_active(balancer)) {
        clients += told.clients.len() as u64;
        Message::Told(told).write(&mut bytes);
    }
    Some((bytes, clients))
}

/// What another one is told of a pool, if it carries it and both go by the same.
fn told_to<'a>(state: &'a State, line: &Line, id: PoolId) -> Option<(&'a Balancer, Learned<'a>)> {
    let (balancer, pool) = pool_with(state, line, id)?;
    let learned = pool.learned()?;
    let agrees = line.accord(id).is_of(learned.key());
    agrees.then_some((balancer, learned))
}

/// A pool that is carried together with the other one.
fn pool_with<'a>(
    state: &'a State,
    line: &Line,
    id: PoolId,
) -> Option<(&'a Balancer, &'a Arc<PoolState>)> {
    let pool = state.world.pools.get(&id)?;
    if !state.shares_with(line.peer(), pool.balancer) {
        return None;
    }
    Some((state.world.balancers.get(&pool.balancer)?, pool))
}

/// All pools that are carried together with the other one.
fn pools_with<'a>(
    state: &'a State,
    line: &Line,
) -> impl Iterator<Item = (&'a Balancer, &'a Arc<PoolState>)> {
    let share = state.shares.get(&line.peer()).into_iter();
    let ids = share.flat_map(|share| share.balancers.keys());
    let balancers = ids.filter_map(|id| state.world.balancers.get(id));
    balancers.flat_map(|balancer| balancer.pools.iter().map(move |pool| (&**balancer, pool)))
}

/// Whether clients come here.
fn is_active(balancer: &Balancer) -> bool {
    let standing = balancer.standing.as_ref();
    standing.is_none_or(|standing| {
        let standing = standing.load();
        standing
            .as_ref()
            .is_some_and(|it| it.state == AnnouncementState::Active)
    })
}
