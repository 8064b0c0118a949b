//! Desired and observed state in SQL.
//!
//! Two kinds of truth with two kinds of writers (I5): what tenants asked for is written by [`Store::apply`] alone,
//! from a `Change` (the catalogue of flavors and zones by [`Store::apply_catalogue`]); what is known of the world is written by the reconciler and the intake through the other verbs.
//! Every verb is one transaction: a crash at any moment leaves all of it or nothing.
#![deny(missing_docs)]

mod audit;
mod batch;
mod catalogue;
mod check;
mod desired;
mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod lease;
mod migrate;
mod observed;
mod once;
mod quota;
mod row;
mod scan;
mod sealed;
mod transfer;

pub use catalogue::Arranged;
pub use check::{Checked, Finding};
pub use desired::{Committed, Terms};
pub use engine::{Crossing, News, Passage, ServerSettings, Store};
pub use error::StoreError;
pub use observed::{
    addresses::OwnAddress,
    fleet::{AmphoraRecord, Fate, Heard, HostTerms, Placement, Put, PutTerms, Whereabouts},
    hosts::{Enrolment, HostRecord, HostState, HostToken, Newcomer},
    retirement::Carried,
    settlement::{Due, Kept, Outcome, SKEW_MAX, Settled, Settlement, Standing},
    statistics::ListenerTally,
};
pub use once::CreatedOnce;
pub use transfer::{Progress, TransferError};
