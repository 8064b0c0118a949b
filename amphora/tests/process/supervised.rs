//! `krater-amphora supervise`: an agent that is always there.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getsid};

use crate::{
    managed::{Bench, spec},
    rig::{Member, PATIENCE, Process, body, free_port, is_alive, send, wait_for},
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
    fs::write(bench.path("certificate.pem"), "nothing").unwrap();
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

/// The agent once it is another one.
fn next_agent(bench: &Bench, before: &Agent) -> Agent {
    let pid = wait_for("another agent", || {
        let pid = i32::try_from(bench.wait_until_it_listens().pid).unwrap();
        (pid != before.0).then_some(pid)
    });
    Agent(pid)
}

/// A connection that the agent has, and that waits for its next request.
fn idle_connection(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"one") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{answer:?}");
        answer.extend_from_slice(&byte);
    }
    stream
}

#[test]
fn an_agent_that_is_told_to_hand_over_and_has_no_successor_asks_for_one() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let (mut supervisor, agent) = supervised(&bench, port, &one);
    send(agent.0, Signal::USR2);
    let next = next_agent(&bench, &agent);
    assert_eq!(body(port).unwrap(), "one");
    assert_eq!(bench.put(&spec(2, port, &one)).0, 200);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_for_end().code(), Some(0));
    assert!(!is_alive(agent.0) && !is_alive(next.0));
}

#[test]
fn an_agent_without_a_supervisor_hands_over_to_nobody_whoever_tells_it_to() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let (mut supervisor, agent) = supervised(&bench, port, &one);
    supervisor.signal(Signal::KILL);
    supervisor.wait_for_end();
    send(agent.0, Signal::USR2);
    supervisor.wait_for_log("no supervisor holds the listening sockets: serving on");
    assert_eq!(body(port).unwrap(), "one");
    // Another one, which has none of its sockets, passes the order on.
    let next = bench.start("supervise");
    next.wait_for_log("waiting for it to end");
    next.signal(Signal::USR2);
    wait_for("it is told again", || {
        (supervisor.log().matches("serving on").count() == 2).then_some(())
    });
    assert_eq!(body(port).unwrap(), "one");
    assert_eq!(bench.put(&spec(2, port, &one)).0, 200);
    assert_eq!(agent_of(&bench).0, agent.0);
    next.signal(Signal::TERM);
    wait_for("the agent to be gone", || {
        (!is_alive(agent.0)).then_some(())
    });
}

#[test]
fn an_agent_that_comes_to_itself_after_its_successor_was_given_up_serves_on() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let (mut supervisor, agent) = supervised(&bench, port, &one);
    send(agent.0, Signal::STOP);
    supervisor.signal(Signal::USR2);
    wait_for("it is told to let go", || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.0)).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let pending = u64::from_str_radix(pending.unwrap().trim(), 16).unwrap();
        (pending & 1 << (Signal::USR2.as_raw() - 1) != 0).then_some(())
    });
    let children = format!("/proc/{0}/task/{0}/children", supervisor.pid());
    let children = fs::read_to_string(children).unwrap();
    let mut successors = children.split_whitespace().map(|pid| pid.parse().unwrap());
    send(
        successors.find(|pid| *pid != agent.0).unwrap(),
        Signal::KILL,
    );
    supervisor.wait_for_log("the successor does not serve");
    send(agent.0, Signal::CONT);
    // It finds that nobody waits, and asks for another one.
    let next = next_agent(&bench, &agent);
    assert_eq!(body(port).unwrap(), "one");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_for_end().code(), Some(0));
    assert!(!is_alive(next.0));
}

#[test]
fn those_that_have_a_successor_end_no_later_than_it_does() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let (mut supervisor, agent) = supervised(&bench, port, &one);
    let _idle = idle_connection(port);
    supervisor.signal(Signal::USR2);
    let next = next_agent(&bench, &agent);
    assert!(is_alive(agent.0));
    // It does not end when it is asked to, and is killed in the end.
    send(next.0, Signal::STOP);
    supervisor.signal(Signal::TERM);
    wait_for("the one before to be gone", || {
        (!is_alive(agent.0)).then_some(())
    });
    assert!(is_alive(next.0));
    assert_eq!(supervisor.wait_for_end().code(), Some(0));
    assert!(!is_alive(next.0));
}

#[test]
fn one_that_has_a_successor_ends_when_it_takes_too_much_memory() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    bench.configure("upgrade_memory_max = \"1MiB\"\n");
    let port = free_port();
    let (supervisor, agent) = supervised(&bench, port, &one);
    let mut idle = idle_connection(port);
    supervisor.signal(Signal::USR2);
    let next = next_agent(&bench, &agent);
    supervisor.wait_for_log("takes too much memory: its connections are cut");
    wait_for("the one before to be gone", || {
        (!is_alive(agent.0)).then_some(())
    });
    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
    // It has ended when it was asked to.
    assert!(!supervisor.log().contains("is killed"));
    assert!(is_alive(next.0));
    assert_eq!(body(port).unwrap(), "one");
}
