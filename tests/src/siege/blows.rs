//! The kills, and what a service manager does after each.

use std::{thread, time::Duration};

use crate::{krater::send, process::Signal, wait::until};

use super::ground::Ground;

/// What is killed, without a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// One of the controllers.
    Controller,
    /// The database server.
    Database,
    /// The processes of a host that carry traffic.
    Amphora,
    /// The supervisors of a host.
    Supervisor,
    /// The agent of a host.
    HostAgent,
    /// All processes of a host, and its cable: the machine is gone for a while.
    Host,
}

impl Blow {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Controller,
        Self::Database,
        Self::Amphora,
        Self::Supervisor,
        Self::HostAgent,
        Self::Host,
    ];

    /// The one of that name, with or without a blank.
    ///
    /// # Errors
    /// A sentence that says which there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace(' ', "-");
        let found = Self::ALL
            .into_iter()
            .find(|blow| plain(blow.name()) == plain(name));
        found.ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|blow| plain(blow.name())).collect();
            format!("what is killed is one of {}", all.join(", "))
        })
    }

    /// How it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Database => "database",
            Self::Amphora => "amphora",
            Self::Supervisor => "supervisor",
            Self::HostAgent => "host agent",
            Self::Host => "host",
        }
    }
}

/// Kills, and starts again what nobody else starts again. Gives who it was.
pub(super) fn strike(ground: &mut Ground, blow: Blow, round: usize) -> String {
    let hosts = ground.hosts.len();
    match blow {
        Blow::Controller => {
            let at = round % ground.controllers.len();
            ground.controllers[at].kill_controller();
            thread::sleep(RESTART);
            ground.controllers[at].resume();
            return format!("{}", at + 1);
        }
        Blow::Database => {
            ground.database.kill();
            thread::sleep(RESTART);
            ground.database.resume();
            return String::new();
        }
        _ => {}
    }
    // A host whose supervisor was killed holds no sockets until its amphora was started anew, so its amphora comes first.
    let at = match blow {
        Blow::HostAgent => (round + 2) % hosts,
        Blow::Host => (round + 3) % hosts,
        _ => round % hosts,
    };
    let place = &ground.places().hosts[at];
    let host = &mut ground.hosts[at];
    match blow {
        Blow::Amphora => kill(&host.carriers(), || host.carriers()),
        Blow::Supervisor => kill(&host.supervisors(), || host.supervisors()),
        Blow::HostAgent => {
            host.program().kill();
            thread::sleep(RESTART);
            place.run(|| host.resume());
        }
        _ => {
            ground.cable(at, false);
            let host = &mut ground.hosts[at];
            host.die();
            until("the host is dead", DEAD_MAX, || host.processes().is_empty());
            thread::sleep(AWAY);
            ground.boot(at);
            let host = &mut ground.hosts[at];
            place.run(|| host.resume());
        }
    }
    format!("of host {}", at + 1)
}

fn kill(pids: &[u32], alive: impl Fn() -> Vec<u32>) {
    for pid in pids {
        send(*pid, Signal::KILL);
    }
    until("what was killed is dead", DEAD_MAX, || {
        let alive = alive();
        pids.iter().all(|pid| !alive.contains(pid))
    });
}

/// What service managers wait before they start something again.
const RESTART: Duration = Duration::from_secs(1);
/// How long a host is away: longer than it takes to be given up.
const AWAY: Duration = Duration::from_secs(10);
const DEAD_MAX: Duration = Duration::from_secs(20);
