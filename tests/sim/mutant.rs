//! Rules that are broken on purpose, to see that somebody notices.

/// Which rule is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// None.
    #[default]
    None,
    /// Amphorae put older generations in force too (I8).
    AcceptsOlder,
    /// Amphorae say that something is in force before it is (I6).
    SettlesEarly,
    /// Nobody looks for what is due, and nothing brings up what a dead controller left (I7).
    NeverSweeps,
    /// A change is answered and never made.
    LosesWrites,
    /// Amphorae keep nothing that survives them.
    ForgetsAtDeath,
    /// Both of two that take turns are replaced at once.
    MovesBoth,
}

impl Mutant {
    pub(crate) const ALL: [Self; 6] = [
        Self::AcceptsOlder,
        Self::SettlesEarly,
        Self::NeverSweeps,
        Self::LosesWrites,
        Self::ForgetsAtDeath,
        Self::MovesBoth,
    ];
}
