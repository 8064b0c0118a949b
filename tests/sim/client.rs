//! Clients: they change and look at things through any controller, at any moment, and remember what they were told.

use std::{sync::Arc, time::Duration};

use krater_amphora_api::{ListenerId, LoadBalancerId, MemberId, PoolId};
use krater_controller_api::Executed;
use krater_controller_core::{
    command::{
        BatchMode, Cascade, Command, ListenerUpdate, LoadBalancerUpdate, MemberUpdate, Operation,
        PoolParent, PoolUpdate,
    },
    envelope::{Envelope, Once},
    model::{Description, ProjectId},
    query::{Answer, Caller, Persona, Query, ResourceId},
    refusal::Refusal,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    dice::Dice,
    ledger::{Deletion, Entry, Kind, Ledger},
    mutant::Mutant,
    net::Node,
    system::System,
    wish,
};

/// A client.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) project: ProjectId,
    pub(crate) system: Arc<System>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dice: Dice,
}

/// How a request ended, as far as the client knows.
pub(crate) enum Outcome<T> {
    Done(T),
    Refused(Refusal),
    /// Nothing was done.
    NotSent,
    /// It may have been done, or not.
    Unknown,
}

impl Client {
    /// Does one thing after the other until the storm is over.
    pub(crate) async fn live(mut self) {
        while !self.system.is_calm() {
            let think = self.system.scenario.think;
            sleep(self.dice.millis(1..think * 2)).await;
            self.act().await;
        }
    }

    async fn act(&mut self) {
        if self.dice.within(0..100) < self.system.scenario.failovers {
            return self.fail_over().await;
        }
        match self.dice.within(0..100) {
            0..12 => self.create_load_balancer().await,
            12..20 => self.update(Kind::LoadBalancer).await,
            20..30 => self.create_listener().await,
            30..36 => self.update(Kind::Listener).await,
            36..39 => self.delete_one(Kind::Listener).await,
            39..45 => self.create_pool().await,
            45..49 => self.update(Kind::Pool).await,
            49..51 => self.delete_one(Kind::Pool).await,
            51..60 => self.create_member().await,
            60..66 => self.update(Kind::Member).await,
            66..69 => self.delete_one(Kind::Member).await,
            69..73 => self.batch().await,
            73..77 => self.delete_one(Kind::LoadBalancer).await,
            77..91 => self.look().await,
            _ => self.count().await,
        }
    }

    /// One of what this client made.
    fn some_own(&mut self, kind: Kind) -> Option<(Uuid, Entry)> {
        let book = self.ledger.open();
        let all = book.living(|entry| entry.kind == kind && entry.owner == self.number);
        self.dice.pick(&all).cloned()
    }

    async fn update(&mut self, kind: Kind) {
        let Some((id, entry)) = self.some_own(kind) else {
            return;
        };
        // Some change their mind at once, while what they wanted before is under way.
        let times = if self.dice.per_mille(300) { 4 } else { 1 };
        for _ in 0..times {
            self.update_one(kind, id, &entry).await;
        }
    }

    async fn update_one(&mut self, kind: Kind, id: Uuid, entry: &Entry) {
        if kind == Kind::Member {
            let weight = self.dice.within(1..257) as u16;
            let update = MemberUpdate {
                weight: Some(weight),
                ..MemberUpdate::default()
            };
            let command = Command::UpdateMember(entry.pool.unwrap(), MemberId::new(id), update);
            return self.tell(id, weight.to_string(), command).await;
        }
        let text = self.token();
        let description = Some(description(&text));
        let command = match kind {
            Kind::LoadBalancer => {
                let update = LoadBalancerUpdate {
                    description,
                    ..LoadBalancerUpdate::default()
                };
                Command::UpdateLoadBalancer(LoadBalancerId::new(id), update)
            }
            Kind::Listener => {
                let update = ListenerUpdate {
                    description,
                    ..ListenerUpdate::default()
                };
                Command::UpdateListener(ListenerId::new(id), Box::new(update))
            }
            _ => {
                let update = PoolUpdate {
                    description,
                    ..PoolUpdate::default()
                };
                Command::UpdatePool(PoolId::new(id), Box::new(update))
            }
        };
        self.tell(id, text, command).await;
    }

    async fn delete_one(&mut self, kind: Kind) {
        let Some((id, entry)) = self.some_own(kind) else {
            return;
        };
        let command = match kind {
            Kind::LoadBalancer => {
                Command::DeleteLoadBalancer(LoadBalancerId::new(id), Cascade::WithChildren)
            }
            Kind::Listener => Command::DeleteListener(ListenerId::new(id)),
            Kind::Pool => Command::DeletePool(PoolId::new(id)),
            Kind::Member => Command::DeleteMember(entry.pool.unwrap(), MemberId::new(id)),
        };
        self.delete(id, command).await;
    }

