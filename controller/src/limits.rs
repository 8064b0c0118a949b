//! The bounds of everything in the controller's edges (I12), each with its reason.

use std::time::Duration;

/// Times an admitted change is decided again because another one was stored first. Changes of one load balancer wait
/// for each other in this process, so a second round is rare; this many means that something else is wrong.
pub(crate) const RACES_MAX: u32 = 1_000;
/// How long the answer to a GET waits for a pending load balancer: changes take milliseconds, so this is patience
/// for an amphora that is just busy; clients that poll are not slowed down noticeably.
pub(crate) const SETTLE_WAIT_MAX: Duration = Duration::from_millis(300);
/// Load balancers that tenants changed, attended to at once. With SQLite all share one connection; more would only lengthen
/// its queue.
pub(crate) const RECONCILES_URGENT_MAX: usize = 32;
/// Load balancers attended to at once because of a report or the sweep: few, so that tenants' changes go first.
pub(crate) const RECONCILES_BACKGROUND_MAX: usize = 4;
/// Load balancers with news of one amphora that are looked at together: of fewer, as a rule, there is something to do.
pub(crate) const GLANCE_MIN: usize = 4;
/// Amphorae whose load balancers are looked at together at once: each keeps a connection to the database and a thread busy.
pub(crate) const GLANCES_MAX: usize = 1;
/// Load balancers taken from the store by one sweep; the next one is a second away.
pub(crate) const SWEEP_MAX: u32 = 10_000;
/// Times one attendance plans anew after what it planned before was done: creating takes two.
pub(crate) const PLANS_MAX: u32 = 8;

/// How long an agent has to answer one call: binding sockets and one write to disk. Below the patience of an operation,
/// so that a frozen amphora shows in time.
pub(crate) const AGENT_CALL_TIME_MAX: Duration = Duration::from_secs(2);
/// How long connecting to an agent may take, TLS included.
pub(crate) const AGENT_CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Longest wait between two tries to connect to an agent.
pub(crate) const AGENT_RECONNECT_WAIT_MAX: Duration = Duration::from_millis(500);

/// How long the agent of a host has to answer one call: it may start a process, and ask for a certificate first.
pub(crate) const HOST_CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// How old what is written down of a host may be while it reports.
pub(crate) const HOST_WRITE_INTERVAL: Duration = Duration::from_secs(2);
/// What hosts ask and say: a report of a thousand amphorae is a few hundred kilobytes.
pub(crate) const HOST_BYTES_MAX: usize = 1 << 20;
/// Hosts that are asked at once to follow another authority.
pub(crate) const FOLLOWERS_MAX: usize = 16;
/// How long a host that was removed stays on record, so that it is told: longer than its certificates last.
pub(crate) const REMOVED_KEPT: Duration = Duration::from_secs(86_400 * 40);
/// Connections without a certificate at once: hosts that are about to join.
pub(crate) const STRANGERS_MAX: usize = 16;
/// How long one may last.
pub(crate) const STRANGER_TIME_MAX: Duration = Duration::from_secs(15);
/// What may be sent over one in a request, and in its head: a token, a request for a certificate, a few facts.
pub(crate) const STRANGER_BYTES_MAX: usize = 16 << 10;

/// For how long two may have the addresses of a load balancer before it counts as a contest: whoever leaves them has them
/// for little more than an interval of adverts, and reports are a second old at most.
pub(crate) const CONTEST_PATIENCE: Duration = Duration::from_secs(2);
/// How long ago the other one may have spoken at most: reports come each second or so.
pub(crate) const CONTEST_HEARD_MAX: Duration = Duration::from_secs(5);
/// For how long one of them stands aside, and how often it is told so again.
pub(crate) const ASIDE_LEASE: Duration = Duration::from_secs(15);
pub(crate) const ASIDE_RENEWAL: Duration = Duration::from_secs(2);

/// How often it is looked whether what nobody hears of is shown so, where other controllers may hear of it.
pub(crate) const SILENT_LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a report may be under way: an amphora gives one up after five seconds, and clocks are read twice.
pub(crate) const LATE_REPORT_MAX: Duration = Duration::from_secs(10);
/// A report, whether posted or asked for; that of a thousand load balancers is about a megabyte.
pub(crate) const REPORT_BYTES_MAX: usize = 64 << 20;
/// Reports asked for and not taken yet: one per amphora that connects at the same moment.
pub(crate) const REPORTS_WAITING_MAX: usize = 64;
/// Connections of amphorae at once: one each, and those of a restarted process may overlap.
pub(crate) const INTAKE_CONNECTIONS_MAX: usize = 1_024;
/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections to the metrics endpoint at once: a scraper or two, and somebody looking.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 32;
/// How long one request may take altogether, a slowly sent body included.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// How long requests in progress get to end when the process is asked to.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// How long after all hosts have followed a step of the authority's succession the next one may be taken, beside three
/// heartbeats of amphorae, at which these read their files: other controllers look once a second.
pub(crate) const FOLLOW_TIME: Duration = Duration::from_secs(3);
/// How long a controller that shares a database counts as there after it told so, which it does each second: longer than
/// one that is merely slow says nothing.
pub(crate) const FOLLOWER_TIME: Duration = Duration::from_secs(10);
/// How often it is looked for amphorae of hosts that are lost: a small part of the time in which they are to be replaced.
pub(crate) const REPAIR_INTERVAL: Duration = Duration::from_millis(200);
/// Hosts that may be given up within [`REPAIR_WINDOW`]: a host dies alone, as a rule.
pub(crate) const REPAIR_HOSTS_MAX: u64 = 1;
/// One in so many may be, where there are many: a rack, or a power supply.
pub(crate) const REPAIR_ONE_IN: u64 = 5;
/// Longer than what was moved takes to settle, so that a mistake shows before the next one.
pub(crate) const REPAIR_WINDOW: Duration = Duration::from_secs(60);
/// What happened to a host that is remembered, the newest of it.
pub(crate) const HOST_EVENTS_MAX: usize = 20;

