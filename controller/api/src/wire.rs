//! Octavia's JSON, field for field: one file per resource, and what they share.

pub(crate) mod load_balancer;

pub(crate) mod graph;

pub(crate) mod pool;
pub(crate) mod quota;

pub(crate) mod listener;

pub(crate) mod l7_policy;

pub(crate) mod l7_rule;

pub(crate) mod health_monitor;

pub(crate) mod member;

pub(crate) mod amphora;

pub(crate) mod persistence;

pub(crate) mod offer;

pub(crate) mod profile;

pub(crate) mod terms;

pub(crate) mod tls;

pub(crate) mod row;