    async fn create_load_balancer(&mut self) {
        let name = self.name();
        let is_pair = self.dice.per_mille(self.system.scenario.pairs);
        let flavor = is_pair.then_some(self.system.flavor);
        let new = wish::load_balancer(&name, &self.project, flavor, &mut self.dice);
        let command = Command::CreateLoadBalancer(Box::new(new));
        let once = self.dice.per_mille(700).then(|| Once {
            key: name.clone(),
            scope: "POST /loadbalancers".to_owned(),
            digest: name.clone(),
        });
        let envelope = Envelope {
            request_id: format!("req-{name}"),
            once: once.clone(),
            ..Envelope::default()
        };
        let mut ids = Vec::new();
        // Whoever has a name for it asks until there is an answer, and now and then once more.
        for _ in 0..6 {
            match self.ask(command.clone(), &envelope).await {
                Outcome::Done(executed) => {
                    ids.push(executed.subject.uuid());
                    self.enter_all(&executed);
                    if once.is_none() || self.dice.per_mille(800) {
                        break;
                    }
                }
                Outcome::Unknown => {
                    self.ledger.open().ghosts.insert(name.clone());
                    if once.is_none() {
                        break;
                    }
                }
                Outcome::NotSent => {}
                Outcome::Refused(_) => break,
            }
            sleep(Duration::from_millis(300)).await;
        }
        ids.dedup();
        if ids.len() > 1 {
            let judge = &self.system.judge;
            judge.find(format!("{name} was asked for once and created as {ids:?}"));
        }
    }

    /// Enters what a creation made, children too.
    fn enter_all(&self, executed: &Executed) {
        let tree = &executed.view.tree;
        let lb = tree.id();
        let mut book = self.ledger.open();
        let mut enter = |id: Uuid, kind, pool, token: String| {
            let entry = Entry {
                kind,
                owner: self.number,
                project: self.project.clone(),
                load_balancer: lb,
                pool,
                token,
                maybe: Default::default(),
                deletion: Deletion::No,
            };
            book.entries.entry(id).or_insert(entry);
        };
        if executed.subject != ResourceId::LoadBalancer(lb) {
            return;
        }
        let root = &tree.load_balancer.value;
        let text = root.description.to_string();
        enter(lb.uuid(), Kind::LoadBalancer, None, text);
        // Others may have added something since it was created.
        let own = root.name.to_string();
        for row in &tree.listeners {
            if row.value.name.to_string() == own {
                let text = row.value.description.to_string();
                enter(row.value.id.uuid(), Kind::Listener, None, text);
            }
        }
        for row in &tree.pools {
            if row.value.name.to_string() == own {
                let text = row.value.description.to_string();
                enter(row.value.id.uuid(), Kind::Pool, None, text);
            }
        }
    }

    async fn create_listener(&mut self) {
        let Some(lb) = self.some_load_balancer() else {
            return;
        };
        let (name, token) = (self.name(), self.token());
        let port = self.ledger.open().fresh() as u16 + 1_000;
        let new = wish::listener(&name, &token, port, None);
        let command = Command::CreateListener(lb, Box::new(new));
        self.create(lb, None, Kind::Listener, &name, token, command)
            .await;
    }

    async fn create_pool(&mut self) {
        let Some(lb) = self.some_load_balancer() else {
            return;
        };
        let (name, token) = (self.name(), self.token());
        let parent = PoolParent {
            load_balancer: Some(lb),
            listener: None,
        };
        let new = wish::pool(&name, &token, &mut self.dice);
        let command = Command::CreatePool(parent, Box::new(new));
        self.create(lb, None, Kind::Pool, &name, token, command)
            .await;
    }

    async fn create_member(&mut self) {
        let Some((pool, entry)) = self.some_pool() else {
            return;
        };
        let name = self.name();
        let number = self.ledger.open().fresh();
        let new = wish::member(&name, number, &mut self.dice);
        let (pool, token) = (PoolId::new(pool), new.weight.to_string());
        let command = Command::CreateMember(pool, Box::new(new));
        self.create(
            entry.load_balancer,
            Some(pool),
            Kind::Member,
            &name,
            token,
            command,
        )
        .await;
    }

    /// Members that come in a batch, beside those there are.
    async fn batch(&mut self) {
        let Some((pool, _)) = self.some_pool() else {
            return;
        };
        let mut entries = Vec::new();
        for _ in 0..self.dice.within(1..4) {
            let name = self.name();
            let number = self.ledger.open().fresh();
            self.ledger.open().ghosts.insert(name.clone());
            entries.push(wish::batched(wish::member(&name, number, &mut self.dice)));
        }
        let command = Command::BatchMembers(PoolId::new(pool), entries, BatchMode::Additive);
        self.ask(command, &Envelope::default()).await;
    }

