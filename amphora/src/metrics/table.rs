//! Every series of this process, declared once. `METRICS.md` says the same, and a test compares them.

/// One declared series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its numbers mean.
    pub(crate) kind: Kind,
    /// Names of its labels: closed sets or ids of resources, never what a client sent.
    pub(crate) labels: &'static [&'static str],
    /// One sentence.
    pub(crate) help: &'static str,
}

/// What the numbers of a series mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// The series of what was exchanged with members, for one of them or for a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) active: &'static Metric,
    pub(crate) connections: &'static Metric,
    pub(crate) connect_failures: &'static Metric,
    pub(crate) response_errors: &'static Metric,
    pub(crate) sent: &'static Metric,
    pub(crate) received: &'static Metric,
    pub(crate) requests: &'static Metric,
    pub(crate) reuses: &'static Metric,
    pub(crate) responses: &'static Metric,
    pub(crate) duration: &'static Metric,
}

/// Of a pool.
pub(crate) const POOL_TRAFFIC: Traffic = Traffic {
    active: &POOL_ACTIVE,
    connections: &POOL_CONNECTIONS,
    connect_failures: &POOL_CONNECT_FAILURES,
    response_errors: &POOL_RESPONSE_ERRORS,
    sent: &POOL_SENT,
    received: &POOL_RECEIVED,
    requests: &POOL_REQUESTS,
    reuses: &POOL_REUSES,
    responses: &POOL_RESPONSES,
    duration: &POOL_DURATION,
};

/// Of a member.
pub(crate) const MEMBER_TRAFFIC: Traffic = Traffic {
    active: &MEMBER_ACTIVE,
    connections: &MEMBER_CONNECTIONS,
    connect_failures: &MEMBER_CONNECT_FAILURES,
    response_errors: &MEMBER_RESPONSE_ERRORS,
    sent: &MEMBER_SENT,
    received: &MEMBER_RECEIVED,
    requests: &MEMBER_REQUESTS,
    reuses: &MEMBER_REUSES,
    responses: &MEMBER_RESPONSES,
    duration: &MEMBER_DURATION,
};

macro_rules! declare {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) static $id: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them, in the order of the documentation.
        pub(crate) static TABLE: &[&Metric] = &[$(&$id),*];
    };
}

