//! The names of things: a distinct type per resource, so that passing one for another does not compile.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Names a thing by a UUID made or read at an edge.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The same from how it travels in binary messages.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// As it travels in binary messages.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The bare UUID, for storage and for printing.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A load balancer.
    LoadBalancerId;
    /// A listener: one port of a load balancer.
    ListenerId;
    /// A pool of members.
    PoolId;
    /// A member of a pool.
    MemberId;
    /// The health monitor of a pool.
    HealthMonitorId;
    /// An L7 policy of a listener.
    L7PolicyId;
    /// A rule of an L7 policy.
    L7RuleId;
    /// An amphora: one data-plane process.
    AmphoraId;
    /// A host that amphorae run on, other than a controller's own.
    HostId;
    /// One run of an amphora process: counters in a report count from its start. Of a host's agent too.
    BootId;
}