    async fn fail_over(&mut self) {
        if self.dice.per_mille(300) {
            let all = self.system.ground.amphorae();
            if let Some(amphora) = self.dice.pick(&all) {
                let operation = Operation::FailOver(amphora.id);
                self.operate(operation).await;
            }
        } else if let Some(lb) = self.some_load_balancer() {
            self.ask(Command::FailOver(lb, None, None), &Envelope::default())
                .await;
        }
    }

    /// Looks at a load balancer.
    async fn look(&mut self) {
        let Some(lb) = self.some_load_balancer() else {
            return;
        };
        let shown = self.ledger.open().shown.get(&lb).copied();
        let answer = self
            .question(Query::Tree(ResourceId::LoadBalancer(lb)))
            .await;
        let judge = Arc::clone(&self.system.judge);
        let mut book = self.ledger.open();
        match answer {
            Outcome::Done(Answer::Tree(view)) => {
                let generation = view.tree.generation();
                if Some(generation) < shown {
                    judge.find(format!(
                        "{lb} was shown at {shown:?}, and later at {generation}"
                    ));
                }
                let newest = book.shown.entry(lb).or_insert(generation);
                *newest = (*newest).max(generation);
                let found = book.compare(&view, Some(self.number));
                found.into_iter().for_each(|what| judge.find(what));
            }
            Outcome::Refused(Refusal::NotFound(_))
                if book
                    .living(|entry| entry.kind == Kind::LoadBalancer)
                    .iter()
                    .any(|(id, _)| *id == lb.uuid()) =>
            {
                judge.find(format!("lost: {lb} is not found"));
            }
            _ => {}
        }
    }

    /// Asks what a load balancer counted (I11).
    async fn count(&mut self) {
        let Some(lb) = self.some_load_balancer() else {
            return;
        };
        let before = self.ledger.open().counted.get(&lb).copied();
        let query = Query::Statistics(ResourceId::LoadBalancer(lb));
        if let Outcome::Done(Answer::Statistics(counters)) = self.question(query).await {
            let mut book = self.ledger.open();
            let is_whole = !book.entries.values().any(|entry| {
                entry.load_balancer == lb
                    && entry.kind == Kind::Listener
                    && entry.deletion != Deletion::No
            });
            let count = counters.total_connections;
            // What a deleted listener counted goes with it.
            if is_whole && Some(count) < before {
                let judge = &self.system.judge;
                judge.find(format!(
                    "I11: {lb} had {before:?} connections, and then {count}"
                ));
            }
            let most = book.counted.entry(lb).or_insert(count);
            *most = (*most).max(count);
        }
    }

    async fn create(
        &mut self,
        load_balancer: LoadBalancerId,
        pool: Option<PoolId>,
        kind: Kind,
        name: &str,
        token: String,
        command: Command,
    ) {
        match self.ask(command, &Envelope::default()).await {
            Outcome::Done(executed) => {
                let entry = Entry {
                    kind,
                    owner: self.number,
                    project: self.project.clone(),
                    load_balancer,
                    pool,
                    token,
                    maybe: Default::default(),
                    deletion: Deletion::No,
                };
                let id = executed.subject.uuid();
                self.ledger.open().entries.insert(id, entry);
            }
            Outcome::Unknown => {
                self.ledger.open().ghosts.insert(name.to_owned());
            }
            Outcome::Refused(_) | Outcome::NotSent => {}
        }
    }

    /// Has a resource say something else.
    async fn tell(&mut self, id: Uuid, token: String, command: Command) {
        let fresh = token.clone();
        if let Some(entry) = self.ledger.open().entries.get_mut(&id) {
            entry.maybe.insert(fresh);
        }
        let is_lost = self.system.mutant == Mutant::LosesWrites && self.dice.per_mille(300);
        let outcome = if is_lost {
            Outcome::Done(())
        } else {
            match self.ask(command, &Envelope::default()).await {
                Outcome::Done(_) => Outcome::Done(()),
                Outcome::Refused(refusal) => Outcome::Refused(refusal),
                Outcome::NotSent => Outcome::NotSent,
                Outcome::Unknown => Outcome::Unknown,
            }
        };
        if let Some(entry) = self.ledger.open().entries.get_mut(&id) {
            match outcome {
                Outcome::Done(()) => {
                    entry.maybe.remove(&token);
                    entry.token = token;
                }
                Outcome::Refused(_) | Outcome::NotSent => drop(entry.maybe.remove(&token)),
                Outcome::Unknown => {}
            }
        }
    }

