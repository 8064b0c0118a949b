//! The network: messages are late, come twice, overtake each other, or do not come at all.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use tokio::time::sleep;

use crate::dice::Dice;

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Client,
    Controller(usize),
    /// A machine that amphorae run on: those of controllers first, then those of hosts that joined.
    Machine(usize),
    Database,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Of a thousand messages.
    pub(crate) lost: u64,
    /// Of a thousand messages.
    pub(crate) twice: u64,
    /// Of a thousand messages; these take up to five seconds.
    pub(crate) late: u64,
}

/// What becomes of a message: when it comes, each time that it does.
pub(crate) type Arrivals = Vec<Duration>;

/// The network.
pub(crate) struct Net {
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    weather: Weather,
    /// From whom nothing gets through to whom.
    cuts: BTreeSet<(Node, Node)>,
}

impl Net {
    pub(crate) fn new(dice: Dice) -> Self {
        let state = State {
            dice,
            weather: Weather::default(),
            cuts: BTreeSet::new(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }

    pub(crate) fn cut(&self, from: Node, to: Node) {
        self.state.lock().unwrap().cuts.insert((from, to));
    }

    pub(crate) fn mend(&self, from: Node, to: Node) {
        self.state.lock().unwrap().cuts.remove(&(from, to));
    }

    /// Everything gets through at once from now on.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.cuts.clear();
        state.weather = Weather::default();
    }

    pub(crate) fn is_cut(&self, from: Node, to: Node) -> bool {
        self.state.lock().unwrap().cuts.contains(&(from, to))
    }

    /// Decides what becomes of a message.
    pub(crate) fn send(&self, from: Node, to: Node) -> Arrivals {
        let mut state = self.state.lock().unwrap();
        let State {
            dice,
            weather,
            cuts,
        } = &mut *state;
        if cuts.contains(&(from, to)) || dice.per_mille(weather.lost) {
            return Vec::new();
        }
        let mut arrivals = Vec::new();
        let copies = if dice.per_mille(weather.twice) { 2 } else { 1 };
        for _ in 0..copies {
            arrivals.push(if dice.per_mille(weather.late) {
                dice.millis(10..5_000)
            } else {
                dice.millis(0..3)
            });
        }
        arrivals
    }

    /// The way of a message that counts once; never if it does not come.
    pub(crate) async fn cross(&self, from: Node, to: Node) {
        match self.send(from, to).first() {
            Some(after) => sleep(*after).await,
            None => std::future::pending().await,
        }
    }
}
