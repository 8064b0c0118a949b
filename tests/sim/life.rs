//! The life of a process on some machine: what it does ends with it.

use std::sync::{Mutex, MutexGuard};

use tokio::{sync::Notify, task::AbortHandle};

/// One run of a process.
#[derive(Default)]
pub(crate) struct Life {
    state: Mutex<State>,
    died: Notify,
}

#[derive(Default)]
struct State {
    is_dead: bool,
    tasks: Vec<AbortHandle>,
}

impl Life {
    /// Returns when it has ended.
    pub(crate) async fn ended(&self) {
        let died = self.died.notified();
        if self.is_over() {
            return;
        }
        died.await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().is_dead
    }

    /// Takes note of a task of it.
    pub(crate) fn adopt(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.is_dead {
            task.abort();
            return;
        }
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(task);
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        let tasks = {
            let mut state = self.state();
            state.is_dead = true;
            std::mem::take(&mut state.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
        self.died.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
