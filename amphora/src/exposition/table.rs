//! The series, with the reference's names (19.13). Those that tell of what is not done here, such as compression, are
//! always 0, which is true.

use super::{OfBalancer, OfListener, OfMember, OfPool, average, sessions};
use crate::meter::Responses;

/// One series of something.
pub(super) struct Family<T: 'static> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: Meaning<T>,
}

/// What its numbers mean.
pub(super) enum Meaning<T: 'static> {
    Count(fn(&T) -> u64),
    Number(fn(&T) -> f64),
    /// Which of these states it is in.
    State(&'static [&'static str], fn(&T) -> usize),
    /// Answers by class of status.
    ByCode(fn(&T) -> [u64; Responses::CLASSES]),
}

use Meaning::{ByCode, Count, Number, State};

macro_rules! families {
    ($of:ident, $prefix:literal: $($name:literal $help:literal $read:expr;)*) => {
        &[$(Family::<$of> {
            name: concat!("octavia_", $prefix, "_", $name),
            help: $help,
            read: $read,
        }),*]
    };
}

/// Of the load balancer, over all its listeners.
pub(super) const LOAD_BALANCER: &[Family<OfBalancer>] = families! { OfBalancer, "loadbalancer":
    "connections_total" "Client connections accepted." Count(|it| it.connections);
    "current_connections" "Client connections open now." Count(|it| it.active);
    "max_connections" "Client connections that may be open at once." Count(|it| it.limit);
    "requests_total" "HTTP requests." Count(|it| it.requests);
    "listeners" "Listeners." Count(|it| it.listeners);
    "ssl_connections_total" "Client connections accepted by listeners that end TLS." Count(|it| it.connections_inside);
    "current_ssl_connections" "Client connections open now of listeners that end TLS." Count(|it| it.active_inside);
    "http_comp_bytes_in_total" "Bytes given to compression: none is done." Count(|_| 0);
    "http_comp_bytes_out_total" "Bytes that came of compression: none is done." Count(|_| 0);
    "limit_http_comp" "Limit of compression: none is done." Count(|_| 0);
};

/// Of a listener.
pub(super) const LISTENER: &[Family<OfListener>] = families! { OfListener, "listener":
    "status" "1 for the state that the listener is in." State(&["DOWN", "UP"], |it| it.state);
    "current_sessions" "Client connections open now." Count(|it| it.active);
    "limit_sessions" "Client connections that may be open at once." Count(|it| it.limit);
    "sessions_total" "Client connections accepted." Count(|it| it.connections);
    "connections_total" "Client connections accepted." Count(|it| it.connections);
    "bytes_in_total" "Bytes received from clients." Count(|it| it.bytes_in);
    "bytes_out_total" "Bytes sent to clients." Count(|it| it.bytes_out);
    "requests_denied_total" "Requests that an L7 policy has rejected." Count(|it| it.rejected);
    "responses_denied_total" "Responses denied: none are." Count(|_| 0);
    "request_errors_total" "Requests that failed by the client's fault." Count(|it| it.request_errors);
    "denied_connections_total" "Client connections closed for their address or its rate." Count(|it| it.turned_away);
    "denied_sessions_total" "Sessions denied after their connection was let in: none are." Count(|_| 0);
    "failed_header_rewriting_total" "Headers that could not be inserted: all can." Count(|_| 0);
    "http_requests_total" "HTTP requests." Count(|it| it.requests);
    "http_responses_total" "HTTP responses to clients by class of status." ByCode(|it| it.responses);
    "http_cache_lookups_total" "Look-ups in a cache: there is none." Count(|_| 0);
    "http_cache_hits_total" "Hits of a cache: there is none." Count(|_| 0);
    "http_comp_bytes_in_total" "Bytes given to compression: none is done." Count(|_| 0);
    "http_comp_bytes_out_total" "Bytes that came of compression: none is done." Count(|_| 0);
    "http_comp_bytes_bypassed_total" "Bytes that passed compression by: none is done." Count(|_| 0);
    "http_comp_responses_total" "Responses that were compressed: none are." Count(|_| 0);
};

