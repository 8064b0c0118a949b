//! The thread itself: hears adverts, asks the routers what is to be done, and does it.

use std::{collections::BTreeMap, future::pending, io, net::IpAddr, path::PathBuf, sync::Arc};

use krater_amphora_api::{AnnouncementReport, AnnouncementState, LoadBalancerId};
use krater_amphora_core::{
    time::Instant,
    vrrp::{Advert, Health, Journey, Output, Role, Router},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, error, info, warn};

use super::{
    Order, Wanted,
    adverts::Sockets,
    links::{self, Link, Table},
    neighbours,
    notes::{Note, Notes},
};
use crate::{
    clock::{Clock, wall_ms},
    limits::LOOK_EACH,
    tallies::Tallies,
};

/// Everything the thread has.
pub(super) struct Desk {
    clock: Clock,
    seats: BTreeMap<LoadBalancerId, Seat>,
    sockets: Sockets,
    links: Vec<Link>,
    table: Option<Table>,
    notes: Option<PathBuf>,
    /// What the process before this one had and nobody has asked for yet.
    inherited: Vec<Note>,
    news: Arc<Notify>,
    tallies: Arc<Tallies>,
}

/// One load balancer.
struct Seat {
    wanted: Wanted,
    router: Router,
    /// The link with its own address.
    link: Option<Link>,
    /// Addresses that were put on a link: its index, and which.
    held: Vec<(u32, IpAddr)>,
    /// Since when: milliseconds since 1970.
    since_ms: Option<u64>,
    /// Why it cannot take part.
    trouble: Option<String>,
    /// It is to be left to others for good; those who wait for that.
    leaving: Option<Vec<oneshot::Sender<()>>>,
    /// It is no longer wanted at all.
    gone: bool,
    fresh: bool,
}

/// Whether the thread goes on.
enum Course {
    Onward,
    End(oneshot::Sender<()>),
}

impl Desk {
    /// An empty desk, on a local set.
    pub(super) fn open(notes: Option<PathBuf>, news: Arc<Notify>, tallies: Arc<Tallies>) -> Self {
        let inherited = notes.as_deref().and_then(Notes::read);
        Self {
            clock: Clock::start(),
            seats: BTreeMap::new(),
            sockets: Sockets::default(),
            links: Vec::new(),
            table: None,
            notes,
            inherited: inherited.map(|notes| notes.held).unwrap_or_default(),
            news,
            tallies,
        }
    }

