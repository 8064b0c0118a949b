//! The bounds of everything the data plane takes in or keeps (I12), each with its reason.

use core::time::Duration;

/// Bytes of a spec as it travels: the largest tree that a controller admits, with every name as long and as costly to
/// write as names can be, takes 34 MB, and its certificates as much as `TLS_BYTES_TOTAL_MAX` with an escape for each
/// line; a larger body is a mistake or an attack.
pub const SPEC_BODY_BYTES_MAX: usize = 58 * 1024 * 1024;

/// Certificates of one listener, each for names of its own: what is prepared in a tenth of a second or two.
pub const CERTIFICATES_PER_LISTENER_MAX: usize = 1_000;

/// Certificates of all listeners of one load balancer, for the same reason.
pub const CERTIFICATES_MAX: usize = 2_000;

/// Bytes of a certificate and those that lead to its authority, as PEM: ten certificates of large keys and many names.
pub const CHAIN_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a private key as PEM. One of RSA with 8192 bits has 6.4 KB; no larger one can be used.
pub const PRIVATE_KEY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the authorities that vouch for peers, as PEM: all that browsers trust take 220 KB.
pub const AUTHORITIES_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of lists of revoked certificates, as PEM: a hundred thousand of them. They are searched for each handshake.
pub const REVOCATIONS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of all PEM of one load balancer, so that the spec fits its body.
pub const TLS_BYTES_TOTAL_MAX: usize = 16 * 1024 * 1024;

/// Characters of a name: the API's own bound (reference 1.4).
pub const NAME_CHARACTERS_MAX: usize = 255;

/// Addresses of one load balancer: a VIP and more additional VIPs than any network gives one port.
pub const VIPS_MAX: usize = 64;

/// Listeners of one load balancer: each opens a socket per worker and VIP.
pub const LISTENERS_MAX: usize = 1_000;

/// Pools of one load balancer: what a snapshot should still carry in one message.
pub const POOLS_MAX: usize = 1_000;

/// Members of all pools of one load balancer, for the same reason, and since each of them may be probed.
pub const MEMBERS_MAX: usize = 10_000;

/// L7 policies of all listeners of one load balancer, for the same reason.
pub const POLICIES_MAX: usize = 1_000;

/// Rules of one L7 policy (reference 11.3): all are looked at for a request that matches.
pub const RULES_PER_POLICY_MAX: usize = 50;

/// Rules of all L7 policies of one load balancer, for the reason of pools.
pub const RULES_MAX: usize = 5_000;

/// Regular expressions of one load balancer: each may take `PATTERN_BYTES_MAX`, and as much again per worker.
pub const PATTERNS_MAX: usize = 500;

/// Characters of what a rule compares with, of the name of what it looks at, and of a redirection's URL (reference
/// 10.2, 11.2).
pub const RULE_CHARACTERS_MAX: usize = 255;

/// Networks that one listener may allow: what is searched in ten steps.
pub const ALLOWED_CIDRS_MAX: usize = 1_000;

/// Networks that all listeners of one load balancer may allow together, so that the spec fits its body.
pub const ALLOWED_CIDRS_TOTAL_MAX: usize = 100_000;

/// The largest weight of a member (reference 8.2).
pub const WEIGHT_MAX: u16 = 256;

/// The longest timer, in milliseconds: what a signed 32-bit number of them holds, about 24 days, as in HAProxy.
pub const TIMER_MS_MAX: u32 = i32::MAX.cast_unsigned();

/// The largest rise and fall (reference 9.2).
pub const RISE_FALL_MAX: u8 = 10;

/// The shortest time between two probes of a member; more often would be load, not knowledge.
pub const PROBE_DELAY_MS_MIN: u32 = 10;

/// What a probe delay of zero means. The API counts in whole seconds and allows zero (reference 9.2), which nobody
/// can mean literally: it is read as the shortest that can be asked for otherwise.
pub const PROBE_DELAY_FOR_ZERO: Duration = Duration::from_secs(1);

/// First probes of members configured together are spread over this long, or over their delay if that is shorter:
/// a verdict should come soon, but not with all probes in the same instant.
pub const FIRST_PROBE_SPREAD: Duration = Duration::from_secs(1);

/// Characters of a probe's path (reference 9.2).
pub const PROBE_PATH_CHARACTERS_MAX: usize = 255;

/// Characters of a probe's Host header (reference 9.2).
pub const PROBE_DOMAIN_CHARACTERS_MAX: usize = 255;

