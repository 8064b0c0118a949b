//! The way of each controller to the database that they share: it takes its time, it breaks, and anywhere on it the
//! controller may end.

use std::sync::{Arc, Mutex};

use krater_controller_store::{Crossing, Passage, StoreError};
use tokio::{
    sync::broadcast,
    time::{Duration, sleep, timeout},
};

use crate::{
    dice::Dice,
    host::{Clock, Host},
    net::{Net, Node},
    trace::Trace,
};

/// What is said to all controllers through the database.
pub(crate) struct Exchange {
    net: Arc<Net>,
    ears: Mutex<Vec<broadcast::Sender<Option<Arc<str>>>>>,
}

impl Exchange {
    pub(crate) fn open(net: Arc<Net>, controllers: usize) -> Arc<Self> {
        let ears = (0..controllers).map(|_| broadcast::channel(NEWS_WAITING).0);
        Arc::new(Self {
            net,
            ears: Mutex::new(ears.collect()),
        })
    }

    fn tell(&self, from: usize, news: &str) {
        let news: Arc<str> = news.into();
        for (to, ear) in self.ears.lock().unwrap().iter().enumerate() {
            if self.net.is_cut(Node::Controller(from), Node::Database) {
                return;
            }
            for after in self.net.send(Node::Database, Node::Controller(to)) {
                let (ear, news) = (ear.clone(), Arc::clone(&news));
                tokio::spawn(async move {
                    sleep(after).await;
                    // Nobody may listen.
                    let _ = ear.send(Some(news));
                });
            }
        }
    }

    fn listen(&self, controller: usize) -> broadcast::Receiver<Option<Arc<str>>> {
        self.ears.lock().unwrap()[controller].subscribe()
    }
}

/// The way of one run of a controller.
pub(crate) struct Way {
    pub(crate) controller: usize,
    pub(crate) host: Arc<Host>,
    pub(crate) net: Arc<Net>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) dice: Mutex<Dice>,
    /// After how many steps of the way the controller ends.
    pub(crate) fuse: Arc<Mutex<Option<u64>>>,
    /// Told of each statement that changed how far something has settled, or where it is.
    pub(crate) settled: Arc<tokio::sync::Notify>,
}

impl Way {
    async fn step(&self, from: Node, to: Node, doing: &'static str) -> Result<(), StoreError> {
        self.trace.count(self.controller, doing);
        self.burn().await;
        let (yields, pause) = {
            let mut dice = self.dice.lock().unwrap();
            let pause = dice.per_mille(150).then(|| dice.millis(1..6));
            (dice.within(0..3), pause)
        };
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        if self.net.is_cut(from, to) {
            // What hangs is given up by a timeout of the connection.
            let until_mended = async {
                while self.net.is_cut(from, to) {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            if timeout(PATIENCE, until_mended).await.is_err() {
                return Err(broke(doing));
            }
        }
        Ok(())
    }

    /// One step inside of a transaction: whoever is cut off here has lost it.
    async fn hold(&self, doing: &'static str) -> Result<(), StoreError> {
        self.trace.count(self.controller, doing);
        self.burn().await;
        let _held = self.host.hold();
        let pause = {
            let mut dice = self.dice.lock().unwrap();
            dice.per_mille(100).then(|| dice.millis(1..4))
        };
        match pause {
            Some(pause) => sleep(pause).await,
            None => tokio::task::yield_now().await,
        }
        let here = Node::Controller(self.controller);
        if self.net.is_cut(here, Node::Database) || self.net.is_cut(Node::Database, here) {
            return Err(broke(doing));
        }
        Ok(())
    }

    /// Ends the process if it is to end here.
    async fn burn(&self) {
        let burnt = {
            let mut fuse = self.fuse.lock().unwrap();
            match &mut *fuse {
                Some(0) => {
                    *fuse = None;
                    true
                }
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        if burnt {
            self.host.kill();
            std::future::pending::<()>().await;
        }
    }
}

impl Passage for Way {
    fn reach(&self, doing: &'static str) -> Crossing<'_> {
        Box::pin(self.step(Node::Controller(self.controller), Node::Database, doing))
    }

    fn within(&self, doing: &'static str) -> Crossing<'_> {
        Box::pin(self.hold(doing))
    }

    fn answer(&self, doing: &'static str) -> Crossing<'_> {
        if [SETTLING, PLACING].contains(&doing) {
            self.settled.notify_one();
        }
        Box::pin(self.step(Node::Database, Node::Controller(self.controller), doing))
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    fn announce(&self, news: &str) {
        self.exchange.tell(self.controller, news);
    }

    fn listen(&self) -> broadcast::Receiver<Option<Arc<str>>> {
        self.exchange.listen(self.controller)
    }
}

fn broke(doing: &str) -> StoreError {
    StoreError::Unreachable {
        server: "the simulated one".to_owned(),
        detail: format!("the connection broke while it was to {doing}"),
    }
}

/// The way of whoever looks at the database from outside of the simulation.
pub(crate) struct Overview {
    pub(crate) clock: Arc<Clock>,
}

impl Passage for Overview {
    fn reach(&self, _: &'static str) -> Crossing<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn within(&self, _: &'static str) -> Crossing<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn answer(&self, _: &'static str) -> Crossing<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    fn announce(&self, _: &str) {}

    fn listen(&self) -> broadcast::Receiver<Option<Arc<str>>> {
        broadcast::channel(1).1
    }
}

const NEWS_WAITING: usize = 4_096;
/// How long a statement hangs before its connection is given up, as with PostgreSQL.
const PATIENCE: Duration = Duration::from_millis(1_500);
const SETTLING: &str = "store how far the data plane has followed";
const PLACING: &str = "place a load balancer";