    /// Runs until it is told to end, or whoever started it is gone.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut looks = interval(LOOK_EACH);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = None;
        loop {
            match self.wait(&mut orders, &mut looks).await {
                Some(Course::Onward) => {}
                Some(Course::End(done)) => ended = Some(done),
                None => return,
            }
            self.hear();
            let now = self.clock.now();
            for seat in self.seats.values_mut() {
                seat.router.handle_timeout(now);
            }
            self.carry_out().await;
            if self.seats.is_empty()
                && let Some(done) = ended.take()
            {
                let _ = done.send(());
                return;
            }
        }
    }

    /// Waits until there is something to do. `None`: there is nobody to do it for.
    async fn wait(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        looks: &mut Interval,
    ) -> Option<Course> {
        let due = self
            .seats
            .values()
            .filter_map(|seat| seat.router.poll_timeout())
            .min();
        let clock = self.clock;
        let timer = async {
            match due {
                Some(at) => sleep_until(clock.deadline(at)).await,
                None => pending().await,
            }
        };
        let table = &mut self.table;
        let changes = async {
            match table {
                Some(table) => table.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.sockets.readable() => {}
            () = timer => {}
            () = changes => self.look().await,
            _ = looks.tick() => self.look().await,
            order = orders.recv() => return self.obey(order?).await,
        }
        Some(Course::Onward)
    }

    async fn obey(&mut self, order: Order) -> Option<Course> {
        let now = self.clock.now();
        match order {
            Order::Follow(wanted) => self.follow(wanted).await,
            Order::Leave(id, done) => match self.seats.get_mut(&id) {
                Some(seat) => seat.leave(now, Some(done)),
                None => {
                    let _ = done.send(());
                }
            },
            Order::Stay(id) => {
                if let Some(seat) = self.seats.get_mut(&id).filter(|seat| !seat.gone) {
                    seat.stay(now);
                }
            }
            Order::StandAside(id, time) => {
                if let Some(seat) = self.seats.get_mut(&id) {
                    let was_aside = seat.router.is_aside();
                    seat.router.stand_aside(now.saturating_add(time), now);
                    // It is told so again and again.
                    if seat.router.is_aside() && !was_aside {
                        warn!(lb = %id, "stands aside: another amphora has the addresses too, and is not heard");
                    }
                }
            }
            Order::End(done) => {
                for seat in self.seats.values_mut() {
                    seat.gone = true;
                    seat.leave(now, None);
                }
                return Some(Course::End(done));
            }
        }
        Some(Course::Onward)
    }

    async fn follow(&mut self, mut wanted: BTreeMap<LoadBalancerId, Wanted>) {
        let now = self.clock.now();
        for (id, seat) in &mut self.seats {
            match wanted.remove(id) {
                Some(wanted) => seat.follow(wanted, now),
                None => {
                    seat.gone = true;
                    seat.leave(now, None);
                }
            }
        }
        for (id, wanted) in wanted {
            self.seats.insert(id, Seat::new(wanted));
        }
        self.look().await;
        self.settle_inheritance().await;
    }

    /// Takes away what the process before had and nobody wants now.
    async fn settle_inheritance(&mut self) {
        let inherited = std::mem::take(&mut self.inherited);
        for mut note in inherited {
            let seats = self.seats.values();
            let wanted: Vec<_> = seats.flat_map(|seat| &seat.wanted.vips).collect();
            note.vips.retain(|vip| !wanted.contains(&vip));
            if let Some(table) = self.table.as_ref().filter(|_| !note.vips.is_empty())
                && let Err(error) = note.take_away(table).await
            {
                warn!(%error, "addresses of what is no more cannot be taken away");
            }
        }
    }

    /// Looks at the links, and tries again what could not be done.
    async fn look(&mut self) {
        if self.table.is_none() {
            match Table::open() {
                Ok(table) => self.table = Some(table),
                Err(error) => error!(%error, "the table of addresses cannot be opened"),
            }
        }
        match links::look() {
            Ok(links) => self.links = links,
            Err(error) => warn!(%error, "the links cannot be looked at"),
        }
        let now = self.clock.now();
        let seats: Vec<_> = self.seats.values().map(|seat| seat.own()).collect();
        self.sockets.retain(|own| seats.contains(own));
        for (id, seat) in &mut self.seats {
            let opened = self.sockets.ensure(seat.own());
            seat.judge(*id, &self.links, opened, now);
        }
        for seat in self.seats.values_mut() {
            if let Err(error) = seat.check_held(self.table.as_ref()).await {
                warn!(%error, "addresses cannot be put right");
            }
        }
    }

    /// Takes in all adverts that have come.
    fn hear(&mut self) {
        let now = self.clock.now();
        let (seats, counts) = (&mut self.seats, &self.tallies.turns);
        self.sockets.drain(|journey, bytes| {
            let heard = Advert::parse(bytes, journey);
            let mut taken = false;
            match &heard {
                Ok(advert) => {
                    for seat in seats
                        .values_mut()
                        .filter(|seat| seat.is_for(journey, advert))
                    {
                        seat.router.handle_advert(journey.source, advert, now);
                        taken = true;
                    }
                }
                Err(error) => debug!(?error, source = %journey.source, "what came is no advert"),
            }
            let count = if taken {
                &counts.heard
            } else {
                &counts.ignored
            };
            count.inc();
        });
    }

    /// Does what the routers ask for.
    async fn carry_out(&mut self) {
        let mut noted = false;
        for (id, seat) in &mut self.seats {
            while let Some(output) = seat.router.poll_output() {
                match output {
                    Output::Advertise(priority) => {
                        let sent = seat.advertise(priority, &self.sockets);
                        self.tallies.turns.sent.add(sent);
                    }
                    Output::Hold => {
                        info!(lb = %id, "takes over the addresses of a load balancer");
                        self.tallies.turns.takeovers.inc();
                        noted = true;
                        seat.since_ms = Some(wall_ms());
                        if let Err(error) = seat.hold(self.table.as_ref()).await {
                            seat.fail(*id, &error, self.clock.now());
                        }
                    }
                    Output::Announce => seat.announce(),
                    Output::Release => {
                        info!(lb = %id, "lets go of the addresses of a load balancer");
                        noted = true;
                        seat.release(self.table.as_ref()).await;
                    }
                }
            }
        }
        if noted {
            self.note();
        }
        let mut changed = false;
        for seat in self.seats.values_mut() {
            changed |= seat.show();
        }
        self.seats.retain(|_, seat| {
            !seat.gone || seat.router.role() != Role::Down || !seat.held.is_empty()
        });
        if changed {
            self.news.notify_one();
        }
    }

    fn note(&self) {
        let Some(path) = &self.notes else { return };
        let held = self.seats.values().filter(|seat| seat.router.holds());
        let notes = Notes {
            process: std::process::id(),
            held: held.map(Seat::note).collect(),
        };
        if let Err(error) = notes.write(path) {
            warn!(%error, "what addresses this process has cannot be written down");
        }
    }
}

