//! `krater-amphora supervise`: an agent that is always there.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getsid};

use crate::{
    managed::{Bench, spec},
    rig::{Member, Process, body, free_port, is_alive, send, wait_for},
};

/// A supervised agent may outlive its supervisor: it ends with the test.
struct Agent(i32);

impl Drop for Agent {
    fn drop(&mut self) {
        if is_alive(self.0) {
            send(self.0, Signal::KILL);
        }
    }
}

fn agent_of(bench: &Bench) -> Agent {
    Agent(i32::try_from(bench.wait_until_it_listens().pid).unwrap())
}

fn supervised(bench: &Bench, port: u16, member: &Member) -> (Process, Agent) {
    let supervisor = bench.start("supervise");
    let agent = agent_of(bench);
    assert_ne!(agent.0, supervisor.pid());
    let session = |pid| getsid(Pid::from_raw(pid)).unwrap().as_raw_nonzero().get();
    assert_eq!(
        (session(supervisor.pid()), session(agent.0)),
        (supervisor.pid(), supervisor.pid())
    );
    assert_eq!(bench.put(&spec(1, port, member)).0, 200);
    assert_eq!(body(port).unwrap(), "one");
    (supervisor, agent)
}

#[test]
fn a_killed_agent_is_back_with_traffic_in_under_a_second() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let (mut supervisor, agent) = supervised(&bench, port, &one);
    let began = Instant::now();
    send(agent.0, Signal::KILL);
    wait_for("the agent to be gone", || {
        (!is_alive(agent.0)).then_some(())
    });
    wait_for("traffic", || body(port));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let next = agent_of(&bench);
    assert_ne!(next.0, agent.0);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_for_end().code(), Some(0));
    assert!(!is_alive(next.0), "a supervisor ends after its agent");
}

#[test]
fn an_agent_outlives_its_supervisor_and_the_next_one_waits_for_it() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let (mut supervisor, agent) = supervised(&bench, port, &one);
    supervisor.signal(Signal::KILL);
    supervisor.wait_for_end();
    assert_eq!(body(port).unwrap(), "one");
    let mut next = bench.start("supervise");
    next.wait_for_log("waiting for it to end");
    assert!(next.has_ended().is_none());
    assert!(is_alive(agent.0));
    send(agent.0, Signal::KILL);
    wait_for("the agent to be gone", || {
        (!is_alive(agent.0)).then_some(())
    });
    wait_for("traffic under the next supervisor", || body(port));
    let last = agent_of(&bench);
    next.signal(Signal::TERM);
    assert_eq!(next.wait_for_end().code(), Some(0));
    assert!(!is_alive(last.0));
}

#[test]
fn a_waiting_supervisor_that_is_asked_to_end_ends_the_agent_it_waits_for() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let (mut supervisor, agent) = supervised(&bench, free_port(), &one);
    supervisor.signal(Signal::KILL);
    supervisor.wait_for_end();
    let mut next = bench.start("supervise");
    next.wait_for_log("waiting for it to end");
    next.signal(Signal::TERM);
    assert_eq!(next.wait_for_end().code(), Some(0));
    assert!(!is_alive(agent.0));
}

#[test]
fn bad_settings_are_not_tried_again() {
    let bench = Bench::new();
    std::fs::write(bench.path("certificate.pem"), "nothing").unwrap();
    let mut supervisor = bench.start("supervise");
    assert_eq!(supervisor.wait_for_end().code(), Some(78));
    supervisor.wait_for_log("it holds no certificate");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let mut supervisor = bench.start_unheard("supervise");
    let agent = agent_of(&bench);
    assert_eq!(bench.put(&spec(1, port, &one)).0, 200);
    // Refusals that quote an unknown field fill any pipe, while the reader hangs.
    let mut wordy = spec(2, port, &one);
    wordy["x".repeat(50_000)] = 1.into();
    for _ in 0..20 {
        assert_eq!(bench.put(&wordy).0, 400);
    }
    assert_eq!(body(port).unwrap(), "one");
    supervisor.hang_up();
    assert_eq!(bench.put(&spec(2, port, &one)).0, 200);
    send(agent.0, Signal::KILL);
    wait_for("the agent to be gone", || {
        (!is_alive(agent.0)).then_some(())
    });
    wait_for("traffic", || body(port));
    let next = agent_of(&bench);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_for_end().code(), Some(0));
    assert!(!is_alive(next.0));
}
