//! Writers that edit without a pause, at whichever controller answers, and note what they were told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::ground::{Balancer, FIRST_DESCRIPTION};
use crate::octavia::Octavia;

/// Somebody who edits load balancers that nobody else edits.
#[derive(Debug)]
pub(super) struct Writer {
    balancers: Vec<Balancer>,
    first_api: usize,
    pause: Duration,
}

/// What a writer was told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) acknowledged: u64,
    pub(super) unanswered: u64,
    /// By load balancer.
    pub(super) pages: BTreeMap<String, Page>,
    /// Load balancers that the writer made: the status of a GET, by what was acknowledged.
    pub(super) balancers: BTreeMap<String, u16>,
}

/// What is known of a load balancer that is edited.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) pool: String,
    /// Members that have to be there, and those that have not.
    pub(super) present: BTreeSet<String>,
    pub(super) absent: BTreeSet<String>,
    /// The last description that was acknowledged, and those after it that may have come about.
    pub(super) descriptions: Vec<String>,
    /// Members in the order in which they were made.
    order: VecDeque<String>,
}

/// Controllers, of which the next one is asked when one does not answer.
struct Controllers {
    apis: Vec<Octavia>,
    at: usize,
    acknowledged: u64,
    unanswered: u64,
}

impl Writer {
    /// Each with load balancers of its own and, at first, a controller of its own; the last one makes its load balancers.
    pub(super) fn all(balancers: &[Balancer], controllers: usize, pause: Duration) -> Vec<Self> {
        let writer = |number: usize| {
            let own = balancers.iter().enumerate();
            let own = own.filter(|(at, _)| at % EDITORS == number);
            Self {
                balancers: own.map(|(_, balancer)| balancer.clone()).collect(),
                first_api: number % controllers,
                pause,
            }
        };
        (0..=EDITORS).map(writer).collect()
    }

    /// Edits until told to rest.
    pub(super) fn work(&self, apis: &[SocketAddr], subnet: &str, rest: &AtomicBool) -> Ledger {
        let mut controllers = Controllers {
            apis: apis.iter().copied().map(Octavia::new).collect(),
            at: self.first_api,
            acknowledged: 0,
            unanswered: 0,
        };
        let mut ledger = Ledger::default();
        for balancer in &self.balancers {
            let page = Page {
                pool: balancer.pool.clone(),
                present: BTreeSet::new(),
                absent: BTreeSet::new(),
                descriptions: vec![FIRST_DESCRIPTION.to_owned()],
                order: VecDeque::new(),
            };
            ledger.pages.insert(balancer.id.clone(), page);
        }
        for round in 0_usize.. {
            if rest.load(Ordering::Relaxed) {
                break;
            }
            if self.balancers.is_empty() {
                make_and_delete(&mut controllers, subnet, &mut ledger, round);
            } else {
                let balancer = &self.balancers[round % self.balancers.len()];
                let page = ledger.pages.get_mut(&balancer.id).expect("a page of each");
                edit(&mut controllers, &balancer.id, page, round);
            }
            thread::sleep(self.pause);
        }
        ledger.acknowledged = controllers.acknowledged;
        ledger.unanswered = controllers.unanswered;
        ledger
    }
}

/// A member comes, the load balancer is described anew, and the oldest of several members goes.
fn edit(controllers: &mut Controllers, id: &str, page: &mut Page, round: usize) {
    let path = format!("pools/{}/members", page.pool);
    let address = format!("10.250.{}.{}", round / 250 % 250, 1 + round % 250);
    let member = json!({"member": {"address": address, "protocol_port": 9, "weight": 0}});
    if let Some(created) = controllers.call("POST", &path, Some(&member), 201)
        && let Some(member) = created["member"]["id"].as_str()
    {
        page.present.insert(member.to_owned());
        page.order.push_back(member.to_owned());
    }
    let description = format!("round {round}");
    let body = json!({"loadbalancer": {"description": description}});
    page.descriptions.push(description);
    let put = controllers.call("PUT", &format!("loadbalancers/{id}"), Some(&body), 200);
    if put.is_some() {
        page.descriptions.drain(..page.descriptions.len() - 1);
    }
    if page.order.len() > MEMBERS_MAX
        && let Some(member) = page.order.pop_front()
    {
        // From the moment it is asked to go it may be there or not.
        page.present.remove(&member);
        let deleted = controllers.call("DELETE", &format!("{path}/{member}"), None, 204);
        if deleted.is_some() {
            page.absent.insert(member);
        }
    }
}

/// A load balancer with all below it comes, and the one before it goes.
fn make_and_delete(controllers: &mut Controllers, subnet: &str, ledger: &mut Ledger, round: usize) {
    let before = ledger.balancers.iter().find(|(_, status)| **status == 200);
    let before = before.map(|(id, _)| id.clone());
    let pool = json!({"name": "p", "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"});
    let listener = json!({"protocol": "TCP", "protocol_port": 80, "default_pool": pool});
    let body = json!({"loadbalancer": {
        "name": format!("passing-{round}"), "vip_subnet_id": subnet, "listeners": [listener],
    }});
    if let Some(created) = controllers.call("POST", "loadbalancers", Some(&body), 201)
        && let Some(id) = created["loadbalancer"]["id"].as_str()
    {
        ledger.balancers.insert(id.to_owned(), 200);
    }
    let Some(id) = before else { return };
    let path = format!("loadbalancers/{id}?cascade=true");
    ledger.balancers.remove(&id);
    if controllers.call("DELETE", &path, None, 204).is_some() {
        ledger.balancers.insert(id, 404);
    }
}

impl Controllers {
    /// The body of the answer, if it is the wanted one.
    fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        wanted: u16,
    ) -> Option<Value> {
        match self.apis[self.at].try_call(method, path, body) {
            Ok(reply) if reply.status == wanted => {
                self.acknowledged += 1;
                return Some(reply.body);
            }
            Ok(reply) if reply.status < 500 => {
                eprintln!("{method} {path}: {} {}", reply.status, reply.body)
            }
            _ => {}
        }
        self.unanswered += 1;
        self.at = (self.at + 1) % self.apis.len();
        None
    }
}

const EDITORS: usize = 3;
/// Members without weight that each pool keeps.
const MEMBERS_MAX: usize = 6;
