//! Bounds of this process, each with its reason (I12): of the data path first, then of the management side. The core
//! bounds what a spec may hold.

use std::time::Duration;

/// Connections that may wait to be accepted, per worker; the kernel bounds it by `net.core.somaxconn`.
pub(crate) const ACCEPT_BACKLOG_MAX: i32 = 4_096;

/// Connections accepted in a row before those that were accepted get their turn.
pub(crate) const ACCEPT_BURST_MAX: u32 = 32;

/// How long accepting rests when descriptors or memory have run out. They come back when connections end; asking again
/// at once would only burn the core.
pub(crate) const EXHAUSTION_PAUSE: Duration = Duration::from_millis(50);

/// How long handshakes under way get to end when a load balancer moves to another amphora: round trips across continents.
/// Clients that begin meanwhile and were to be served here have to ask again, after a second, so it is not longer.
pub(crate) const HANDOVER_TIME: Duration = Duration::from_millis(200);

/// How long an apply waits for workers to close sockets. A worker answers in microseconds unless its core is starved.
/// Waiting longer would hold up every other apply; the sockets are closed all the same, only later.
pub(crate) const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// New connections that may wait at a thread which others have left to it. It takes all of them at its next wake; more
/// than this, and it is no thread that rests.
pub(crate) const PASSED_MAX: usize = 256;

/// One read takes at most this much: enough that a fast stream costs few calls, small enough to stay in cache.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

/// Events that one wait of a thread may bring: enough that a busy thread waits seldom.
pub(crate) const EVENTS_MAX: usize = 256;

/// What one direction that is copied may move before others get their turn.
pub(crate) const MESSAGES_BYTES_PER_TURN_MAX: usize = 512 * 1024;

/// What one direction that is moved through a pipe may move before others get their turn: a few milliseconds of a core.
/// Whoever returns to a stream sooner finds less in it, and every look costs.
pub(crate) const STREAM_BYTES_PER_TURN_MAX: usize = 4 * 1024 * 1024;

/// What a stream has moved one way, without a word the other way, when it is taken for bulk: an object this large takes
/// longer than what it may wait for being looked at less often.
pub(crate) const BULK_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How long bulk is left alone between two looks. What gathers meanwhile is moved for little more than one piece of it.
pub(crate) const BULK_PAUSE: Duration = Duration::from_millis(1);

/// So many looks in a row at bulk that brought nothing, and the reactor is to report it again.
pub(crate) const BULK_EMPTY_LOOKS: u8 = 2;

/// A read of at least this much, so often in a row, makes a direction a stream: what is smaller or seldomer is cheaper
/// copied than moved through a pipe.
pub(crate) const STREAM_READ_BYTES_MIN: usize = 16 * 1024;

/// So many large reads in a row make a stream.
pub(crate) const STREAM_READS: u8 = 4;

/// Moving this little through a pipe costs more than copying it.
pub(crate) const TRICKLE_BYTES_MAX: usize = 4 * 1024;

/// So many small moves in a row make a stream a matter of messages again.
pub(crate) const TRICKLE_READS: u8 = 8;

/// What a pipe holds: what an unprivileged user may have (`fs.pipe-max-size`).
pub(crate) const PIPE_BYTES: usize = 1024 * 1024;

/// Pipes of one thread. Only those are in use whose reader does not keep up; each takes two descriptors, and what it
/// holds counts against the memory of its user.
pub(crate) const PIPES_MAX: usize = 256;

/// Pipes that are kept for the next stream.
pub(crate) const PIPES_IDLE_MAX: usize = 16;

/// How long a peer may be silent before it is asked whether it is still there: less than the idle timers of firewalls and
/// address translators on the way, which forget after minutes.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Between two such questions.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// So many questions without an answer mean that the peer is gone.
pub(crate) const KEEPALIVE_PROBES: u32 = 6;

/// The longest time for which what was sent may stay unacknowledged by a timer of ours; where a listener allows longer
/// silence, the system's own count of retransmissions applies, about a quarter of an hour.
pub(crate) const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(900);

/// Descriptors that connections leave to the rest of the process: spec files, reports, probes, the agent.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 128;

/// Reads of one direction of a relay in a row: half a megabyte, then somebody else's turn.
pub(crate) const RELAY_ROUNDS_MAX: usize = 8;

