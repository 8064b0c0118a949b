//! The line to an amphora: what it says, and what becomes of it when the amphora does not play along.

use std::sync::Mutex;

use axum::{Router, body::Body, extract::Request, response::Response};
use http::Uri;
use krater_amphora_api::{ContractVersion, LoadBalancerReport, Subject};
use tokio::{net::TcpListener, task::JoinHandle};
use uuid::Uuid;

use super::*;
use crate::{
    clock,
    dial::Tls,
    pki::{Authority, tls::Credentials},
    serve::{Site, serve},
};

const ID: AmphoraId = AmphoraId::new(Uuid::from_u128(1));

/// An agent that answers what it is told to, over real TLS.
struct Agent {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    asked: Arc<Mutex<Vec<(Method, Uri)>>>,
}

type Answerer = fn(&Method, &str) -> Option<(StatusCode, String)>;

impl Agent {
    async fn start(authority: &Authority, id: AmphoraId, answer: Answerer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let router = Router::new().fallback(move |request: Request| {
            let log = Arc::clone(&log);
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                log.lock()
                    .unwrap()
                    .push((method.clone(), request.uri().clone()));
                let answer = match path.as_str() {
                    "/v1/info" => Some((StatusCode::OK, serde_json::to_string(&info(id)).unwrap())),
                    "/v1/report" => {
                        Some((StatusCode::OK, serde_json::to_string(&report(id)).unwrap()))
                    }
                    path => answer(&method, path),
                };
                let Some((status, body)) = answer else {
                    std::future::pending().await
                };
                Response::builder()
                    .status(status)
                    .body(Body::from(body))
                    .unwrap()
            }
        });
        let identity = authority.amphora(id, clock::now()).unwrap();
        let credentials = Some(Arc::new(Credentials::of(authority, identity).unwrap()));
        let site = Site {
            router,
            connections_max: 8,
            header_timeout: Duration::from_secs(10),
            credentials,
        };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, site, stopped));
        Self {
            address,
            stop,
            serving,
            asked,
        }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
    }
}

fn info(id: AmphoraId) -> Info {
    Info {
        amphora: id,
        boot: BootId::new(Uuid::from_u128(9)),
        contract: ContractVersion::CURRENT,
        version: "0.0.0".to_owned(),
        pid: 1,
        workers: 1,
        addresses: Vec::new(),
    }
}

fn report(id: AmphoraId) -> Report {
    Report {
        info: info(id),
        sequence: 1,
        load_balancers: Vec::new(),
        metrics_port: None,
    }
}

fn spec() -> SnapshotSpec {
    let id = LoadBalancerId::new(Uuid::from_u128(5));
    SnapshotSpec {
        load_balancer: id,
        name: String::new(),
        generation: Generation::FIRST,
        enabled: true,
        vips: Vec::new(),
        listeners: Vec::new(),
        pools: Vec::new(),
        takes_over: false,
        member_drain_ms: None,
        announcement: None,
        session_peers: Vec::new(),
    }
}

fn applied() -> String {
    serde_json::to_string(&Applied {
        generation: Generation::FIRST,
        report: report_of(),
    })
    .unwrap()
}

fn report_of() -> LoadBalancerReport {
    LoadBalancerReport {
        announcement: None,
        id: spec().load_balancer,
        generation: Generation::FIRST,
        listeners: Vec::new(),
        pools: Vec::new(),
    }
}

/// A client with the authority it trusts, and the reports it asks for.
struct Desk {
    _folder: tempfile::TempDir,
    authority: Authority,
    client: AmphoraClient,
    reports: mpsc::Receiver<Report>,
}

impl Desk {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), clock::now()).unwrap();
        let credentials = Arc::new(Credentials::load(&authority, clock::now()).unwrap());
        let (sender, reports) = mpsc::channel(8);
        let client = AmphoraClient::start(ID, Arc::new(Tls::new(credentials)), sender);
        Self {
            _folder: folder,
            authority,
            client,
            reports,
        }
    }

    async fn connect(&self, agent: &Agent) {
        self.client.direct(agent.address);
        timeout(Duration::from_secs(10), self.client.reachable())
            .await
            .expect("it never was connected");
    }
}

