//! The parent of an agent: starts it, starts it again at once when it dies, holds its listening sockets meanwhile, and
//! stays out of its way. Told to, by SIGUSR2 or by the agent, it has the program that is on disk by then take over (D53).
//!
//! It may itself be killed: the agent lives on, and the next supervisor waits for it instead of failing.

use std::{
    convert::Infallible,
    ffi::OsString,
    io, mem,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::PathBuf,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::LocalBoxFuture;
use krater_amphora_api::AmphoraId;
use rustix::process::{Pid, kill_process, setsid};
use tokio::{
    io::unix::AsyncFd,
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    agent::chain,
    announce::let_go_for,
    config::BAD_CONFIGURATION,
    custody::Custodian,
    keep::{Holder, StateLock},
    limits::{JOIN_EACH, RESTART_PAUSE_MAX, RESTART_PAUSE_MIN, RESUME_TIME_MAX},
    network::{self, Lodging},
};

mod predecessors;
mod succession;

use predecessors::Predecessors;
use succession::Failed;

/// What to keep alive.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// Arguments of the child, the verb first.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) state_dir: PathBuf,
    /// How long the child needs to end when asked to.
    pub(crate) drain: Duration,
    /// Who lives in a namespace of its own, and on which network.
    pub(crate) network: Option<(AmphoraId, network::Settings)>,
    pub(crate) upgrade: Upgrade,
}

/// What processes get that have a successor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgrade {
    /// How long their connections may go on.
    pub(crate) drain: Duration,
    /// Resident bytes beyond which they are ended.
    pub(crate) memory_max: u64,
}

/// How supervision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The agent ended by itself, or because it was asked to.
    Done,
    /// The agent refuses its configuration: starting it again would not help.
    BadConfiguration,
}

