//! How the data plane treats members and clients beyond what tenants can say of them: what a flavor asks for, and what a
//! deployment has where none does.

use krater_amphora_api::{AccessLogSpec, CongestionControl, PassiveHealthSpec};
use serde::{Deserialize, Serialize};

use crate::limits;

/// What a flavor asks for. The default asks for nothing: all is as the deployment has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Treatment {
    /// Failed connections in a row that take a member out, at most [`limits::PASSIVE_FAILURES_MAX`]; 0: none do.
    pub passive_failures: Option<u32>,
    /// How long it is out the first time, 1 to [`limits::PASSIVE_SECONDS_MAX`] seconds.
    pub passive_seconds: Option<u32>,
    /// How many members of a pool may be out at once, 1 to 100 percent.
    pub passive_share: Option<u8>,
    /// How long the share of a member that recovered or was added takes to grow, at most
    /// [`limits::SLOW_START_SECONDS_MAX`] seconds; 0: it has it at once.
    pub slow_start_seconds: Option<u32>,
    /// Connections one source may begin a second at each listener, at most [`limits::SOURCE_RATE_MAX`]; 0: any number.
    pub source_rate: Option<u32>,
    /// How long connections of a member go on that may not be chosen any more.
    pub member_drain: Option<MemberDrain>,
    /// HTTP requests that one member may have under way at once, at most [`limits::MEMBER_REQUESTS_MAX`]; 0: any number.
    pub member_requests: Option<u32>,
    /// Requests or connections there are for one in the access log, at most [`limits::ACCESS_LOG_ONE_IN_MAX`]; 0: none are.
    pub access_log_one_in: Option<u32>,
    /// The congestion control of TCP towards clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<Congestion>,
}

/// The congestion control of TCP towards clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Congestion {
    /// Whatever the system of an amphora's host has for all.
    System,
    /// That of this name, if that system has it.
    Named(CongestionControl),
}

impl Congestion {
    /// What stands for [`Congestion::System`] where others are told by their names.
    pub const SYSTEM: &str = "system";
}

/// How long connections of a member go on that may not be chosen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberDrain {
    /// Until they end by themselves.
    Unbounded,
    /// At most [`limits::MEMBER_DRAIN_SECONDS_MAX`] seconds.
    Seconds(u32),
}

/// What a deployment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualTreatment {
    /// As [`Treatment::passive_failures`].
    pub passive_failures: u32,
    /// How long a member is out the first time, in milliseconds, at least 1.
    pub passive_out_ms: u32,
    /// How long at most.
    pub passive_out_max_ms: u32,
    /// As [`Treatment::passive_share`].
    pub passive_share: u8,
    /// How long a slow start takes, in milliseconds.
    pub slow_start_ms: u32,
    /// As [`Treatment::source_rate`].
    pub source_rate: u32,
    /// How long connections of members go on that may not be chosen any more, in milliseconds; `None`: until they end.
    pub member_drain_ms: Option<u32>,
    /// As [`Treatment::member_requests`].
    pub member_requests: u32,
    /// As [`Treatment::access_log_one_in`]; `None`: there is no access log, whatever a flavor asks for.
    pub access_log_one_in: Option<u32>,
    /// As [`Treatment::congestion_control`].
    pub congestion_control: Congestion,
}

impl Default for UsualTreatment {
    /// A member that refuses three connections in a row is out, as with nginx, which has this on as well: without it each
    /// choice of a dead member costs a client a failed attempt until a probe notices, or for ever in a pool without a
    /// health monitor. Half of a pool stays in whatever happens, and the first time is short. What holds clients back or
    /// ends connections is off: nobody has asked for it; but for the requests of one member, whose bound is there for the
    /// sake of others: below it a few clients of HTTP/2 could take all descriptors of an amphora, or all ports towards a
    /// member, of which there are 28,000.
    fn default() -> Self {
        Self {
            passive_failures: 3,
            passive_out_ms: 2_000,
            passive_out_max_ms: 60_000,
            passive_share: 50,
            slow_start_ms: 0,
            source_rate: 0,
            member_drain_ms: None,
            member_requests: 10_000,
            access_log_one_in: None,
            congestion_control: Congestion::System,
        }
    }
}