/// The longest pause before members that have all failed are tried again.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is read from an HTTP connection at once, and what of a body is under way between two sockets, when much waits to
/// be sent already.
pub(crate) const HTTP_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The same when little does. Measured for bodies of 1 MiB: half of the calls cost a seventh less processor time, a fifth
/// with TLS.
pub(crate) const HTTP_BIG_BUFFER_BYTES_MAX: usize = 128 * 1024;

/// What may wait to be sent on one worker for large pieces to be received: some dozens of clients that are slow. A few
/// megabytes more, however many they are.
pub(crate) const BIG_PIECES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the system takes for a client of HTTP beyond what it can send at once. Without a bound it takes megabytes for each
/// client that does not read, and when a few hundred have used up what it has for all connections, everybody waits. No
/// reader is slowed down by it: half of this is sent when more is asked for.
pub(crate) const HTTP_UNSENT_BYTES_MAX: u32 = 256 * 1024;

/// Heads of HTTP messages of more than this are refused: 431 to a client, 502 on behalf of a member.
pub(crate) const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;

/// What was received of HTTP up to this is copied; a larger piece is passed on as part of the buffer it came in, which
/// cannot be used for anything else until the piece is gone.
pub(crate) const HTTP_COPY_BYTES_MAX: usize = 4 * 1024;

/// Small pieces of HTTP are gathered up to this before they are sent.
pub(crate) const OUTBOX_BYTES_MAX: usize = 16 * 1024;

/// Buffers for heads that one worker keeps. Only connections that are just sending hold one.
pub(crate) const HEAD_BUFFERS_MAX: usize = 16;

/// Fields that what a worker keeps for them has room for. A message with more is rare, and its room is given back.
pub(crate) const SPARE_FIELDS_MAX: usize = 96;

/// Reads of what is left of a request that was answered before all of it was read. Whoever sends more than what is there
/// loses its connection.
pub(crate) const LEFTOVER_READS_MAX: usize = 4;

/// Futures for requests that one worker keeps while nobody needs them, about 4 KiB each: for HTTP/1 so many, for HTTP/2 as
/// many again.
pub(crate) const CLERKS_IDLE_MAX: usize = 256;

/// Interim answers to one request (`100`, `103`). A member that sends more never ends.
pub(crate) const INTERIM_ANSWERS_MAX: usize = 16;

/// Bytes of names and values in interim answers to one request that are passed on; what comes beyond is left out. Hints are
/// a few lines.
pub(crate) const INTERIM_BYTES_MAX: usize = 16 * 1024;

/// Fields of one HTTP message. Browsers and services send a few dozen.
pub(crate) const HTTP_FIELDS_MAX: usize = 100;

/// The target of an HTTP request; longer ones are refused with 414. RFC 9110 section 4.1 asks for 8,000 at least.
pub(crate) const HTTP_TARGET_BYTES_MAX: usize = 32 * 1024;

/// One chunk of an HTTP body. Larger numbers are not exact everywhere, which is how two readers come to disagree.
pub(crate) const CHUNK_BYTES_MAX: u64 = 1 << 53;

/// Bytes of chunk extensions in one HTTP body. Nobody needs any, and they are not passed on.
pub(crate) const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// Requests of one HTTP/2 connection at once: what clients assume before they are told (RFC 9113 section 6.5.2).
pub(crate) const STREAMS_MAX: u32 = 100;

/// The head of an HTTP/2 request, unpacked, as RFC 9113 section 6.5.2 counts it: a hundred of them may be held by one
/// connection, and a few bytes may unpack to as much. Longer ones are answered with 431.
pub(crate) const STREAM_HEAD_BYTES_MAX: u32 = 32 * 1024;

/// What of such a head is read for the tables' sake, although it is refused. Beyond it the connection ends.
pub(crate) const STREAM_HEAD_ABUSE_BYTES: usize = 4 * STREAM_HEAD_BYTES_MAX as usize;

/// The head of an HTTP/2 request as it is sent, if it comes in several frames; and how many of them there may be.
pub(crate) const STREAM_BLOCK_BYTES_MAX: usize = 64 * 1024;
pub(crate) const STREAM_BLOCK_FRAMES_MAX: usize = 16;

/// What one HTTP/2 request may send before its member has taken any of it: at 50 ms that is 5 MB a second.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same of all requests of a connection together: what it may cost if no member takes anything.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What of answers may wait for the socket of one HTTP/2 connection, and one frame more. It is no more than the client has
/// made room for.
pub(crate) const STREAM_SEND_BYTES_MAX: usize = 64 * 1024;

