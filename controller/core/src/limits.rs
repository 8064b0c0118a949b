//! The bounds of everything in the domain (I12), each with its reason.

/// Names, descriptions and tags: the API's own bound (reference 1.4).
pub const TEXT_CHARACTERS_MAX: usize = 255;
/// Tags of one resource: more than any client uses, few enough to filter by in memory.
pub const TAGS_MAX: usize = 256;
/// Listeners of one load balancer: what a whole snapshot should still be able to carry in one message.
pub const LISTENERS_MAX: usize = 1_000;
/// Pools of one load balancer, for the same reason.
pub const POOLS_MAX: usize = 1_000;
/// Members of all pools of one load balancer, for the same reason.
pub const MEMBERS_MAX: usize = 10_000;
/// L7 policies of all listeners of one load balancer, for the same reason.
pub const L7_POLICIES_MAX: usize = 1_000;
/// L7 rules of one policy (reference 11.3).
pub const L7_RULES_PER_POLICY_MAX: usize = 50;
/// L7 rules of all policies of one load balancer, for the same reason.
pub const L7_RULES_MAX: usize = 5_000;
/// L7 rules of one load balancer that hold a regular expression: each costs an amphora memory while it is in force.
pub const L7_PATTERNS_MAX: usize = 500;
/// Networks a listener may allow.
pub const ALLOWED_CIDRS_MAX: usize = 1_000;
/// Networks all listeners of one load balancer may allow together, so that a snapshot fits one message.
pub const ALLOWED_CIDRS_TOTAL_MAX: usize = 100_000;
/// Addresses of one load balancer beside its first: more than any network gives one port.
pub const ADDITIONAL_VIPS_MAX: usize = 63;
/// Security groups of one load balancer: each is looked up, and no network takes more for one port.
pub const SECURITY_GROUPS_MAX: usize = 64;
/// The longest delay and timeout of a health monitor, about 24 days: what the data plane counts in milliseconds.
pub const MONITOR_SECONDS_MAX: u32 = 2_147_483;
/// Characters of a list of ciphers (reference 6.2).
pub const CIPHERS_CHARACTERS_MAX: usize = 2_048;
/// Certificates a listener may have beside its default one: as many as its snapshot's message should carry.
pub const SNI_CERTIFICATES_MAX: usize = 1_000;
/// Characters of a health monitor's path and domain name (reference 9.2).
pub const PROBE_TEXT_CHARACTERS_MAX: usize = 255;
/// Characters of a health monitor's expected codes (reference 9.2).
pub const EXPECTED_CODES_CHARACTERS_MAX: usize = 64;
/// Resources that one scan of a list gives: a few milliseconds of the store, so that nobody waits long behind it.
pub const SCAN_MAX: usize = 1_000;
/// Profiles of a family, and flavors or zones: more than anybody tells apart, few enough to be read at once.
pub const CATALOGUE_MAX: usize = 1_000;
/// How long LVS remembers a client of a pool with session persistence whose tenant did not say, in seconds (reference
/// 19.4).
pub const PERSISTENCE_SECONDS_DEFAULT: u32 = 360;

/// Failed connections in a row that take a member out between probes: what amphorae take.
pub const PASSIVE_FAILURES_MAX: u32 = 1_000;

/// The longest a member is out between probes, in seconds: what amphorae take.
pub const PASSIVE_SECONDS_MAX: u32 = 3_600;

/// The longest slow start, in seconds: what amphorae take.
pub const SLOW_START_SECONDS_MAX: u32 = 3_600;

/// Memory of one amphora, in MiB: enough to start with, twice while a new program takes over; more than machines have.
pub const MEMORY_MIB_MIN: u32 = 128;
/// The most.
pub const MEMORY_MIB_MAX: u32 = 1 << 20;
/// Processor time of one amphora, in percent of one processor: less than a tenth would serve nobody.
pub const CPU_PERCENT_MIN: u32 = 10;
/// The most: of 256 processors.
pub const CPU_PERCENT_MAX: u32 = 25_600;

/// Connections of one source a second: what amphorae take.
pub const SOURCE_RATE_MAX: u32 = 100_000;

/// HTTP requests that one member may have at once: what amphorae take.
pub const MEMBER_REQUESTS_MAX: u32 = 1_000_000;

/// The most requests there may be for one in the access log: fewer would be as good as none.
pub const ACCESS_LOG_ONE_IN_MAX: u32 = 1_000_000;

/// The longest that connections of a member are given an end after, in seconds: a day. Longer is as good as never.
pub const MEMBER_DRAIN_SECONDS_MAX: u32 = 86_400;

/// Causes of failures that are kept of a listener: amphorae know half as many.
pub const CAUSES_MAX: usize = 64;

/// Bytes of the name of a cause; none is half as long.
pub const CAUSE_NAME_BYTES_MAX: usize = 64;