impl Supervisor {
    /// Runs until the agent ends for good.
    pub(crate) fn run(self) -> io::Result<End> {
        // A session of its own, so that a Ctrl-C meant for a controller in a terminal does not reach the data plane.
        // Refused when this process leads a group already, which serves the same end.
        let _ = setsid();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.supervise())
    }

    async fn supervise(self) -> io::Result<End> {
        let mut orders = Orders::watch()?;
        let mut backoff = Backoff::default();
        let mut custodian = Custodian::default();
        let mut lodging = None;
        let mut predecessors = Predecessors::new(self.upgrade, self.drain);
        let end = self
            .supervise_agents(
                &mut orders,
                &mut backoff,
                &mut custodian,
                &mut lodging,
                &mut predecessors,
            )
            .await;
        // Nobody would look after them, or after where they live.
        predecessors.end();
        predecessors.ended().await;
        // Whoever lives on there, if this fails, has the namespace still.
        if let Some(lodging) = &lodging
            && end.is_ok()
        {
            lodging.leave()?;
        }
        end
    }

    async fn supervise_agents(
        &self,
        orders: &mut Orders,
        backoff: &mut Backoff,
        custodian: &mut Custodian,
        lodging: &mut Option<Lodging>,
        predecessors: &mut Predecessors,
    ) -> io::Result<End> {
        let mut is_first = true;
        loop {
            if self.wait_for_living_agent(orders).await? == Living::AskedToEnd {
                return Ok(End::Done);
            }
            let started = self
                .provide(lodging)
                .and_then(|()| self.start(Task::Begin, lodging.as_ref()));
            let mut agent = match started {
                Ok(agent) => agent,
                // Whoever started this one is there, and has to know.
                Err(error) if mem::take(&mut is_first) => return Err(error),
                // What is held is wanted still, and what is missing may come back.
                Err(error) => {
                    error!(%error, "the agent cannot be started; it is tried again");
                    self.let_go(None, Duration::ZERO, lodging.as_ref()).await;
                    let pause = backoff.after(Duration::ZERO).max(RESTART_PAUSE_MIN);
                    if rest(pause, orders).await == Rest::AskedToEnd {
                        return Ok(End::Done);
                    }
                    continue;
                }
            };
            is_first = false;
            info!(pid = agent.child.id(), "the agent was started");
            let attended = {
                // What the one before had is kept for this one, as long as it comes up.
                let pid = agent.child.id();
                let lodging = lodging.as_ref();
                let beside = async {
                    self.let_go(pid, RESUME_TIME_MAX, lodging).await;
                    keep_joined(lodging).await
                };
                let attending =
                    self.attend_all(&mut agent, orders, custodian, lodging, predecessors);
                tokio::select! {
                    ended = attending => ended?,
                    never = beside => match never {},
                }
            };
            let Some((status, asked)) = attended else {
                error!(
                    "the agent let go of its state too late for its successor: another one is started"
                );
                predecessors.add(agent.child);
                continue;
            };
            match status.code() {
                Some(0) => return Ok(End::Done),
                Some(code) if code == i32::from(BAD_CONFIGURATION) => {
                    self.let_go(None, Duration::ZERO, lodging.as_ref()).await;
                    return Ok(End::BadConfiguration);
                }
                _ if asked => {
                    warn!(%status, "the agent did not end well");
                    self.let_go(None, Duration::ZERO, lodging.as_ref()).await;
                    return Ok(End::Done);
                }
                code => error!(
                    code,
                    signal = status.signal(),
                    "the agent died and is started again"
                ),
            }
            let pause = backoff.after(agent.began.elapsed());
            if !pause.is_zero() {
                // It keeps dying: others do better.
                self.let_go(None, Duration::ZERO, lodging.as_ref()).await;
            }
            sleep(pause).await;
        }
    }

    /// Lets go of the addresses of an agent that has died, if nobody alive has taken them on after `patience`: neither
    /// `next`, which was started for that, nor whoever has the state folder by then.
    async fn let_go(&self, next: Option<u32>, patience: Duration, lodging: Option<&Lodging>) {
        let_go_for(&self.state_dir, patience, lodging, |process| {
            let holder = StateLock::holder(&self.state_dir);
            let holder = holder.ok().and_then(Holder::process);
            [next, holder].contains(&Some(process))
        })
        .await;
    }

    /// Makes the namespace that the agent is to live in, or sees to it that the one before it had is as it was.
    fn provide(&self, lodging: &mut Option<Lodging>) -> io::Result<()> {
        match (&self.network, &lodging) {
            (Some(_), Some(lodging)) => lodging.join(),
            (Some((id, network)), None) => {
                *lodging = Some(Lodging::make(*id, network)?);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// Attends to an agent and to those that take its place. Answers how the last one ended, and whether it had been asked
    /// to; or `None` if it lives and has let go of its state.
    async fn attend_all(
        &self,
        agent: &mut Agent,
        orders: &mut Orders,
        custodian: &mut Custodian,
        lodging: Option<&Lodging>,
        predecessors: &mut Predecessors,
    ) -> io::Result<Option<(ExitStatus, bool)>> {
        loop {
            let attended = self.attend(agent, orders, custodian, lodging, predecessors);
            match attended.await? {
                Attended::Ended { status, asked } => return Ok(Some((status, asked))),
                Attended::LetGo => return Ok(None),
                Attended::Succeeded(successor) => {
                    predecessors.add(mem::replace(agent, *successor).child);
                }
            }
        }
    }

    /// Starts an agent, with its end of the socket over which listening sockets are held for it.
    fn start(&self, task: Task, lodging: Option<&Lodging>) -> io::Result<Agent> {
        let (socket, input) = Custodian::connect()?;
        // The link and not its target: a binary that was replaced is the one to be started.
        let program = std::env::current_exe()?;
        let program = match program
            .to_str()
            .and_then(|path| path.strip_suffix(" (deleted)"))
        {
            Some(path) => PathBuf::from(path),
            None => program,
        };
        let succeeds = (task == Task::Succeed).then_some("--succeed");
        let child = Command::new(program)
            .args(&self.arguments)
            .envs(lodging.map(Lodging::for_child).transpose()?)
            .args(succeeds)
            .stdin(Stdio::from(input))
            .spawn()?;
        Ok(Agent {
            child,
            socket,
            began: Instant::now(),
        })
    }

    /// Waits for the agent, passes orders on and serves it, until it has ended or another one has taken its place.
    async fn attend(
        &self,
        agent: &mut Agent,
        orders: &mut Orders,
        custodian: &mut Custodian,
        lodging: Option<&Lodging>,
        predecessors: &mut Predecessors,
    ) -> io::Result<Attended> {
        let mut asked = false;
        // It was told to let go, for a successor that is no more.
        let mut in_doubt = false;
        let wish = Notify::new();
        let Agent { child, socket, .. } = agent;
        let pid = child.id();
        let mut serving = pin!(custodian.serve(socket, &wish));
        let mut succession: Option<LocalBoxFuture<'_, Result<Agent, Failed>>> = None;
        loop {
            let mut wanted = false;
            let is_succeeded = succession.is_some();
            let succeeded = async {
                match &mut succession {
                    Some(succession) => succession.await,
                    None => std::future::pending().await,
                }
            };
            // Once asked, the child gets its time and a margin, and then is not asked any more.
            let patience = async {
                if asked {
                    sleep(self.drain + MARGIN).await
                } else {
                    std::future::pending().await
                }
            };
            let let_go = async {
                if in_doubt && !asked && !is_succeeded {
                    self.when_let_go(pid).await
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                outcome = succeeded => match outcome {
                    Ok(successor) => return Ok(Attended::Succeeded(Box::new(successor))),
                    Err(Failed { error, was_told }) => {
                        error!(%error, "the successor does not serve: the agent goes on");
                        succession = None;
                        in_doubt |= was_told;
                    }
                },
                () = let_go => {
                    // That may be because it has ended.
                    if let Ok(status) = timeout(POLL, child.wait()).await {
                        return Ok(Attended::Ended { status: status?, asked });
                    }
                    return Ok(Attended::LetGo);
                }
                // Its death while it is succeeded is no death: its successor serves as soon as it could.
                status = child.wait(), if !is_succeeded => return Ok(Attended::Ended { status: status?, asked }),
                // An order that comes while they change places is for who serves then.
                order = orders.next(), if !is_succeeded => {
                    wanted = order == Order::Succeed;
                    if order.is_to_end() {
                        asked = true;
                        predecessors.end();
                    }
                    if !wanted {
                        pass_on(child.id(), order);
                    }
                }
                () = wish.notified() => wanted = true,
                () = &mut serving => {}
                () = patience => {
                    warn!("the agent does not end and is killed");
                    child.start_kill()?;
                }
            }
            if wanted && !asked && succession.is_none() {
                succession = Some(Box::pin(self.succeed(child.id(), lodging)));
            }
        }
    }

    /// Waits while an agent that another supervisor had started is alive: it serves, and must not be disturbed.
    async fn wait_for_living_agent(&self, orders: &mut Orders) -> io::Result<Living> {
        let mut told = false;
        let mut asked = false;
        loop {
            let pid = match StateLock::holder(&self.state_dir) {
                Ok(Holder::Nobody) if asked => return Ok(Living::AskedToEnd),
                Ok(Holder::Nobody) => return Ok(Living::None),
                Ok(Holder::Process(pid)) => pid,
                Err(error) => return Err(io::Error::other(chain(&error))),
            };
            if !std::mem::replace(&mut told, true) {
                info!(
                    pid,
                    "an agent is alive in the state folder; waiting for it to end"
                );
            }
            tokio::select! {
                order = orders.next() => {
                    pass_on(pid.and_then(|pid| u32::try_from(pid).ok()), order);
                    asked |= order.is_to_end();
                }
                () = sleep(POLL) => {}
            }
        }
    }
}

/// Has the namespace joined to its network for as long as anybody lives there: a bridge may be taken away and made anew.
async fn keep_joined(lodging: Option<&Lodging>) -> Infallible {
    let Some(lodging) = lodging else {
        return std::future::pending().await;
    };
    loop {
        sleep(JOIN_EACH).await;
        if let Err(error) = lodging.join() {
            error!(%error, "the namespace is not joined to its network; it is tried again");
        }
    }
}

/// A process that serves or is about to, and what is spoken over with it.
#[derive(Debug)]
struct Agent {
    child: Child,
    socket: AsyncFd<OwnedFd>,
    began: Instant,
}

/// What an agent is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// To serve.
    Begin,
    /// To serve as soon as the one before it lets go.
    Succeed,
}

/// Why an agent is attended to no longer.
enum Attended {
    Ended {
        status: ExitStatus,
        /// It had been asked to.
        asked: bool,
    },
    /// This one serves now; what it had open may go on in the one before it.
    Succeeded(Box<Agent>),
    /// It has let go of its state, and nobody has taken over.
    LetGo,
}

/// Whether an agent was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Living {
    /// There is none (any more).
    None,
    /// There was one, it was asked to end, and has.
    AskedToEnd,
}

/// Signals to be passed on.
struct Orders {
    term: Signal,
    int: Signal,
    hangup: Signal,
    user: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    End,
    Interrupt,
    Reread,
    Succeed,
}

impl Order {
    const fn is_to_end(self) -> bool {
        matches!(self, Self::End | Self::Interrupt)
    }
}

impl Orders {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.term.recv() => Order::End,
            _ = self.int.recv() => Order::Interrupt,
            _ = self.hangup.recv() => Order::Reread,
            _ = self.user.recv() => Order::Succeed,
        }
    }
}