/// Of a pool, those that have left it included.
pub(super) const POOL: &[Family<OfPool>] = families! { OfPool, "pool":
    "status" "1 for the state that the pool is in: up while a member can be chosen." State(&["DOWN", "UP"], |it| it.state);
    "current_sessions" "Connections to members open now." Count(|it| it.totals.active());
    "sessions_total" "Requests sent to members, or connections to them." Count(|it| sessions(&it.totals, it.protocol));
    "loadbalanced_total" "Times that a member was chosen and reached." Count(|it| sessions(&it.totals, it.protocol));
    "connection_attempts_total" "Attempts to connect to members."
        Count(|it| it.totals.connected + it.totals.connect_failures);
    "connection_reuses_total" "Requests sent over a connection that had served another." Count(|it| it.totals.reuses);
    "bytes_in_total" "Bytes sent to members." Count(|it| it.totals.bytes_out);
    "bytes_out_total" "Bytes received from members." Count(|it| it.totals.bytes_in);
    "requests_denied_total" "Requests denied behind the listener: none are." Count(|_| 0);
    "responses_denied_total" "Responses denied: none are." Count(|_| 0);
    "connection_errors_total" "Connections to members that could not be established." Count(|it| it.totals.connect_failures);
    "response_errors_total" "Answers of members that broke off, were malformed or never came."
        Count(|it| it.totals.response_errors);
    "failed_header_rewriting_total" "Headers that could not be inserted: all can." Count(|_| 0);
    "http_requests_total" "HTTP requests sent to members." Count(|it| it.totals.requests);
    "http_responses_total" "HTTP responses of members by class of status." ByCode(|it| it.totals.responses);
    "http_cache_lookups_total" "Look-ups in a cache: there is none." Count(|_| 0);
    "http_cache_hits_total" "Hits of a cache: there is none." Count(|_| 0);
    "http_comp_bytes_in_total" "Bytes given to compression: none is done." Count(|_| 0);
    "http_comp_bytes_out_total" "Bytes that came of compression: none is done." Count(|_| 0);
    "http_comp_bytes_bypassed_total" "Bytes that passed compression by: none is done." Count(|_| 0);
    "http_comp_responses_total" "Responses that were compressed: none are." Count(|_| 0);
    "total_time_average_seconds" "How long answers took on average, from the request to their end."
        Number(|it| average(&it.totals));
    "active_members" "Members that are up, but for backup members." Count(|it| it.active);
    "backup_members" "Backup members that are up." Count(|it| it.backup);
};

/// What states a member can be in.
pub(super) const MEMBER_STATES: &[&str] = &["DOWN", "UP", "MAINT", "DRAIN", "NOLB"];

/// Of a member.
pub(super) const MEMBER: &[Family<OfMember>] = families! { OfMember, "member":
    "status" "1 for the state that the member is in." State(MEMBER_STATES, |it| it.state);
    "current_sessions" "Connections to the member open now." Count(|it| it.totals.active());
    "sessions_total" "Requests sent to the member, or connections to it." Count(|it| sessions(&it.totals, it.protocol));
    "loadbalanced_total" "Times that the member was chosen and reached." Count(|it| sessions(&it.totals, it.protocol));
    "connection_attempts_total" "Attempts to connect to the member."
        Count(|it| it.totals.connected + it.totals.connect_failures);
    "connection_reuses_total" "Requests sent over a connection that had served another." Count(|it| it.totals.reuses);
    "bytes_in_total" "Bytes sent to the member." Count(|it| it.totals.bytes_out);
    "bytes_out_total" "Bytes received from the member." Count(|it| it.totals.bytes_in);
    "responses_denied_total" "Responses denied: none are." Count(|_| 0);
    "connection_errors_total" "Connections to the member that could not be established."
        Count(|it| it.totals.connect_failures);
    "response_errors_total" "Answers of the member that broke off, were malformed or never came."
        Count(|it| it.totals.response_errors);
    "server_aborts_total" "Answers and streams that the member broke off." Count(|it| it.aborts);
    "failed_header_rewriting_total" "Headers that could not be inserted: all can." Count(|_| 0);
    "http_responses_total" "HTTP responses of the member by class of status." ByCode(|it| it.totals.responses);
    "total_time_average_seconds" "How long answers took on average, from the request to their end."
        Number(|it| average(&it.totals));
    "weight" "Its weight." Count(|it| it.weight);
};