    async fn delete(&mut self, id: Uuid, command: Command) {
        self.note_deletion(id, Deletion::Maybe);
        match self.ask(command, &Envelope::default()).await {
            Outcome::Done(_) => self.note_deletion(id, Deletion::Done),
            Outcome::Refused(_) | Outcome::NotSent => self.note_deletion(id, Deletion::No),
            Outcome::Unknown => {}
        }
    }

    fn note_deletion(&self, id: Uuid, deletion: Deletion) {
        if let Some(entry) = self.ledger.open().entries.get_mut(&id) {
            entry.deletion = deletion;
        }
    }

    /// Asks some controller to change something.
    pub(crate) async fn ask(&mut self, command: Command, envelope: &Envelope) -> Outcome<Executed> {
        let (caller, envelope) = (self.caller(), envelope.clone());
        let what = format!("{command:?}");
        let what = what.split(['(', '{']).next().unwrap_or_default().to_owned();
        let outcome = self
            .send(async move |application| application.execute(&caller, command, &envelope).await)
            .await;
        let told = match &outcome {
            Outcome::Done(executed) => format!(
                "{} of {} at {}",
                executed.subject.uuid(),
                executed.view.tree.id(),
                executed.view.tree.generation()
            ),
            Outcome::Refused(refusal) => format!("refused: {refusal}"),
            Outcome::NotSent => "not sent".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        self.system
            .trace
            .note(format_args!("client {}: {what}: {told}", self.number));
        outcome
    }

    async fn operate(&mut self, operation: Operation) {
        let caller = self.caller();
        let outcome = self
            .send(async move |application| {
                application
                    .operate(&caller, operation, &Envelope::default())
                    .await
            })
            .await;
        let is_done = matches!(outcome, Outcome::Done(()));
        self.system.trace.note(format_args!(
            "client {}: {operation:?}: {is_done}",
            self.number
        ));
    }

    pub(crate) async fn question(&mut self, query: Query) -> Outcome<Answer> {
        let caller = self.caller();
        self.send(async move |application| application.answer(&caller, query).await)
            .await
    }

    async fn send<T, F>(
        &mut self,
        request: impl FnOnce(Arc<dyn krater_controller_api::Application>) -> F,
    ) -> Outcome<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let to = self.dice.index(self.system.controllers());
        let system = Arc::clone(&self.system);
        let Some((host, controller)) = system.controller(to) else {
            return Outcome::NotSent;
        };
        let request = request(controller.application());
        let there = Node::Controller(to);
        let exchange = async {
            system.net.cross(Node::Client, there).await;
            let answer = host.run(request).await;
            system.net.cross(there, Node::Client).await;
            answer
        };
        let outcome = match timeout(PATIENCE, exchange).await {
            Ok(Some(Ok(done))) => Outcome::Done(done),
            // It may be stored though the way back from the database broke.
            Ok(Some(Err(Refusal::Unavailable(_)))) => Outcome::Unknown,
            Ok(Some(Err(Refusal::Defect(why)))) => {
                system.judge.find(format!("a defect: {why}"));
                Outcome::Unknown
            }
            Ok(Some(Err(refusal))) => Outcome::Refused(refusal),
            Ok(None) | Err(_) => Outcome::Unknown,
        };
        let mut book = self.ledger.open();
        match &outcome {
            Outcome::Done(_) => book.acknowledged += 1,
            Outcome::Refused(_) => book.refused += 1,
            Outcome::NotSent => {}
            Outcome::Unknown => book.unknown += 1,
        }
        outcome
    }

    fn some_load_balancer(&mut self) -> Option<LoadBalancerId> {
        let all = {
            let book = self.ledger.open();
            book.living(|entry| entry.kind == Kind::LoadBalancer && entry.project == self.project)
        };
        let (id, _) = self.dice.pick(&all)?;
        Some(LoadBalancerId::new(*id))
    }

    fn some_pool(&mut self) -> Option<(Uuid, Entry)> {
        let all = {
            let book = self.ledger.open();
            book.living(|entry| entry.kind == Kind::Pool && entry.owner == self.number)
        };
        self.dice.pick(&all).cloned()
    }

    fn name(&self) -> String {
        format!("n{}", self.ledger.open().fresh())
    }

    fn token(&self) -> String {
        format!("t{}", self.ledger.open().fresh())
    }

    fn caller(&self) -> Caller {
        Caller::new("somebody", Some(self.project.clone()), Persona::Admin)
    }
}

fn description(text: &str) -> Description {
    Description::parse(text.to_owned()).unwrap()
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