fn pass_on(pid: Option<u32>, order: Order) {
    let Some(pid) = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
    else {
        return;
    };
    let signal = match order {
        Order::End => rustix::process::Signal::TERM,
        Order::Interrupt => rustix::process::Signal::INT,
        Order::Reread => rustix::process::Signal::HUP,
        Order::Succeed => rustix::process::Signal::USR2,
    };
    if let Err(error) = kill_process(pid, signal) {
        warn!(%error, "a signal could not be passed on");
    }
}

/// How a pause went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Over,
    AskedToEnd,
}

/// Pauses while there is no agent that an order could be for.
async fn rest(pause: Duration, orders: &mut Orders) -> Rest {
    let mut over = pin!(sleep(pause));
    loop {
        tokio::select! {
            () = &mut over => return Rest::Over,
            order = orders.next() => if order.is_to_end() {
                return Rest::AskedToEnd;
            },
        }
    }
}

/// Starts again at once; only deaths in quick succession are slowed down.
#[derive(Debug, Default)]
struct Backoff {
    wait: Duration,
}

impl Backoff {
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= QUICK {
            self.wait = Duration::ZERO;
            return Duration::ZERO;
        }
        let wait = self.wait;
        self.wait = (wait * 2).clamp(RESTART_PAUSE_MIN, RESTART_PAUSE_MAX);
        wait
    }
}