/// What may wait for the socket of an HTTP/2 connection for more of what its client says to be heard: answers are bounded
/// before, so these are questions of a client that does not listen.
pub(crate) const STREAM_UNREAD_BYTES_MAX: usize = 4 * STREAM_SEND_BYTES_MAX;

/// HTTP/2 requests of one connection that had to be reset for what the client did wrong, in all (CVE-2025-8671). Those count
/// that come before the client has heard how many it may make; some make hundreds.
pub(crate) const STREAMS_WRONG_MAX: usize = 512;

/// HTTP/2 frames in a row that carry nothing, such as pings: more than any client sends at once.
pub(crate) const IDLE_FRAMES_BURST: u32 = 1_000;

/// Such frames a second for as long as a connection lasts: keep-alives of the most anxious clients.
pub(crate) const IDLE_FRAMES_PER_SECOND: u32 = 10;

/// Such frames that each frame of an answer allows besides: two window updates, and a ping to measure the way.
pub(crate) const IDLE_FRAMES_PER_FRAME: u32 = 3;

/// What TLS may have sealed, and not sent, of one connection: what HTTP writes at once, with the
/// head before it.
pub(crate) const TLS_BUFFER_BYTES_MAX: usize = HTTP_BIG_BUFFER_BYTES_MAX + 16 * 1024;

/// TLS sessions with the members of one pool that are remembered, by the names asked for: each spares a handshake its
/// costly half.
pub(crate) const MEMBER_SESSIONS_MAX: usize = 256;

/// HTTP messages up to this are joined before they are sent: beyond it copying costs more than a call with two pieces.
pub(crate) const JOINED_BYTES_MAX: usize = 1_024;

/// What an HTTP client may still send after our last answer before we hang up.
pub(crate) const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// How long an HTTP client may take to read our last answer and hang up.
pub(crate) const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Idle connections to one member, per worker: more than a core has requests under way to one member.
pub(crate) const IDLE_UPSTREAMS_PER_MEMBER_MAX: usize = 256;

/// Requests that may wait for a member that has as many as it may, in all: a few times what one serves at once, and about
/// 10 MB of memory. More would only wait for the end of their time.
pub(crate) const MEMBER_QUEUE_MAX: u32 = 1_024;

/// Requests over one HTTP/2 connection to a member at once, if the member allows as many.
pub(crate) const MEMBER_STREAMS_MAX: usize = 100;

/// What of one answer a member may send by HTTP/2 before the client has taken any of it. The connection has room for as much
/// of all of them.
pub(crate) const MEMBER_STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// HTTP/2 connections to one member that are shared, per worker; further ones carry the requests they were made for.
pub(crate) const SHARED_UPSTREAMS_PER_MEMBER_MAX: usize = 16;

/// How long an HTTP/2 connection to a member may wait. Its end is announced and loses no request, so ours need not come
/// first.
pub(crate) const SHARED_IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// Idle connections to members in all, per worker, so that thousands of members cannot use up the descriptors.
pub(crate) const IDLE_UPSTREAMS_MAX: usize = 4_096;

/// Idle connections to members that one client may hold, where its connections are its own (PROXY pools): requests that
/// go round few members find one, and a client cannot multiply its descriptors.
pub(crate) const IDLE_UPSTREAMS_PER_CLIENT_MAX: usize = 4;

/// How long a connection to a member may wait. Common servers close after five seconds; a request that meets that close
/// on its way may be lost, so ours comes first.
pub(crate) const IDLE_TIME_MAX: Duration = Duration::from_millis(4_500);

/// How long a connection to a member may have waited to be given a request that cannot be sent twice. No server in use
/// closes as soon as this for idleness alone.
pub(crate) const IDLE_TIME_SAFE_MAX: Duration = Duration::from_millis(900);

/// The largest datagram there is, and what the system may join: no buffer cuts one. Not a power of two, or all buffers
/// would compete for the same lines of the cache.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_536 + 128;

/// Bytes of datagrams that may wait at a socket that clients send to; the system bounds it by `net.core.rmem_max`.
pub(crate) const DATAGRAM_BACKLOG_BYTES: usize = 4 << 20;

/// Batches of datagrams taken from one socket in a row before others get their turn.
pub(crate) const DATAGRAM_ROUNDS_MAX: usize = 8;

