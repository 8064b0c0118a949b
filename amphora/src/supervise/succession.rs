//! One agent takes another's place: no client is refused, and none that is served notices.
//!
//! The successor says that it could serve; then the one before it is told to let go, which shows by the lock of the state
//! folder; then the successor is given the listening sockets. Who connects in the milliseconds between waits in the
//! kernel's queue. Until the lock is free nothing has changed, and a successor that is no good is ended.

use std::io;

use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Agent, Order, Supervisor, Task, pass_on};
use crate::{
    agent::chain,
    custody::Custodian,
    keep::{Holder, StateLock},
    limits::{SUCCESSION_PAUSE, SUCCESSION_TIME_MAX},
    network::Lodging,
};

impl Supervisor {
    /// Has a new process take the place of the one with that id.
    pub(super) async fn succeed(
        &self,
        predecessor: Option<u32>,
        lodging: Option<&Lodging>,
    ) -> io::Result<Agent> {
        let mut agent = self.start(Task::Succeed, lodging)?;
        info!(
            pid = agent.child.id(),
            predecessor, "a successor was started"
        );
        let outcome = timeout(
            SUCCESSION_TIME_MAX,
            self.change_places(&mut agent, predecessor),
        )
        .await;
        let error = match outcome {
            Ok(Ok(())) => {
                info!(pid = agent.child.id(), "the successor serves");
                return Ok(agent);
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("it took too long"),
        };
        // It may have ended already.
        let _ = agent.child.kill().await;
        Err(error)
    }

    async fn change_places(&self, agent: &mut Agent, predecessor: Option<u32>) -> io::Result<()> {
        tokio::select! {
            ready = Custodian::hear_ready(&agent.socket) => ready?,
            status = agent.child.wait() => {
                return Err(io::Error::other(format!("it ended before it could serve: {}", status?)));
            }
        }
        pass_on(predecessor, Order::Succeed);
        let successor = agent.child.id().and_then(|pid| i32::try_from(pid).ok());
        loop {
            match StateLock::holder(&self.state_dir) {
                Ok(Holder::Nobody) => return Ok(()),
                Ok(Holder::Process(pid)) if pid == successor => return Ok(()),
                Ok(Holder::Process(_)) => sleep(SUCCESSION_PAUSE).await,
                Err(error) => return Err(io::Error::other(chain(&error))),
            }
        }
    }
}
