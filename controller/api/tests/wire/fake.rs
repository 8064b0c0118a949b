//! An application that remembers what it was asked and answers from trees it was given.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use krater_amphora_api::Counters;
use krater_controller_api::{
    Application, Credentials, Executed, Novelty, Refused, RouteName, Settings, Unauthenticated,
    router,
};
use krater_controller_core::{
    admit,
    carried::Carried,
    catalogue::{self, Catalogue, CatalogueCommand, Edit},
    command::{Command, Operation, QuotaCommand},
    envelope::Envelope,
    model::{LoadBalancer, LoadBalancerId, ProjectId},
    query::{Answer, Caller, NetworkView, Persona, Query, ResourceId},
    quota::Limits,
    refusal::Refusal,
    rules::Rules,
    scan::{self, Among, Scan},
    tree::{Observed, TreeView},
};
use serde_json::Value;
use tower::ServiceExt;

use crate::sample;

/// The fake. It narrows nothing, so that the API's own filters are what is seen.
pub(crate) struct Fake {
    /// The trees there are.
    pub(crate) views: Mutex<Vec<TreeView>>,
    /// The networks there are.
    pub(crate) networks: Mutex<Vec<NetworkView>>,
    /// What admits commands; without it all of them are executed as they are, and change nothing.
    pub(crate) admission: Option<Admission>,
    /// The flavors and zones there are.
    pub(crate) catalogue: Mutex<Catalogue>,
    /// What the next command or query is refused with.
    pub(crate) refusal: Mutex<Option<Refusal>>,
    /// Who everybody is.
    pub(crate) caller: Mutex<Result<Caller, Unauthenticated>>,
    /// What was brought along.
    pub(crate) credentials: Mutex<Vec<Credentials>>,
    /// The commands so far.
    pub(crate) commands: Mutex<Vec<Command>>,
    /// The operations so far.
    pub(crate) operations: Mutex<Vec<Operation>>,
    /// The queries so far.
    pub(crate) queries: Mutex<Vec<Query>>,
    /// The changes of quotas so far.
    pub(crate) quota_commands: Mutex<Vec<QuotaCommand>>,
    /// What projects may have, and those for which it was set.
    pub(crate) quotas: Mutex<(Limits, Vec<ProjectId>)>,
    /// What came around the changes so far.
    pub(crate) envelopes: Mutex<Vec<Envelope>>,
    /// Whether changes count as made just now.
    pub(crate) novelty: Mutex<Novelty>,
}

/// What there is to admit commands by.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// What the deployment allows.
    pub(crate) rules: Rules,
    /// What the data plane can do.
    pub(crate) carried: Carried,
}

impl Admission {
    /// What the command makes of the trees there are, which stay as they are.
    fn admit(&self, views: &[TreeView], command: Command) -> Result<Executed, Refusal> {
        let mut number = 0xa000;
        let ids = &mut || {
            number += 1;
            sample::uuid(number)
        };
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let change = match command {
            Command::CreateLoadBalancer(new) => {
                admit::check_new(&new, &self.rules)?;
                let LoadBalancer {
                    project,
                    vip,
                    additional_vips,
                    ..
                } = sample::view().tree.load_balancer.value;
                let id = LoadBalancerId::new(sample::uuid(0x9000));
                let addresses = (vip, additional_vips);
                admit::create(*new, project, addresses, id, &self.rules, ids, now)?
            }
            command => {
                let target = command.target().expect("all others have one");
                let mut views = views.iter();
                let view = views
                    .find(|view| holds(view, target))
                    .ok_or_else(|| command.target_missing(target))?;
                let settled = view.observed.settled;
                admit::admit(view.tree.clone(), settled, command, &self.rules, ids, now)?
            }
        };
        self.carried.check(&change)?;
        Ok(Executed {
            view: TreeView {
                tree: change.tree,
                observed: Observed::default(),
            },
            subject: change.subject,
            novelty: Novelty::New,
        })
    }
}

#[async_trait]
impl Application for Fake {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated> {
        self.credentials.lock().unwrap().push(credentials.clone());
        self.caller.lock().unwrap().clone()
    }