/// Ranges of expected codes: the API's 64 characters hold sixteen, and 500 codes need no more than 250.
pub const EXPECTED_CODES_MAX: usize = 250;

/// Members tried for one connection or request: the first and three redispatches (reference 19.1).
pub const MEMBER_TRIES_MAX: usize = 4;

/// Turns of round robin that are laid out beforehand. Beyond it (many members, weights without common divisor) the
/// turns are computed: as fair, only less pretty in their order.
pub const ROUND_ROBIN_TURNS_MAX: usize = 4_096;

/// UDP sessions of one worker, whatever it is asked to hold: its table numbers them in 32 bits, and a name of 56 must
/// have room for who had the place before.
pub const FLOWS_MAX: usize = 1 << 24;

/// Clients that a pool with session persistence remembers, in 256 KiB: three times what the reference's table holds
/// (10,000, reference 19.4). A table without locks is divided into sets, and at three times the room all but a few in a
/// thousand of so many find some in theirs.
pub const AFFINITY_CLIENTS_MAX: usize = 32_768;

/// Members that the cookie of a client names, one for each pool it came to: more pools than one client is sent to by the
/// policies of one listener, and a cookie of 150 bytes.
pub const COOKIE_MEMBERS_MAX: usize = 4;

/// Characters of a cookie's name: the API's own bound (reference 7.4).
pub const COOKIE_NAME_BYTES_MAX: usize = 255;

/// Bytes of a PROXY header that is read: addresses and checksum are short, certificates in it may take kilobytes.
pub const PROXY_HEADER_BYTES_MAX: usize = 16 * 1024;

/// Parts that the share of a member is counted in while it begins slowly: fine enough that no step is felt, few enough
/// that round robin can lay its turns out.
pub const SHARE_FULL: u8 = 16;

/// The shortest time between two steps of a slow start: each prepares the pool anew.
pub const RAMP_STEP_MIN: Duration = Duration::from_millis(100);

/// The longest slow start, in milliseconds: an hour. Whoever needs longer needs weights.
pub const SLOW_START_MS_MAX: u32 = 3_600_000;

/// The largest number of HTTP requests that one member may be given at once: more than there are descriptors.
pub const MEMBER_REQUESTS_MAX: u32 = 1_000_000;

/// Failures in a row that take a member out: beyond it somebody means never.
pub const PASSIVE_FAILURES_MAX: u32 = 1_000;

/// The longest that a member is out by its conduct, in milliseconds: an hour. Longer than that is for health monitors.
pub const PASSIVE_OUT_MS_MAX: u32 = 3_600_000;

/// The largest rate of one source, in connections a second. Its intervals are whole microseconds, and ten of them are
/// exact enough.
pub const SOURCE_RATE_MAX: u32 = 100_000;

/// Sets of four slots in a listener's table of sources: 128 KiB, and room for 16,384 sources that connected within the
/// last second.
pub const SOURCE_SETS: usize = 4_096;

/// Clients that one thread tells in a second that nobody takes their datagrams: enough for those who ask, too few to be
/// of use against those whose addresses others abuse. The system's own bound is a thousand for the whole host.
pub const UNREACHABLES_PER_SECOND_MAX: u64 = 100;

/// Clients told so at once, after a rest.
pub const UNREACHABLES_AT_ONCE_MAX: u64 = 50;

/// So many connections more than a thread that rests, and a thread may be crowded: fewer are no load, and passing them
/// on costs more than it gains.
pub const CROWD_MIN: u64 = 8;

/// Others that take turns at one load balancer's addresses: a pair, with room for who is about to replace one.
pub const PEERS_MAX: usize = 8;

/// The shortest time between two adverts, in milliseconds: what a thread of a busy host keeps to.
pub const ADVERT_INTERVAL_MS_MIN: u32 = 50;

/// Heartbeats that tell changes alone before all is told again: whatever went wrong is right within a minute, and that
/// costs a thirtieth of telling all each time.
pub const CHANGES_BETWEEN_REPORTS_MAX: u32 = 30;
/// Clients that amphorae tell each other in one message: each names its members once, and a message is read whole.
pub const PEER_ENTRIES_MAX: usize = 1_024;

/// Bytes of such a message: as many clients as it may tell, each with another member.
pub const PEER_MESSAGE_BYTES_MAX: usize = 32 * 1024;