impl Seat {
    fn new(wanted: Wanted) -> Self {
        Self {
            router: Router::new(wanted.announcement.settings),
            wanted,
            link: None,
            held: Vec::new(),
            since_ms: None,
            trouble: None,
            leaving: None,
            gone: false,
            fresh: true,
        }
    }

    const fn own(&self) -> IpAddr {
        self.wanted.announcement.settings.address
    }

    fn follow(&mut self, wanted: Wanted, now: Instant) {
        self.router.configure(wanted.announcement.settings);
        self.wanted = wanted;
        // One that is about to be left, and wanted until it is, leaves.
        if std::mem::take(&mut self.gone) {
            self.stay(now);
        }
    }

    /// Takes part again although it was to leave. Who waits for that waits no longer.
    fn stay(&mut self, now: Instant) {
        if let Some(waiting) = self.leaving.take() {
            for done in waiting {
                let _ = done.send(());
            }
            self.router.stay(now);
        }
    }

    /// Whether an advert is about its addresses, and of one of the others.
    fn is_for(&self, journey: Journey, advert: &Advert) -> bool {
        let Wanted {
            announcement, vips, ..
        } = &self.wanted;
        journey.destination == self.own()
            && announcement.router == advert.router
            && announcement.peers.contains(&journey.source)
            && advert
                .addresses
                .iter()
                .any(|address| vips.contains(address))
    }

    /// Takes note of how fit it is, after a look at the links.
    fn judge(&mut self, id: LoadBalancerId, links: &[Link], opened: io::Result<()>, now: Instant) {
        let link = links
            .iter()
            .find(|link| link.addresses.contains(&self.own()));
        let before = self.trouble.take();
        self.trouble = match (link, opened) {
            (None, _) => Some(format!(
                "no link of this host has the address {}",
                self.own()
            )),
            (Some(link), _) if !link.is_up => Some(format!("link {} is down", link.name)),
            (_, Err(error)) => Some(format!("adverts cannot be sent: {error}")),
            (Some(_), Ok(())) => None,
        };
        if self.trouble != before
            && let Some(trouble) = &self.trouble
        {
            warn!(lb = %id, trouble, "a load balancer cannot take turns at its addresses");
        }
        self.link = link.cloned();
        if self.leaving.is_some() {
            return;
        }
        let health = match self.trouble {
            Some(_) => Health::Dead,
            None => self.wanted.health,
        };
        self.router.handle_health(health, now);
        if health != Health::Dead && std::mem::take(&mut self.fresh) {
            let has = |link: &Link| {
                let mut vips = self.wanted.vips.iter();
                vips.all(|vip| link.addresses.contains(vip))
            };
            if link.is_some_and(has) {
                // Of the process before this one.
                self.router.resume(now);
            }
        }
    }

    fn leave(&mut self, now: Instant, done: Option<oneshot::Sender<()>>) {
        self.leaving.get_or_insert_default().extend(done);
        self.router.leave(now);
    }

    fn fail(&mut self, id: LoadBalancerId, error: &io::Error, now: Instant) {
        warn!(lb = %id, %error, "the addresses of a load balancer cannot be had");
        self.trouble = Some(format!("its addresses cannot be had: {error}"));
        self.router.handle_health(Health::Dead, now);
    }

    fn advertise(&self, priority: u8, sockets: &Sockets) -> u64 {
        let advert = Advert {
            router: self.wanted.announcement.router,
            priority,
            interval: self.wanted.announcement.settings.interval,
            addresses: self.wanted.vips.clone(),
        };
        let mut sent = 0;
        for peer in &self.wanted.announcement.peers {
            match sockets.send(self.own(), *peer, &advert.print(self.own(), *peer)) {
                Ok(()) => sent += 1,
                Err(error) => debug!(%peer, %error, "an advert cannot be sent"),
            }
        }
        sent
    }