/// Buffers that one look at a member's socket may fill: it is looked at again at once if there is more.
pub(crate) const MEMBER_BATCH_MAX: usize = 16;

/// Answers that may wait for the end of a turn, to leave with one call.
pub(crate) const REPLIES_MAX: usize = 64;

/// Larger answers leave at once: copying them would cost more than a call.
pub(crate) const REPLY_BYTES_MAX: usize = 2_048;

/// Turns in a row in which a socket has had something before it is taken for a stream, and read in batches.
pub(crate) const DATAGRAM_STREAM_TURNS: u16 = 8;

/// Batches in a row that held one datagram, and a socket is read one by one again.
pub(crate) const DATAGRAM_SINGLES: u16 = 8;

/// The most turns in a row that it takes to try batches again with a socket of which they held one datagram: what the
/// tries cost is lost in what the turns between them cost.
pub(crate) const DATAGRAM_PATIENCE_MAX: u16 = 1_024;

/// Full batches in a row after which the system is to join the datagrams of a socket. It looks the socket up for every
/// datagram then, which only many at once are worth.
pub(crate) const DATAGRAM_FULL_BATCHES: u8 = 4;

/// Bytes of datagrams that the system takes with one call, with room for the headers. It takes no more than 64 of them,
/// which is more than come with one.
pub(crate) const SEGMENTS_BYTES_MAX: usize = 65_000;

/// How much longer than the drain timeout a UDP session may hear of its member what it asked before.
pub(crate) const DRAIN_LINGER: Duration = Duration::from_secs(2);

/// UDP sessions of one thread, if descriptors allow: a socket and a place in the table each, about 4 KiB in all.
pub(crate) const SESSIONS_MAX: usize = 65_536;

/// A configuration file is a page of text; a larger one is the wrong file.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Enough for every controller of a fleet; each is tried in turn when one fails.
pub(crate) const CONTROLLERS_MAX: usize = 64;

/// One worker per core; more threads than this on one host would be a slip of the hand.
pub(crate) const WORKERS_MAX: usize = 1_024;

/// A snapshot file of a standalone process: far above a thousand listeners of ten members, small enough to hold twice.
pub(crate) const SNAPSHOT_FILE_BYTES_MAX: u64 = 256 << 20;

/// Connections to the agent at once. Controllers keep one or two each.
pub(crate) const AGENT_CONNECTIONS_MAX: usize = 256;

/// Streams of one HTTP/2 connection to the agent at once: bounds the specs held in memory.
pub(crate) const AGENT_STREAMS_MAX: u32 = 64;

/// Time for a TLS handshake, of a client or with the agent, and for the head of a request to the agent.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// The longest that an amphora stands aside without being told again: if no controller is left that could say that the
/// other one is gone, nobody has the addresses for that long.
pub(crate) const ASIDE_TIME_MAX: Duration = Duration::from_secs(60);

/// Time for the body of a request to the agent: a stalled sender must not hold a connection for ever.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Deleted load balancers whose last generation is remembered, so that a late push cannot bring one back (I8).
pub(crate) const TOMBSTONES_MAX: usize = 4_096;

/// Threads that wait for the disk on behalf of applies; more would only queue in the disk.
pub(crate) const BLOCKING_THREADS_MAX: usize = 16;

/// Probes under way at once. Each holds a descriptor for at most its timeout.
pub(crate) const PROBES_MAX: usize = 512;

/// How long a UDP-CONNECT probe listens for complaints, if its monitor allows that long: it takes the kernel three
/// seconds to find that a neighbour is gone, and silent members must not keep the probes of others waiting for longer.
pub(crate) const UDP_SILENCE_MAX: Duration = Duration::from_secs(4);

/// Bytes of an answer read in search of the end of its status line.
pub(crate) const STATUS_LINE_BYTES_MAX: usize = 1_024;

/// Connections to the metrics endpoint at once. A scraper needs one.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 32;

/// Reports sent because something changed are at least this far apart, so that a flapping fleet cannot drown intake.
pub(crate) const REPORT_GAP_MIN: Duration = Duration::from_millis(200);

/// How long a change waits for others to travel in the same report.
pub(crate) const REPORT_DEBOUNCE: Duration = Duration::from_millis(50);

/// Time for one report: connect, handshake, send, answer.
pub(crate) const REPORT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of the answer to a report; the rest is not read.
pub(crate) const RECEIPT_BYTES_MAX: usize = 64 << 10;

