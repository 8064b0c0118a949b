//! Octavia's load-balancing API v2 on the wire: HTTP ⇄ `Command`/`Query`. What may be asked, in which form, and how
//! answers and refusals look; nothing of what is admissible, which the domain says.
#![deny(missing_docs)]

// From the top down: a module knows only those below it.
mod route;

mod write;

mod read;

mod amphorae;

mod walk;

mod quotas;

mod catalogue;

mod health;

mod status_tree;

mod discovery;

pub mod openapi;

mod terms;

mod kind;

mod path;

mod networks;

mod context;

mod incoming;

mod filter;

mod page;

mod attributes;

mod tag;

mod fields;

mod parameters;

mod wire;

mod body;

mod reply;

mod fault;

mod application;

mod settings;

pub use application::{Application, Credentials, Executed, Novelty, Unauthenticated};
pub use route::{Refused, RouteName, router};
pub use settings::{Healthcheck, Provider, Settings};
pub use terms::global_request_id;
