//! How load balancers leave.

/// How a load balancer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It is no more.
    Gone,
    /// Another amphora serves it now.
    Moved,
}