/// A child that dies younger than this died quickly.
const QUICK: Duration = Duration::from_secs(1);
/// Between two looks at the lock of an agent that is not our child.
const POLL: Duration = Duration::from_millis(50);
/// What a child may take beyond its draining.
const MARGIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn supervisor_of(state_dir: &std::path::Path) -> Supervisor {
        Supervisor {
            arguments: Vec::new(),
            state_dir: state_dir.to_owned(),
            drain: Duration::ZERO,
            network: None,
            upgrade: Upgrade {
                drain: Duration::ZERO,
                memory_max: 0,
            },
        }
    }

    #[tokio::test]
    async fn addresses_stay_with_whoever_lives_and_has_the_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = supervisor_of(folder.path());
        let own = std::process::id();
        let note = serde_json::json!({
            "router": 7, "address": "192.0.2.1", "peers": [], "interval_ms": 1_000, "vips": ["192.0.2.100"],
        });
        let notes = serde_json::json!({"process": own, "held": [note]}).to_string();
        let path = folder.path().join("addresses.json");
        let left = || std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &notes).unwrap();
        // The first agent was succeeded by this process.
        let lock = StateLock::acquire(folder.path()).unwrap();
        supervisor.let_go(Some(1), Duration::ZERO, None).await;
        assert_eq!(left(), notes);
        drop(lock);
        // The first one took them on, and is being succeeded now.
        supervisor.let_go(Some(own), Duration::ZERO, None).await;
        assert_eq!(left(), notes);
        supervisor.let_go(Some(1), Duration::ZERO, None).await;
        assert_ne!(left(), notes);
    }

    #[test]
    fn the_first_death_costs_no_time_and_quick_ones_ever_more_up_to_the_limit() {
        let mut backoff = Backoff::default();
        let quick = Duration::from_millis(10);
        let waits: Vec<u128> = (0..8).map(|_| backoff.after(quick).as_millis()).collect();
        assert_eq!(waits, [0, 50, 100, 200, 300, 300, 300, 300]);
        assert_eq!(backoff.after(Duration::from_secs(2)), Duration::ZERO);
        assert_eq!(backoff.after(quick), Duration::ZERO);
    }
}
