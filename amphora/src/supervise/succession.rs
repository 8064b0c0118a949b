//! One agent takes another's place: no client is refused, and none that is served notices.
//!
//! The successor says that it could serve; then the one before it is told to let go, which shows by the lock of the state
//! folder; then the successor is given the listening sockets. Who connects in the milliseconds between waits in the
//! kernel's queue. Until the lock is free nothing has changed, and a successor that is no good is ended.

use std::{cell::Cell, io};

use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Agent, Order, POLL, Supervisor, Task, pass_on};
use crate::{
    agent::chain,
    custody::Custodian,
    keep::{Holder, StateLock},
    limits::{SUCCESSION_PAUSE, SUCCESSION_TIME_MAX},
    network::Lodging,
};

/// Why there is no successor.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// The one before it was told to let go, and may still do so.
    pub(super) was_told: bool,
}

impl Supervisor {
    /// Has a new process take the place of the one with that id.
    pub(super) async fn succeed(
        &self,
        predecessor: Option<u32>,
        lodging: Option<&Lodging>,
    ) -> Result<Agent, Failed> {
        let was_told = Cell::new(false);
        let failed = |error| Failed {
            error,
            was_told: was_told.get(),
        };
        let mut agent = self.start(Task::Succeed, lodging).map_err(failed)?;
        info!(
            pid = agent.child.id(),
            predecessor, "a successor was started"
        );
        let outcome = timeout(
            SUCCESSION_TIME_MAX,
            self.change_places(&mut agent, predecessor, &was_told),
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
        // It may have ended already. Once it has, nobody lets go any more who looks.
        let _ = agent.child.kill().await;
        Err(failed(error))
    }

    async fn change_places(
        &self,
        agent: &mut Agent,
        predecessor: Option<u32>,
        was_told: &Cell<bool>,
    ) -> io::Result<()> {
        tokio::select! {
            ready = Custodian::hear_ready(&agent.socket) => ready?,
            status = agent.child.wait() => {
                return Err(io::Error::other(format!("it ended before it could serve: {}", status?)));
            }
        }
        was_told.set(true);
        pass_on(predecessor, Order::Succeed);
        let successor = agent.child.id().and_then(|pid| i32::try_from(pid).ok());
        loop {
            match StateLock::holder(&self.state_dir) {
                Ok(Holder::Nobody) => return Ok(()),
                Ok(Holder::Process(pid)) if pid == successor => return Ok(()),
                Ok(Holder::Process(_)) => {}
                Err(error) => return Err(io::Error::other(chain(&error))),
            }
            if let Some(status) = agent.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "it ended before its turn came: {status}"
                )));
            }
            sleep(SUCCESSION_PAUSE).await;
        }
    }

    /// Returns when the agent with that id has let go of the state folder, whoever has it then.
    ///
    /// One that hung may do so late: it had seen its successor wait, which has been given up since.
    pub(super) async fn when_let_go(&self, agent: Option<u32>) {
        let agent = agent.and_then(|pid| i32::try_from(pid).ok());
        loop {
            match StateLock::holder(&self.state_dir) {
                Ok(Holder::Process(None)) | Err(_) => {}
                Ok(Holder::Process(pid)) if pid == agent => {}
                Ok(_) => return,
            }
            sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use super::*;
    use crate::supervise::tests::supervisor_of;

    #[tokio::test]
    async fn an_agent_that_lets_go_late_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = supervisor_of(folder.path());
        let own = Some(std::process::id());
        let lock = StateLock::acquire(folder.path()).unwrap();
        let mut let_go = pin!(supervisor.when_let_go(own));
        assert!(timeout(Duration::ZERO, &mut let_go).await.is_err());
        // Somebody else has it.
        supervisor.when_let_go(Some(1)).await;
        drop(lock);
        let_go.await;
    }
}