fn well(method: &Method, path: &str) -> Option<(StatusCode, String)> {
    assert!(path.starts_with("/v1/load-balancers/"), "{path}");
    match *method {
        Method::PUT => Some((StatusCode::OK, applied())),
        _ => Some((
            StatusCode::NOT_FOUND,
            "{\"message\":\"there is none\"}".to_owned(),
        )),
    }
}

#[tokio::test]
async fn it_pushes_and_removes_and_asks_for_a_report_when_it_connects() {
    let mut desk = Desk::open();
    let agent = Agent::start(&desk.authority, ID, well).await;
    desk.connect(&agent).await;
    let asked_for = timeout(Duration::from_secs(10), desk.reports.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(asked_for, report(ID));
    assert_eq!(desk.client.boot(), Some(info(ID).boot));
    assert_eq!(
        desk.client.push(&spec()).await.unwrap().generation,
        Generation::FIRST
    );
    desk.client
        .remove(spec().load_balancer, Generation::FIRST, Departure::Ends)
        .await
        .unwrap();
    let last = agent.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.1.query(), Some("generation=1"));
}

#[tokio::test]
async fn a_refusal_comes_with_its_reasons() {
    let desk = Desk::open();
    let agent = Agent::start(&desk.authority, ID, |_, _| {
        let rejections = vec![Rejection {
            subject: Subject::LoadBalancer,
            reason: "no vip".to_owned(),
        }];
        let error = ApplyError {
            message: "refused".to_owned(),
            rejections,
            held: None,
        };
        Some((
            StatusCode::UNPROCESSABLE_ENTITY,
            serde_json::to_string(&error).unwrap(),
        ))
    })
    .await;
    desk.connect(&agent).await;
    match desk.client.push(&spec()).await.unwrap_err() {
        AgentError::Refused { rejections, .. } => assert_eq!(rejections[0].reason, "no vip"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newer_generation_and_a_full_disk_are_told_apart() {
    let desk = Desk::open();
    let agent = Agent::start(&desk.authority, ID, |method, _| {
        let held = (*method == Method::PUT).then_some(Generation::FIRST.next());
        let status = if held.is_some() {
            StatusCode::CONFLICT
        } else {
            StatusCode::INSUFFICIENT_STORAGE
        };
        let error = ApplyError {
            message: "no room".to_owned(),
            rejections: Vec::new(),
            held,
        };
        Some((status, serde_json::to_string(&error).unwrap()))
    })
    .await;
    desk.connect(&agent).await;
    assert_eq!(
        desk.client.push(&spec()).await,
        Err(AgentError::Holds(Generation::FIRST.next()))
    );
    let full = desk
        .client
        .remove(spec().load_balancer, Generation::FIRST, Departure::Ends)
        .await;
    assert_eq!(full, Err(AgentError::Unreachable("no room".to_owned())));
}

#[tokio::test]
async fn an_agent_that_ends_fails_calls_at_once_and_is_found_again() {
    let desk = Desk::open();
    let agent = Agent::start(&desk.authority, ID, well).await;
    desk.connect(&agent).await;
    let gone = desk.client.changes();
    agent.end().await;
    timeout(Duration::from_secs(10), gone)
        .await
        .expect("nobody noticed");
    assert!(matches!(
        desk.client.push(&spec()).await,
        Err(AgentError::Unreachable(_))
    ));
    let again = Agent::start(&desk.authority, ID, well).await;
    desk.connect(&again).await;
    desk.client.push(&spec()).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_is_given_up() {
    let desk = Desk::open();
    let agent = Agent::start(&desk.authority, ID, |_, _| None).await;
    desk.connect(&agent).await;
    let error = desk.client.push(&spec()).await.unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
}

#[tokio::test]
async fn another_amphora_at_the_same_address_is_not_taken_for_the_right_one() {
    let desk = Desk::open();
    let other = AmphoraId::new(Uuid::from_u128(2));
    let agent = Agent::start(&desk.authority, other, well).await;
    desk.client.direct(agent.address);
    let refused = async {
        loop {
            match desk.client.push(&spec()).await {
                Err(AgentError::Unreachable(reason)) if reason.contains("certificate") => return,
                Err(AgentError::Unreachable(_)) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(10), refused)
        .await
        .expect("nobody said why");
    assert!(agent.asked.lock().unwrap().is_empty());
}