/// Access log records of one thread that wait to be written, and as many that were and can be used again: what comes in
/// while a sink takes some tens of milliseconds.
pub(crate) const RECORDS_MAX: usize = 4_096;

/// Records kept by a thread whose queue was full.
pub(crate) const RECORDS_SPARE_MAX: usize = 64;

/// Bytes of access log records that are written at once, but for the last of them.
pub(crate) const RECORDS_BATCH_BYTES: usize = 128 * 1024;

/// How long the writer of access logs sleeps when nothing comes: until then it does not notice threads that have ended.
pub(crate) const RECORDS_PAUSE: Duration = Duration::from_secs(1);

/// What an access log tells of a path; what follows is cut off. With all escapes it fits a datagram.
pub(crate) const LOGGED_PATH_BYTES_MAX: usize = 2_048;

/// The same of methods, hosts and ids.
pub(crate) const LOGGED_NAME_BYTES_MAX: usize = 256;

/// Log lines that wait to be written. More means that nobody reads, or that nobody could.
pub(crate) const LOG_LINES_MAX: usize = 4_096;

/// How long the end of the process may wait for its last log lines.
pub(crate) const FLUSH_TIME_MAX: Duration = Duration::from_millis(200);

/// The shortest time between two reports; more often would be load without news, since changes are reported at once.
pub(crate) const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// The longest time between two reports; beyond it nobody could tell silence from death.
pub(crate) const HEARTBEAT_MAX: Duration = Duration::from_secs(3_600);

/// The longest that connections of what was deleted may go on: a day, or an old snapshot would never be let go of.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Bytes read of a file with certificates or a key. A chain is kilobytes; what is longer is cut and then refused as
/// malformed.
pub(crate) const PEM_BYTES_MAX: u64 = 1 << 20;

/// How often the lock of the state folder is tried before it is taken for held: those who only look let go at once.
pub(crate) const LOCK_TRIES_MAX: u32 = 20;

/// Between two tries of the lock.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The first pause before an agent that keeps dying is started again; its first death costs none.
pub(crate) const RESTART_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest such pause. Traffic waits for it: with the start that follows, an agent is back within a second however
/// often it dies.
pub(crate) const RESTART_PAUSE_MAX: Duration = Duration::from_millis(300);

/// How long an agent and its supervisor wait for each other to say something about the sockets that are held: it is a
/// matter of microseconds, and nothing else happens on the slow thread meanwhile.
pub(crate) const CUSTODY_PATIENCE: Duration = Duration::from_secs(1);

/// Time for a host to ask a controller something: connect, handshake, send, answer.
pub(crate) const HOST_ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a host waits for the first word of its controllers, all of which it asks at once, before it starts what it ran
/// last.
pub(crate) const HOST_FIRST_WORD_TIME_MAX: Duration = Duration::from_secs(3);

/// Amphorae of a host that are started or certified at once: each asks a controller and starts a process.
pub(crate) const HOST_AMPHORAE_AT_ONCE: usize = 8;

/// Bytes of such an answer: certificates, and the names of a thousand amphorae that nobody wants.
pub(crate) const HOST_ANSWER_BYTES_MAX: usize = 256 << 10;

/// Bytes of an order to a host.
pub(crate) const HOST_ORDER_BYTES_MAX: usize = 64 << 10;

/// How long a controller waits for the end of an amphora before it is told to ask again: less than its patience.
pub(crate) const HOST_RELEASE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes of an advert with its IP header: the largest names 255 addresses.
pub(crate) const ADVERT_BYTES_MAX: usize = 4_608;

/// Bytes of what is noted of addresses at which this process takes turns: a thousand load balancers with many each.
pub(crate) const NOTES_BYTES_MAX: u64 = 16 << 20;

/// How long a supervisor waits for the next agent to go on with the addresses of a dead one, before it lets go of them:
/// an agent is up within a fraction of it, and longer than this nobody should wait for one.
pub(crate) const RESUME_TIME_MAX: Duration = Duration::from_secs(1);

/// How long threads that carry traffic may take to answer before this process counts as unable to serve.
pub(crate) const PULSE_TIME_MAX: Duration = Duration::from_secs(3);

/// How often links are looked at although nothing was heard of them, and what failed there is tried again.
pub(crate) const LOOK_EACH: Duration = Duration::from_secs(1);