    fn announce(&self) {
        let Some(link) = &self.link else { return };
        for vip in &self.wanted.vips {
            if let Err(error) = neighbours::tell(link, *vip) {
                warn!(%vip, link = link.name, %error, "the neighbours cannot be told of an address");
            }
        }
    }

    /// Has the addresses on the link, and tells the neighbours.
    async fn hold(&mut self, table: Option<&Table>) -> io::Result<()> {
        let (Some(link), Some(table)) = (&self.link, table) else {
            return Err(io::Error::other("there is no link for them"));
        };
        for vip in &self.wanted.vips {
            table.add(link.index, *vip).await?;
            if !self.held.contains(&(link.index, *vip)) {
                self.held.push((link.index, *vip));
            }
        }
        self.announce();
        Ok(())
    }

    /// Puts right what is there of the addresses that it holds: others may have taken some away, or others are wanted.
    async fn check_held(&mut self, table: Option<&Table>) -> io::Result<()> {
        if !self.router.holds() {
            // What could not be taken away.
            self.release(table).await;
            return Ok(());
        }
        let (Some(link), Some(table)) = (&self.link, table) else {
            return Ok(());
        };
        if !link.is_up || self.held.is_empty() {
            return Ok(());
        }
        let vips = &self.wanted.vips;
        let stays = |held: &(u32, IpAddr)| held.0 == link.index && vips.contains(&held.1);
        let (held, surplus) = std::mem::take(&mut self.held).into_iter().partition(stays);
        self.held = held;
        for (index, vip) in surplus {
            table.remove(index, vip).await?;
        }
        if !vips.iter().all(|vip| link.addresses.contains(vip)) {
            info!(
                link = link.name,
                "addresses are put on the link that were not there"
            );
            self.hold(Some(table)).await?;
        }
        Ok(())
    }

    async fn release(&mut self, table: Option<&Table>) {
        let Some(table) = table.filter(|_| !self.held.is_empty()) else {
            return;
        };
        let held = std::mem::take(&mut self.held);
        self.held = give_up(held, async |index, vip| table.remove(index, vip).await).await;
    }

    fn note(&self) -> Note {
        let announcement = &self.wanted.announcement;
        let interval = announcement.settings.interval.duration().as_millis();
        Note {
            router: announcement.router,
            address: self.own(),
            peers: announcement.peers.clone(),
            interval_ms: u32::try_from(interval).unwrap_or(u32::MAX),
            vips: self.wanted.vips.clone(),
        }
    }

    /// Shows how it stands. Answers whether that is news.
    fn show(&mut self) -> bool {
        if self.router.role() == Role::Down {
            for done in self
                .leaving
                .iter_mut()
                .flat_map(|waiting| waiting.drain(..))
            {
                // Who waits may have given up.
                let _ = done.send(());
            }
        }
        let state = match self.router.role() {
            Role::Active | Role::Leaving => AnnouncementState::Active,
            Role::Standby => AnnouncementState::Standby,
            Role::Down => AnnouncementState::Down,
        };
        let aside = self.router.is_aside();
        let reason = aside.then(|| ASIDE.to_owned());
        let report = AnnouncementReport {
            state,
            since_ms: self.since_ms.filter(|_| self.router.holds()),
            aside,
            reason: self.trouble.clone().or(reason),
        };
        let shown = self.wanted.standing.load();
        let is_news = shown.as_deref() != Some(&report);
        if is_news {
            self.wanted.standing.store(Some(Arc::new(report)));
        }
        is_news
    }
}

/// Takes addresses away; those that stay. Others have them, so it has to be tried again.
async fn give_up(
    held: Vec<(u32, IpAddr)>,
    remove: impl AsyncFn(u32, IpAddr) -> io::Result<()>,
) -> Vec<(u32, IpAddr)> {
    let mut stay = Vec::new();
    for (index, vip) in held {
        if let Err(error) = remove(index, vip).await {
            warn!(%vip, %error, "an address that others have cannot be taken away; it is tried again");
            stay.push((index, vip));
        }
    }
    stay
}

const ASIDE: &str = "another amphora has the addresses and is not heard: this one stands aside, as a controller says";

#[cfg(test)]
mod tests;