declare! {
    BUILD_INFO Gauge "krater_amphora_build_info" ["version", "contract"]
        "Always 1; the release and the contract version it speaks.";
    BOOT_INFO Gauge "krater_amphora_boot_info" ["amphora", "boot"]
        "Always 1; this amphora (empty without a controller) and this run of its process.";
    UPTIME Gauge "krater_amphora_uptime_seconds" []
        "Time since the process started.";
    WORKERS Gauge "krater_amphora_workers" []
        "Worker threads.";
    THREAD_CONNECTIONS Gauge "krater_amphora_thread_connections_active" ["thread"]
        "Client connections that each thread has open: HTTP with worker-n, streams with l4-n, n being the core.";
    THREAD_PASSED Counter "krater_amphora_thread_connections_passed_total" ["thread"]
        "Streams that a crowded thread accepted and left to one with clearly fewer.";
    BUGS Counter "krater_bug_total" []
        "Broken invariants that cost a connection or a task; must be zero.";
    EXHAUSTIONS Counter "krater_amphora_accept_exhaustions_total" []
        "Times that accepting had to pause because the process or the system ran out of descriptors or memory.";
    ACCESS_RECORDS Counter "krater_amphora_access_log_records_total" ["result"]
        "Records of access logs: written, dropped (the sink was too slow for them, or failed).";
    APPLIES Counter "krater_amphora_applies_total" ["result"]
        "Snapshots by what became of them: applied, unreadable, stale, invalid, not_kept, network.";
    REMOVALS Counter "krater_amphora_removals_total" []
        "Load balancers taken out of service.";
    SETTLE_FAILURES Counter "krater_amphora_settle_failures_total" []
        "Times that what is kept could not be made to survive a loss of power.";
    HEARTBEATS Counter "krater_amphora_heartbeats_total" ["result"]
        "Reports to controllers: sent, failed.";
    HEARTBEAT_LAST Gauge "krater_amphora_heartbeat_last_success_timestamp_seconds" []
        "When a controller last took a report, since the epoch; absent before the first.";
    CERTIFICATE_EXPIRY Gauge "krater_amphora_certificate_expiry_timestamp_seconds" []
        "When the agent's certificate ends, since the epoch; absent without an agent.";
    RELOADS Counter "krater_amphora_reloads_total" ["result"]
        "Readings of the snapshot file after the start: applied, refused.";
    RELOAD_LAST Gauge "krater_amphora_reload_last_success_timestamp_seconds" []
        "When the snapshot file was last taken, since the epoch; absent without one.";
    FILE_FLAWS Gauge "krater_amphora_snapshot_file_flaws" []
        "Reasons for which the snapshot file was refused when it was last read; 0 when it was taken.";
    FILTER_FAILED Gauge "krater_amphora_filter_failed" []
        "1 while allowed CIDRs cannot be loaded into the kernel, so that clients are refused once they are connected; 0 otherwise (amphorae in namespaces only).";
    OPEN_FAILURES Gauge "krater_amphora_open_failures" []
        "Listeners of which a port cannot be had now.";
    CONGESTION_REFUSED Gauge "krater_amphora_congestion_control_refused" []
        "Listeners whose congestion control the system does not have or does not allow, so that they serve with its own.";
    ADVERTS Counter "krater_amphora_adverts_total" ["result"]
        "Adverts of VRRP by which amphorae take turns at addresses: sent, heard, ignored (malformed, or of nobody known).";
    TAKEOVERS Counter "krater_amphora_takeovers_total" []
        "Times that this amphora took over the addresses of a load balancer at which it takes turns.";
    SESSIONS Counter "krater_amphora_sessions_exchanged_total" ["result"]
        "Sessions with other amphorae that carry the same load balancers, each time they are told: told, taken (news), known, ignored (of members and pools that are not here), deferred (the other one was too slow, and is told all later).";
    SESSION_PEERS Gauge "krater_amphora_session_peer_connected" ["peer"]
        "1 while sessions are exchanged with the amphora, 0 while it is not connected (amphorae that carry the same load balancers only).";
    SESSION_REFUSALS Counter "krater_amphora_session_refusals_total" []
        "Connections for the exchange of sessions that were refused (nothing is carried together, or too many), or broken off for what was said.";
    ANNOUNCEMENT Gauge "krater_amphora_load_balancer_announcement_state" ["lb", "state"]
        "1 for whose turn it is at the addresses, 0 for the others: active (this amphora's), standby, down (load balancers that take turns only).";
    GENERATION Gauge "krater_amphora_load_balancer_generation" ["lb"]
        "The generation in force.";
    LISTENER_STATE Gauge "krater_amphora_listener_state" ["lb", "listener", "state"]
        "1 for the state the listener is in, 0 for the others: open, full, disabled, failed.";
    LISTENER_ACTIVE Gauge "krater_amphora_listener_connections_active" ["lb", "listener"]
        "Client connections open now.";
    LISTENER_LIMIT Gauge "krater_amphora_listener_connection_limit" ["lb", "listener"]
        "Client connections that may be open at once.";
    LISTENER_CONNECTIONS Counter "krater_amphora_listener_connections_total" ["lb", "listener"]
        "Client connections accepted.";
    LISTENER_SHED Counter "krater_amphora_listener_shed_total" ["lb", "listener"]
        "Client connections reset on arrival because the process had too few descriptors left.";
    LISTENER_DENIED Counter "krater_amphora_listener_denied_total" ["lb", "listener"]
        "Client connections closed because their address is not allowed.";
    LISTENER_TOO_OFTEN Counter "krater_amphora_listener_too_often_total" ["lb", "listener"]
        "Client connections closed because their source connected too often.";
    LISTENER_RECEIVED Counter "krater_amphora_listener_received_bytes_total" ["lb", "listener"]
        "Bytes received from clients.";
    LISTENER_SENT Counter "krater_amphora_listener_sent_bytes_total" ["lb", "listener"]
        "Bytes sent to clients.";
    LISTENER_REQUEST_ERRORS Counter "krater_amphora_listener_request_errors_total" ["lb", "listener"]
        "Requests that failed by the client's fault.";
    LISTENER_FAILURES Counter "krater_amphora_listener_failures_total" ["lb", "listener", "cause"]
        "Requests, connections and datagrams that failed, by cause (see CAUSES.md); causes never seen are absent.";
    LISTENER_NO_MEMBER Counter "krater_amphora_listener_no_member_total" ["lb", "listener"]
        "Connections and requests that found no member to go to.";
    LISTENER_RETRIES Counter "krater_amphora_listener_retries_total" ["lb", "listener"]
        "Attempts to reach another member after one could not be reached.";
    LISTENER_REQUESTS Counter "krater_amphora_listener_requests_total" ["lb", "listener"]
        "HTTP requests whose head was read (HTTP listeners only).";
    LISTENER_RESPONSES Counter "krater_amphora_listener_responses_total" ["lb", "listener", "class"]
        "HTTP responses to clients by class of status (HTTP listeners only).";
    LISTENER_DURATION Histogram "krater_amphora_listener_request_duration_seconds" ["lb", "listener"]
        "Time from the end of a request's head to the end of its answer (HTTP listeners only).";
    LISTENER_DATAGRAMS_IN Counter "krater_amphora_listener_received_datagrams_total" ["lb", "listener"]
        "Datagrams received from clients (UDP listeners only, of which connections are sessions).";
    LISTENER_DATAGRAMS_OUT Counter "krater_amphora_listener_sent_datagrams_total" ["lb", "listener"]
        "Datagrams sent to clients (UDP listeners only).";
    LISTENER_DATAGRAMS_LOST Counter "krater_amphora_listener_dropped_datagrams_total" ["lb", "listener", "reason"]
        "Datagrams dropped (UDP listeners only): denied, too_often, limit, no_member, exhausted, to_member, to_client.";
    LISTENER_EVICTED Counter "krater_amphora_listener_evicted_sessions_total" ["lb", "listener"]
        "Sessions that gave way to others for want of room or descriptors (UDP listeners only).";
    LISTENER_MOVED Counter "krater_amphora_listener_moved_sessions_total" ["lb", "listener"]
        "Sessions that went on with another member because theirs was down or refused (UDP listeners only).";
    LISTENER_UNREACHABLES Counter "krater_amphora_listener_icmp_errors_total" ["lb", "listener", "result"]
        "ICMP errors by which clients are told that nobody takes their datagrams: sent, withheld (over the bound, or without CAP_NET_RAW; UDP listeners only).";
    POOL_MEMBERS Gauge "krater_amphora_pool_members" ["lb", "pool"]
        "Members of the pool.";
    POOL_USABLE Gauge "krater_amphora_pool_members_usable" ["lb", "pool"]
        "Members that may be chosen now.";
    POOL_UP Gauge "krater_amphora_pool_members_up" ["lb", "pool"]
        "Members that count as up.";
    POOL_ACTIVE Gauge "krater_amphora_pool_connections_active" ["lb", "pool"]
        "Connections to members open now. Sums of a pool include members that have left it.";
    POOL_CONNECTIONS Counter "krater_amphora_pool_connections_total" ["lb", "pool"]
        "Connections to members established.";
    POOL_CONNECT_FAILURES Counter "krater_amphora_pool_connect_failures_total" ["lb", "pool"]
        "Connections to members that could not be established.";
    POOL_PORTS_EXHAUSTED Counter "krater_amphora_pool_ports_exhausted_total" ["lb", "pool"]
        "Those of them for which this host had no port left towards the member.";
    POOL_RESPONSE_ERRORS Counter "krater_amphora_pool_response_errors_total" ["lb", "pool"]
        "Answers of members that broke off, were malformed or never came.";
    POOL_SENT Counter "krater_amphora_pool_sent_bytes_total" ["lb", "pool"]
        "Bytes sent to members.";
    POOL_RECEIVED Counter "krater_amphora_pool_received_bytes_total" ["lb", "pool"]
        "Bytes received from members.";
    POOL_REQUESTS Counter "krater_amphora_pool_requests_total" ["lb", "pool"]
        "HTTP requests sent to members (HTTP pools only).";
    POOL_REUSES Counter "krater_amphora_pool_reuses_total" ["lb", "pool"]
        "HTTP requests sent over a connection that had served another before (HTTP pools only).";
    POOL_RESPONSES Counter "krater_amphora_pool_responses_total" ["lb", "pool", "class"]
        "HTTP responses of members by class of status; classes never seen are absent (HTTP pools only).";
    POOL_DURATION Histogram "krater_amphora_pool_request_duration_seconds" ["lb", "pool"]
        "Time from sending a request to a member to the end of its answer; absent before the first (HTTP pools only).";
    MEMBER_UP Gauge "krater_amphora_member_up" ["lb", "pool", "member"]
        "1 while the member counts as up, 0 while its probes fail. Without a monitor it counts as up.";
    MEMBER_OUT Gauge "krater_amphora_member_out" ["lb", "pool", "member"]
        "1 while the member is passed over because connections to it failed, 0 else.";
    MEMBER_EJECTIONS Counter "krater_amphora_member_ejections_total" ["lb", "pool", "member"]
        "Times that the member was passed over because connections to it failed.";
    MEMBER_ACTIVE Gauge "krater_amphora_member_connections_active" ["lb", "pool", "member"]
        "Connections to the member open now.";
    MEMBER_CONNECTIONS Counter "krater_amphora_member_connections_total" ["lb", "pool", "member"]
        "Connections to the member established.";
    MEMBER_CONNECT_FAILURES Counter "krater_amphora_member_connect_failures_total" ["lb", "pool", "member"]
        "Connections to the member that could not be established.";
    MEMBER_RESPONSE_ERRORS Counter "krater_amphora_member_response_errors_total" ["lb", "pool", "member"]
        "Answers of the member that broke off, were malformed or never came.";
    MEMBER_FAILURES Counter "krater_amphora_member_failures_total" ["lb", "pool", "member", "cause"]
        "Tries to reach or use the member that failed, by cause (see CAUSES.md); causes never seen are absent.";
    MEMBER_WAITING Gauge "krater_amphora_member_requests_waiting" ["lb", "pool", "member"]
        "HTTP requests that wait now because the member has as many as it may have at once; absent before the first that had to.";
    MEMBER_QUEUED Counter "krater_amphora_member_requests_queued_total" ["lb", "pool", "member"]
        "HTTP requests that had to wait for it; those in vain are among its failures as member_busy; absent before the first.";
    MEMBER_SENT Counter "krater_amphora_member_sent_bytes_total" ["lb", "pool", "member"]
        "Bytes sent to the member.";
    MEMBER_RECEIVED Counter "krater_amphora_member_received_bytes_total" ["lb", "pool", "member"]
        "Bytes received from the member.";
    MEMBER_REQUESTS Counter "krater_amphora_member_requests_total" ["lb", "pool", "member"]
        "HTTP requests sent to the member (HTTP pools only).";
    MEMBER_REUSES Counter "krater_amphora_member_reuses_total" ["lb", "pool", "member"]
        "HTTP requests sent over a connection that had served another before (HTTP pools only).";
    MEMBER_RESPONSES Counter "krater_amphora_member_responses_total" ["lb", "pool", "member", "class"]
        "HTTP responses of the member by class of status; classes never seen are absent (HTTP pools only).";
    MEMBER_DURATION Histogram "krater_amphora_member_request_duration_seconds" ["lb", "pool", "member"]
        "Time from sending a request to the member to the end of its answer; absent before the first (HTTP pools only).";
    MEMBER_PROBES Counter "krater_amphora_member_probes_total" ["lb", "pool", "member", "result"]
        "Probes of the member: succeeded, failed (monitored members only).";
    MEMBER_PROBE_DURATION Gauge "krater_amphora_member_probe_duration_seconds" ["lb", "pool", "member"]
        "Time that the last probe took; absent before the first (monitored members only).";
}