    async fn execute(
        &self,
        _: &Caller,
        command: Command,
        envelope: &Envelope,
    ) -> Result<Executed, Refusal> {
        self.envelopes.lock().unwrap().push(envelope.clone());
        if let Some(admission) = &self.admission {
            let views = self.views.lock().unwrap().clone();
            let executed = admission.admit(&views, command.clone())?;
            self.commands.lock().unwrap().push(command);
            return Ok(executed);
        }
        let view = self.views.lock().unwrap()[0].clone();
        let subject = subject(&view, &command);
        self.commands.lock().unwrap().push(command);
        match self.refusal.lock().unwrap().take() {
            Some(refusal) => Err(refusal),
            None => Ok(Executed {
                view,
                subject,
                novelty: *self.novelty.lock().unwrap(),
            }),
        }
    }

    async fn change_quota(
        &self,
        _: &Caller,
        command: QuotaCommand,
        envelope: &Envelope,
    ) -> Result<Limits, Refusal> {
        self.envelopes.lock().unwrap().push(envelope.clone());
        self.quota_commands.lock().unwrap().push(command);
        match self.refusal.lock().unwrap().take() {
            Some(refusal) => Err(refusal),
            None => Ok(self.quotas.lock().unwrap().0),
        }
    }

    async fn operate(
        &self,
        _: &Caller,
        operation: Operation,
        envelope: &Envelope,
    ) -> Result<(), Refusal> {
        self.envelopes.lock().unwrap().push(envelope.clone());
        self.operations.lock().unwrap().push(operation);
        match self.refusal.lock().unwrap().take() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    async fn arrange(
        &self,
        _: &Caller,
        command: CatalogueCommand,
        envelope: &Envelope,
    ) -> Result<Edit, Refusal> {
        self.envelopes.lock().unwrap().push(envelope.clone());
        if let Some(refusal) = self.refusal.lock().unwrap().take() {
            return Err(refusal);
        }
        let mut catalogue = self.catalogue.lock().unwrap();
        let id = sample::uuid(0xca_0000 + u128::from(catalogue.version));
        let now = sample::moment(i64::try_from(catalogue.version).unwrap());
        let zones = ["local".to_owned(), "rack-a".to_owned()].into();
        let change = catalogue::admit(&catalogue, command, &zones, id, now)?;
        catalogue.apply(change.clone());
        Ok(change.edit)
    }

    async fn answer(&self, _: &Caller, query: Query) -> Result<Answer, Refusal> {
        self.queries.lock().unwrap().push(query.clone());
        if let Some(refusal) = self.refusal.lock().unwrap().take() {
            return Err(refusal);
        }
        let views = self.views.lock().unwrap().clone();
        let query = match query {
            Query::MembersOf(pool) => Query::Tree(ResourceId::Pool(pool)),
            query => query,
        };
        Ok(match query {
            Query::Tree(id) => {
                let view = views
                    .into_iter()
                    .find(|view| holds(view, id))
                    .ok_or(Refusal::NotFound(id))?;
                Answer::Tree(Box::new(view))
            }
            Query::Trees(_) => Answer::Trees(views),
            Query::Scan(scan) => Answer::Scan(scan::excerpts(&views, &widened(scan))),
            Query::Statistics(id) => {
                views
                    .into_iter()
                    .find(|view| holds(view, id))
                    .ok_or(Refusal::NotFound(id))?;
                Answer::Statistics(Counters {
                    active_connections: 12,
                    bytes_in: 81_923,
                    bytes_out: 612_003,
                    request_errors: 1,
                    total_connections: 4_211,
                })
            }
            Query::Profiles(family) => {
                let mut profiles = self.catalogue.lock().unwrap().profiles.clone();
                profiles.retain(|profile| profile.family() == family);
                Answer::Profiles(profiles)
            }
            Query::Offers(family) => {
                let mut offers = self.catalogue.lock().unwrap().offers.clone();
                offers.retain(|offer| offer.family == family);
                Answer::Offers(offers)
            }
            Query::Networks => Answer::Networks(self.networks.lock().unwrap().clone()),
            Query::Audit(_) => Answer::Audit(Vec::new()),
            Query::Quota(_) | Query::QuotaDefaults(_) => {
                Answer::Quota(self.quotas.lock().unwrap().0)
            }
            Query::Quotas(_) => {
                let (limits, projects) = self.quotas.lock().unwrap().clone();
                let quotas = projects.into_iter().map(|project| (project, limits));
                Answer::Quotas(quotas.collect())
            }
            Query::MembersSeen(_) => Answer::MembersSeen(Vec::new()),
            Query::CarriersSeen(_) => Answer::CarriersSeen(Vec::new()),
            Query::FailuresSeen(_) => Answer::FailuresSeen {
                since: None,
                listeners: Vec::new(),
            },
            Query::Amphorae | Query::MembersOf(_) => Answer::Amphorae(sample::amphorae()),
            Query::AmphoraStatistics(id) => sample::amphora_statistics(id)?,
        })
    }
}

/// The scan as if it were for everybody and among all, unless it is for one.
fn widened(scan: Scan) -> Scan {
    Scan {
        project: None,
        among: match scan.among {
            Among::One(id) => Among::One(id),
            _ => Among::All,
        },
        ..scan
    }
}

fn holds(view: &TreeView, id: ResourceId) -> bool {
    let tree = &view.tree;
    match id {
        ResourceId::LoadBalancer(id) => tree.load_balancer.value.id == id,
        ResourceId::Listener(id) => tree.listeners.iter().any(|row| row.value.id == id),
        ResourceId::Pool(id) => tree.pools.iter().any(|row| row.value.id == id),
        ResourceId::Member(id) => tree.members.iter().any(|row| row.value.id == id),
        ResourceId::HealthMonitor(id) => tree.health_monitors.iter().any(|row| row.value.id == id),
        ResourceId::L7Policy(id) => tree.l7_policies.iter().any(|row| row.value.id == id),
        ResourceId::L7Rule(id) => tree.l7_rules.iter().any(|row| row.value.id == id),
    }
}

fn subject(view: &TreeView, command: &Command) -> ResourceId {
    let tree = &view.tree;
    match command {
        Command::CreateLoadBalancer(_)
        | Command::UpdateLoadBalancer(..)
        | Command::FailOver(..)
        | Command::DeleteLoadBalancer(..) => ResourceId::LoadBalancer(tree.load_balancer.value.id),
        Command::CreateListener(..) | Command::UpdateListener(..) | Command::DeleteListener(..) => {
            ResourceId::Listener(tree.listeners[0].value.id)
        }
        Command::CreatePool(..)
        | Command::UpdatePool(..)
        | Command::DeletePool(..)
        | Command::BatchMembers(..) => ResourceId::Pool(tree.pools[0].value.id),
        Command::CreateMember(..) | Command::UpdateMember(..) | Command::DeleteMember(..) => {
            ResourceId::Member(tree.members[0].value.id)
        }
        Command::CreateHealthMonitor(..)
        | Command::UpdateHealthMonitor(..)
        | Command::DeleteHealthMonitor(..) => {
            ResourceId::HealthMonitor(tree.health_monitors[0].value.id)
        }
        Command::CreateL7Policy(..) | Command::UpdateL7Policy(..) | Command::DeleteL7Policy(..) => {
            ResourceId::L7Policy(tree.l7_policies[0].value.id)
        }
        Command::CreateL7Rule(..) | Command::UpdateL7Rule(..) | Command::DeleteL7Rule(..) => {
            ResourceId::L7Rule(tree.l7_rules[0].value.id)
        }
    }
}

/// The API over a fake.
pub(crate) struct Api {
    /// The fake.
    pub(crate) fake: Arc<Fake>,
    router: Router,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) text: String,
    /// Its route.
    pub(crate) route: &'static str,
    /// What the log and the audit trail are told of a refusal.
    pub(crate) refused: Option<Refused>,
}