impl UsualTreatment {
    /// This with what a flavor asks for.
    #[must_use]
    pub fn with(self, asked: Treatment) -> Self {
        let out = asked.passive_seconds.map(milliseconds);
        let passive_out_ms = out.unwrap_or(self.passive_out_ms);
        Self {
            passive_failures: asked.passive_failures.unwrap_or(self.passive_failures),
            passive_out_ms,
            passive_out_max_ms: self.passive_out_max_ms.max(passive_out_ms),
            passive_share: asked.passive_share.unwrap_or(self.passive_share),
            slow_start_ms: asked
                .slow_start_seconds
                .map_or(self.slow_start_ms, milliseconds),
            source_rate: asked.source_rate.unwrap_or(self.source_rate),
            member_drain_ms: match asked.member_drain {
                None => self.member_drain_ms,
                Some(MemberDrain::Unbounded) => None,
                Some(MemberDrain::Seconds(seconds)) => Some(milliseconds(seconds)),
            },
            member_requests: asked.member_requests.unwrap_or(self.member_requests),
            access_log_one_in: self
                .access_log_one_in
                .map(|usual| asked.access_log_one_in.unwrap_or(usual)),
            congestion_control: asked.congestion_control.unwrap_or(self.congestion_control),
        }
    }

    /// When a member is taken out between probes, in the data plane's words.
    #[must_use]
    pub fn passive_health(&self) -> Option<PassiveHealthSpec> {
        (self.passive_failures > 0).then_some(PassiveHealthSpec {
            failures: self.passive_failures,
            out_ms: self.passive_out_ms,
            out_max_ms: self.passive_out_max_ms,
            share_percent: self.passive_share,
        })
    }

    /// How many requests one member may have, in the data plane's words.
    #[must_use]
    pub fn member_requests(&self) -> Option<u32> {
        (self.member_requests > 0).then_some(self.member_requests)
    }

    /// What is told in the access log, in the data plane's words.
    #[must_use]
    pub fn access_log(&self) -> Option<AccessLogSpec> {
        let one_in = self.access_log_one_in.filter(|one_in| *one_in > 0)?;
        Some(AccessLogSpec { one_in })
    }

    /// The congestion control towards clients, in the data plane's words.
    #[must_use]
    pub const fn congestion_control(&self) -> Option<CongestionControl> {
        match self.congestion_control {
            Congestion::System => None,
            Congestion::Named(name) => Some(name),
        }
    }

    /// The rate of a source, in the data plane's words.
    #[must_use]
    pub fn source_rate(&self) -> Option<u32> {
        (self.source_rate > 0).then_some(self.source_rate)
    }
}

fn milliseconds(seconds: u32) -> u32 {
    seconds
        .min(limits::MEMBER_DRAIN_SECONDS_MAX)
        .saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flavor_says_goes_before_what_the_deployment_has() {
        let usual = UsualTreatment::default();
        assert_eq!(usual.with(Treatment::default()), usual);
        let asked = Treatment {
            passive_failures: Some(0),
            passive_seconds: Some(120),
            passive_share: Some(10),
            slow_start_seconds: Some(30),
            source_rate: Some(5),
            member_drain: Some(MemberDrain::Seconds(7)),
            member_requests: Some(0),
            access_log_one_in: Some(3),
            congestion_control: Some(Congestion::Named("cubic".parse().unwrap())),
        };
        let with = usual.with(asked);
        assert_eq!(with.passive_health(), None);
        assert_eq!(with.source_rate(), Some(5));
        assert_eq!(usual.member_requests(), Some(10_000));
        assert_eq!(with.member_requests(), None);
        assert_eq!(with.access_log(), None, "the deployment has none");
        assert_eq!(usual.congestion_control(), None);
        let cubic = with.congestion_control();
        assert_eq!(cubic.unwrap().as_str(), "cubic");
        assert_eq!(with.with(Treatment::default()).congestion_control(), cubic);
        let as_the_system = Treatment {
            congestion_control: Some(Congestion::System),
            ..asked
        };
        assert_eq!(with.with(as_the_system).congestion_control(), None);
        let logging = UsualTreatment {
            access_log_one_in: Some(1),
            ..usual
        };
        let one_in = |treatment: UsualTreatment| treatment.access_log().map(|log| log.one_in);
        assert_eq!(one_in(logging), Some(1));
        assert_eq!(one_in(logging.with(asked)), Some(3));
        let silent = Treatment {
            access_log_one_in: Some(0),
            ..asked
        };
        assert_eq!(one_in(logging.with(silent)), None);
        assert_eq!(
            (with.slow_start_ms, with.member_drain_ms),
            (30_000, Some(7_000))
        );
        // The longest time is never shorter than the first.
        assert_eq!(
            (with.passive_out_ms, with.passive_out_max_ms),
            (120_000, 120_000)
        );
        let bounded = UsualTreatment {
            member_drain_ms: Some(1),
            ..usual
        };
        let unbounded = Treatment {
            member_drain: Some(MemberDrain::Unbounded),
            ..Treatment::default()
        };
        assert_eq!(bounded.with(unbounded).member_drain_ms, None);
        assert_eq!(bounded.with(Treatment::default()).member_drain_ms, Some(1));
    }
}
