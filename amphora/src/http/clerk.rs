//! Futures that serve one request after another, of whichever connection has one.
//!
//! All that a request needs while it is under way is large. A future for each would have to be made, moved to its place
//! and freed; as a part of its connection's it would take the same room from every connection that waits. So a worker
//! keeps a few, which are lent to connections for a request each.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use crate::limits::CLERKS_IDLE_MAX;

/// Serves requests, one at a time.
pub(super) struct Clerk<J, O> {
    desk: Rc<Desk<J, O>>,
    labour: Pin<Box<dyn Future<Output = ()>>>,
}

/// Where a job is left for a clerk, and what came of it.
struct Desk<J, O> {
    job: Cell<Option<J>>,
    outcome: Cell<Option<O>>,
}

/// Clerks of one worker that have nothing to do.
pub(super) struct Clerks<J, O>(RefCell<Vec<Clerk<J, O>>>);

impl<J: 'static, O: 'static> Clerk<J, O> {
    /// One that has each job done by `work`.
    fn new<F>(work: impl Fn(J) -> F + 'static) -> Self
    where
        F: Future<Output = O> + 'static,
    {
        let desk = Rc::new(Desk {
            job: Cell::new(None),
            outcome: Cell::new(None),
        });
        let its = Rc::clone(&desk);
        let labour = async move {
            loop {
                // Woken by nobody: it is polled when there is a job.
                let job = poll_fn(|_| its.job.take().map_or(Poll::Pending, Poll::Ready)).await;
                let outcome = work(job).await;
                its.outcome.set(Some(outcome));
            }
        };
        Self {
            desk,
            labour: Box::pin(labour),
        }
    }
}

/// A job that a clerk is at. Dropped before it is done, it takes the clerk and all that belongs to the job with it.
pub(super) struct Assigned<J, O> {
    clerk: Option<Clerk<J, O>>,
    home: Rc<Clerks<J, O>>,
}

impl<J: 'static, O: 'static> Clerks<J, O> {
    /// None yet.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::default()))
    }

    /// Gives a job to a clerk that has nothing to do, or to a new one, which does each job by `work`. They all have to work
    /// alike.
    pub(super) fn assign<F>(
        self: &Rc<Self>,
        job: J,
        work: impl Fn(J) -> F + 'static,
    ) -> Assigned<J, O>
    where
        F: Future<Output = O> + 'static,
    {
        let idle = self.0.borrow_mut().pop();
        let clerk = idle.unwrap_or_else(|| Clerk::new(work));
        clerk.desk.job.set(Some(job));
        Assigned {
            clerk: Some(clerk),
            home: Rc::clone(self),
        }
    }
}

impl<J: 'static, O: 'static> Future for Assigned<J, O> {
    type Output = O;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        let Some(clerk) = &mut self.clerk else {
            return Poll::Pending;
        };
        // A clerk never ends, so it may always be polled again.
        let _ = clerk.labour.as_mut().poll(cx);
        let Some(outcome) = clerk.desk.outcome.take() else {
            return Poll::Pending;
        };
        let clerk = self.clerk.take();
        let mut idle = self.home.0.borrow_mut();
        if idle.len() < CLERKS_IDLE_MAX {
            idle.extend(clerk);
        }
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_clerk_serves_one_job_after_another_and_one_that_is_interrupted_is_gone() {
        let clerks = Clerks::new();
        let held = Rc::new(());
        let mut quiet = Context::from_waker(Waker::noop());
        let work = |(ready, held): (bool, Rc<()>)| async move {
            if !ready {
                std::future::pending::<()>().await;
            }
            Rc::strong_count(&held)
        };
        for _ in 0..3 {
            let job = (true, Rc::clone(&held));
            let mut served = std::pin::pin!(clerks.assign(job, work));
            assert_eq!(served.as_mut().poll(&mut quiet), Poll::Ready(2));
            assert_eq!(clerks.0.borrow().len(), 1);
        }
        {
            let job = (false, Rc::clone(&held));
            let mut served = std::pin::pin!(clerks.assign(job, work));
            assert!(served.as_mut().poll(&mut quiet).is_pending());
            assert_eq!(Rc::strong_count(&held), 2);
        }
        assert_eq!((Rc::strong_count(&held), clerks.0.borrow().len()), (1, 0));
    }
}