/// Adverts that are taken in of one socket before timers and orders get their turn: a flood of them delays no advert of
/// ours.
pub(crate) const ADVERTS_PER_TURN_MAX: usize = 64;

/// How much longer than the protocol takes it is waited until others have the addresses that this process leaves.
pub(crate) const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// How long the kernel may take to change an address at which turns are taken: an answer may get lost when the system
/// is short of memory, and adverts have to go on.
pub(crate) const ADDRESS_TIME_MAX: Duration = Duration::from_millis(500);

/// How long the kernel may take to bring addresses, routes and rules of a namespace to what they are to be.
pub(crate) const NETWORK_TIME_MAX: Duration = Duration::from_secs(10);

/// Between two looks of a supervisor at what its namespace is joined to.
pub(crate) const JOIN_EACH: Duration = Duration::from_secs(10);

/// How long `nft` may take.
pub(crate) const FILTER_TIME_MAX: Duration = Duration::from_secs(3);

/// Between two tries of `nft` where one has failed.
pub(crate) const FILTER_PAUSE_MIN: Duration = Duration::from_secs(1);
pub(crate) const FILTER_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Addresses of its host that an amphora tells its controllers: more than that are VIPs for the most part.
pub(crate) const OWN_ADDRESSES_MAX: usize = 4_096;

/// How long an agent and its successor have to change places. It takes milliseconds; who takes longer has hung, and the
/// successor is given up.
pub(crate) const SUCCESSION_TIME_MAX: Duration = Duration::from_secs(20);

/// Between two looks whether a successor's turn has come: who connects waits meanwhile.
pub(crate) const SUCCESSION_PAUSE: Duration = Duration::from_millis(1);

/// Processes that have a successor and go on for their connections: each takes up to `upgrade_memory_max`, and whoever
/// upgrades more often than this in `upgrade_drain` wants the older ones gone.
pub(crate) const PREDECESSORS_MAX: usize = 4;

/// How long an amphora waits for others to have changed the networks of its host: each takes milliseconds, and a hundred may
/// start at once.
pub(crate) const NETWORK_TURN_TIME_MAX: Duration = Duration::from_secs(10);

/// Other amphorae that exchange sessions with this one at the same time: each of its load balancers has one, or two
/// while one is replaced, and those of a shared one may all be elsewhere.
pub(crate) const SESSION_PEERS_MAX: usize = 128;

/// Pools of which another amphora may speak: as many as load balancers of a busy process have, at 100 bytes each.
pub(crate) const SESSION_POOLS_MAX: usize = 16_384;

/// How often what was learned is told: so much is lost when a host dies.
pub(crate) const SESSIONS_TOLD_EACH: Duration = Duration::from_millis(100);

/// Messages that wait for one that is slow; what does not fit is told with all the rest once it has caught up.
pub(crate) const SESSION_MESSAGES_MAX: usize = 64;

/// Messages that are taken in of one amphora in a row, and the pause after that: at most a few per cent of the slow
/// thread, whatever another one sends.
pub(crate) const SESSION_MESSAGES_AT_ONCE: u32 = 16;
pub(crate) const SESSION_MESSAGES_PAUSE: Duration = Duration::from_millis(5);

/// Bytes of sessions that one process leaves to the next: a hundred pools with as many clients as they remember, written
/// in a fraction of a second while the one before still serves.
pub(crate) const SESSIONS_FILE_BYTES_MAX: usize = 48 << 20;

/// How often an amphora that has nothing to tell says that it is there.
pub(crate) const SESSIONS_ALIVE_EACH: Duration = Duration::from_secs(3);

/// How long another one may be silent, or take nothing, before it counts as gone.
pub(crate) const SESSIONS_SILENCE_MAX: Duration = Duration::from_secs(10);

/// Between two tries to connect to another amphora.
pub(crate) const SESSIONS_DIAL_PAUSE_MIN: Duration = Duration::from_millis(250);
pub(crate) const SESSIONS_DIAL_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long the one of two that is to wait leaves it to the other one to connect.
pub(crate) const SESSIONS_DIAL_DEFERENCE: Duration = Duration::from_secs(2);

/// How long whoever carried a load balancer may still tell what it has learned: it serves until others have taken over.
pub(crate) const SESSIONS_GRACE: Duration = Duration::from_secs(60);

/// How long the end of a process, or of a load balancer here, may wait until others know what was learned last.
pub(crate) const SESSIONS_FLUSH_TIME_MAX: Duration = Duration::from_millis(300);