impl Api {
    /// With one sample tree, for an administrator.
    pub(crate) fn new() -> Self {
        Self::with(Settings::default(), vec![sample::view()])
    }

    /// With other settings and trees.
    pub(crate) fn with(settings: Settings, views: Vec<TreeView>) -> Self {
        Self::build(settings, views, None)
    }

    /// With the sample tree and everything that refuses commands, but for what the data plane cannot do.
    pub(crate) fn admitting(rules: Rules) -> Self {
        let carried = Carried::everything();
        let admission = Admission { rules, carried };
        Self::build(Settings::default(), vec![sample::view()], Some(admission))
    }

    /// The same, and what the data plane cannot do is refused too.
    pub(crate) fn of_this_release() -> Self {
        let (rules, carried) = (Rules::default(), Carried::release());
        let admission = Admission { rules, carried };
        Self::build(Settings::default(), vec![sample::view()], Some(admission))
    }

    fn build(settings: Settings, views: Vec<TreeView>, admission: Option<Admission>) -> Self {
        let caller = Caller::new("admin", None, Persona::Admin);
        let fake = Arc::new(Fake {
            views: Mutex::new(views),
            networks: Mutex::new(vec![sample::network()]),
            admission,
            catalogue: Mutex::default(),
            refusal: Mutex::default(),
            caller: Mutex::new(Ok(caller)),
            credentials: Mutex::default(),
            commands: Mutex::default(),
            operations: Mutex::default(),
            queries: Mutex::default(),
            quota_commands: Mutex::default(),
            quotas: Mutex::default(),
            envelopes: Mutex::default(),
            novelty: Mutex::new(Novelty::New),
        });
        Self {
            router: router(fake.clone(), settings),
            fake,
        }
    }