/// Amphorae of which it is looked up at once what they told others.
pub(crate) const CATCH_UPS_MAX: usize = 2;
/// How old tallies in the database may be. A crash costs nothing: amphorae report absolute counts.
pub(crate) const TALLY_WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// How long an amphora may report a load balancer that is not placed on it before it is told to let go: a push, a
/// removal or a move may be under way.
pub(crate) const STRANGER_GRACE: Duration = Duration::from_secs(10);
/// How long a shared amphora may be one too many and carry nothing before it ends: starting one takes seconds, and
/// load balancers come and go.
pub(crate) const SPARE_TIME_MAX: Duration = Duration::from_secs(60);
/// How often what is still on an amphora that is to go is looked at: a move takes less.
pub(crate) const URGE_INTERVAL: Duration = Duration::from_secs(5);
/// How often what is due is looked for. A lost poke costs this.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long a load balancer stays a controller's own duty when that controller dies: longer than the calls of one attempt.
pub(crate) const LEASE_TIME: Duration = Duration::from_secs(5);
/// How long a controller waits at most before it asks again for a duty that is another one's.
pub(crate) const LEASE_PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often everything is looked at that other controllers may have changed: news tell of it at once, as a rule.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// By how much what other controllers heard of an amphora may be older than it is shown: they write it down each second
/// and it is read each second.
pub(crate) const HEARSAY_AGE_MAX: Duration = Duration::from_secs(3);
/// By how much what another controller heard may be older when it is read: it is written down each second, and read each
/// second.
pub(crate) const HEARSAY_LAG_MAX: Duration = Duration::from_secs(2);
/// How long what another controller heard after a pause may be under way to the database, where it is written at once.
pub(crate) const HEARSAY_UNDER_WAY_MAX: Duration = Duration::from_millis(100);
/// Times a place is looked for again because other controllers placed something there first.
pub(crate) const PLACE_RACES_MAX: u32 = 10;
/// How long a load balancer on an amphora of another host that is not connected is left to controllers that reach it.
pub(crate) const FOREIGN_PATIENCE: Duration = Duration::from_secs(10);

/// Amphorae that the controller's own host is asked to start at once: each is a key, a certificate and a process that
/// begins. So many keep its processors busy; more would only keep everything else waiting.
pub(crate) const STARTS_AT_ONCE_MAX: usize = 16;

/// How long a start waits for the lock on its state folder: a process that was killed is gone within milliseconds.
pub(crate) const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);
/// Between two tries of that lock.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Secrets that are remembered: those of thousands of listeners.
pub(crate) const SECRETS_KEPT_MAX: usize = 20_000;
/// Their bytes. A certificate with its chain and key has about eight thousand.
pub(crate) const SECRETS_KEPT_BYTES_MAX: usize = 256 << 20;
/// Secrets asked for at once: more would only queue at the store.
pub(crate) const SECRETS_READ_AT_ONCE_MAX: usize = 16;
/// Secrets looked into at once: an encrypted bundle may keep a core busy for seconds and ask for memory.
pub(crate) const SECRETS_OPENED_AT_ONCE_MAX: usize = 2;
/// Entries of the audit trail that are looked through for an announcement: one for each of its stages, and renewals.
pub(crate) const EXPIRY_ENTRIES_MAX: u32 = 200;

/// Refusals noted for the audit trail at once: a burst of a client's mistakes is whole, a flood is not.
pub(crate) const REFUSALS_BURST_MAX: f64 = 200.0;
/// Refusals noted a second from then on: a write each, far below what would slow requests down.
pub(crate) const REFUSALS_PER_SECOND_MAX: f64 = 20.0;
/// Refusals noted and not written down yet.
pub(crate) const REFUSALS_WAITING_MAX: usize = 256;
/// How often what is too old is forgotten.
pub(crate) const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Rows forgotten in one go: milliseconds of the one connection.
pub(crate) const PRUNE_ROWS_MAX: u32 = 1_000;
