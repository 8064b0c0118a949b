//! What is known of the world: written by the reconciler and the intake (I5).

pub(crate) mod addresses;
pub(crate) mod fleet;
pub(crate) mod hosts;
pub(crate) mod retirement;
pub(crate) mod settlement;
pub(crate) mod statistics;