    /// Lets everybody be this caller.
    pub(crate) fn be(&self, persona: Persona, project: Option<&str>) {
        let project = project.and_then(ProjectId::parse);
        *self.fake.caller.lock().unwrap() = Ok(Caller::new("someone", project, persona));
    }

    /// Refuses what comes next.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.fake.refusal.lock().unwrap() = Some(refusal);
    }

    /// The last command.
    pub(crate) fn command(&self) -> Command {
        self.fake
            .commands
            .lock()
            .unwrap()
            .last()
            .expect("no command was executed")
            .clone()
    }

    /// Lets these projects have a quota, and everybody these limits.
    pub(crate) fn set_quotas(&self, limits: Limits, projects: &[&str]) {
        let projects = projects
            .iter()
            .filter_map(|project| ProjectId::parse(project));
        *self.fake.quotas.lock().unwrap() = (limits, projects.collect());
    }

    /// What came around the last change.
    pub(crate) fn envelope(&self) -> Envelope {
        let envelopes = self.fake.envelopes.lock().unwrap();
        envelopes.last().expect("nothing was changed").clone()
    }

    /// The last change of a quota.
    pub(crate) fn quota_command(&self) -> QuotaCommand {
        let commands = self.fake.quota_commands.lock().unwrap();
        commands.last().expect("no quota was changed").clone()
    }

    /// The number of commands so far.
    pub(crate) fn command_count(&self) -> usize {
        self.fake.commands.lock().unwrap().len()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
            route: parts.extensions.get::<RouteName>().unwrap().0,
            refused: parts.extensions.get::<Refused>().cloned(),
        }
    }

    /// Sends a request without a body.
    pub(crate) async fn call(&self, method: Method, path: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "lb.example.test:9876");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// GET
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path).await
    }

    /// DELETE
    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path).await
    }

    /// POST
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.with_body(Method::POST, path, &body.to_string(), "application/json")
            .await
    }

    /// PUT
    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.with_body(Method::PUT, path, &body.to_string(), "application/json")
            .await
    }

    /// Sends a request with a body of any type.
    pub(crate) async fn with_body(
        &self,
        method: Method,
        path: &str,
        body: &str,
        content_type: &str,
    ) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type);
        self.send(
            request
                .header("host", "lb.example.test:9876")
                .body(Body::from(body.to_owned()))
                .unwrap(),
        )
        .await
    }
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// The sentence of an error in form A, after its other parts were checked.
    pub(crate) fn fault(&self) -> String {
        let body = self.json();
        let blame = if self.status.is_server_error() {
            "Server"
        } else {
            "Client"
        };
        assert_eq!(body["faultcode"], blame, "{body}");
        assert_eq!(body["debuginfo"], Value::Null, "{body}");
        assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
        body["faultstring"].as_str().unwrap().to_owned()
    }

    /// Asserts status and sentence (or a part of it) of an error in form A.
    pub(crate) fn assert_fault(&self, status: u16, sentence: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let fault = self.fault();
        assert!(
            fault.contains(sentence),
            "{fault:?} does not contain {sentence:?}"
        );
    }

    /// Asserts an error in form B.
    pub(crate) fn assert_routing_fault(&self, status: u16, title: &str, description: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.json(),
            serde_json::json!({"code": status, "title": title, "description": description})
        );
    }

    /// The ids of the objects of a list.
    pub(crate) fn ids(&self, root: &str) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let body = self.json();
        body[root]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| object["id"].as_str().unwrap().to_owned())
            .collect()
    }
}
