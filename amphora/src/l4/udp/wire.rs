//! Datagrams as the system takes and gives them: many with one call, where it can be had.
//!
//! Received by `recvmmsg` into buffers that hold the largest datagram there is, so that none is ever cut. Several of one
//! sender that came together as one buffer (UDP_GRO), or that follow each other and are of one size, go out with one
//! call as well (UDP_SEGMENT). The path's MTU is left to the system: what is larger is sent in fragments.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt,
    sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, UdpGroSegment},
};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recvfrom,
        send, sendto, socket_with,
        sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover},
    },
};

use crate::limits::{
    DATAGRAM_BYTES_MAX, DATAGRAM_FULL_BATCHES, DATAGRAM_PATIENCE_MAX, DATAGRAM_SINGLES,
    DATAGRAM_STREAM_TURNS, SEGMENTS_BYTES_MAX,
};

/// What receiving and sending takes: once for all sockets of a thread.
pub(super) struct Means {
    pub(super) batch: Batch,
    pub(super) calls: Calls,
}

/// Where datagrams rest between the two calls.
pub(super) struct Batch {
    buffers: Box<[u8]>,
    metas: Box<[RecvMeta; BATCH_SIZE]>,
    /// Those that are filled and were not taken out, a bit each.
    left: u64,
    /// Holds what several buffers had, one after the other.
    joined: Vec<u8>,
}

/// The calls for which the system needs more said than a datagram and an address. Made for a socket of its own, since
/// making it sets options that are not meant for others.
pub(super) struct Calls(UdpSocketState);

/// Datagrams of one sender, one after the other, all as long as `size` but for the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'a> {
    pub(super) bytes: &'a [u8],
    size: usize,
}

/// Who sent something, and to which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) sender: SocketAddr,
    /// Known only where [`tell_destination`] asked for it.
    pub(super) to: Option<IpAddr>,
}

impl<'a> Parcel<'a> {
    /// Number of datagrams.
    pub(super) fn count(&self) -> u64 {
        self.each().count() as u64
    }

    /// Its datagrams. An empty one is one too.
    pub(super) fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        empty.into_iter().chain(self.bytes.chunks(self.size.max(1)))
    }

    pub(super) const fn is_single(&self) -> bool {
        self.bytes.len() <= self.size
    }
}

impl Means {
    pub(super) fn new() -> io::Result<Self> {
        let model = open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))?;
        bind(&model, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
        Ok(Self {
            batch: Batch {
                // Zeroed pages that nobody touched take no memory: with small datagrams all but one in sixteen.
                buffers: vec![0; BATCH_SIZE * DATAGRAM_BYTES_MAX].into_boxed_slice(),
                metas: Box::new([RecvMeta::default(); BATCH_SIZE]),
                left: 0,
                joined: Vec::with_capacity(SEGMENTS_BYTES_MAX),
            },
            calls: Calls(UdpSocketState::new(UdpSockRef::from(&model))?),
        })
    }
}

impl Batch {
    /// Takes what has come to a socket, at most `most` buffers of it, and says whether more may be there.
    ///
    /// # Errors
    ///
    /// Those of `recvmmsg`; `WouldBlock` if nothing has come.
    pub(super) fn receive(
        &mut self,
        calls: &Calls,
        socket: impl AsFd,
        pace: &mut Pace,
        most: usize,
    ) -> io::Result<Rest> {
        self.left = 0;
        let mut buffers = self.buffers.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let slices = slices.get_mut(..most.min(BATCH_SIZE)).unwrap_or_default();
        let metas = self.metas.as_mut_slice();
        let received = calls.0.recv(UdpSockRef::from(&socket), slices, metas)?;
        self.left = first_bits(received);
        pace.learn(received, most.min(BATCH_SIZE), &socket);
        Ok(if received < most {
            Rest::Nothing
        } else {
            Rest::Unknown
        })
    }

    /// Takes one datagram: for sockets that have no more than that, most of the time.
    ///
    /// # Errors
    ///
    /// Those of `recvfrom`; `AGAIN` if nothing has come.
    pub(super) fn receive_one(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        self.left = 0;
        let buffer = self
            .buffers
            .get_mut(..DATAGRAM_BYTES_MAX)
            .unwrap_or_default();
        let (_, length, sender) = recvfrom(socket, buffer, RecvFlags::empty())?;
        let [meta, ..] = &mut *self.metas;
        *meta = RecvMeta::default();
        (meta.len, meta.stride) = (length, length);
        // A connected socket hears one sender, and need not say which; a sender of neither family is none.
        if let Some(Ok(sender)) = sender.map(SocketAddr::try_from) {
            meta.addr = sender;
        }
        self.left = 1;
        Ok(())
    }

    /// Of what was received the next that can be sent together, and whose it is. What one sender sent comes in the order
    /// in which it came; that of another may come earlier or later.
    pub(super) fn next(&mut self) -> Option<(Origin, Parcel<'_>)> {
        let at = self.left.trailing_zeros() as usize;
        let first = self.metas.get(at)?;
        let origin = Origin {
            sender: first.addr,
            to: first.dst_ip,
        };
        let run = run(&*self.metas, self.left);
        self.left &= !run;
        if run.count_ones() > 1 {
            self.joined.clear();
            for (at, meta) in self.metas.iter().enumerate() {
                if run & (1 << at) != 0 {
                    let bytes = message(&self.buffers, at, meta.len);
                    self.joined.extend_from_slice(bytes);
                }
            }
            let bytes = self.joined.as_slice();
            let size = first.len;
            return Some((origin, Parcel { bytes, size }));
        }
        let bytes = message(&self.buffers, at, first.len);
        let size = first.stride;
        Some((origin, Parcel { bytes, size }))
    }
}

impl Calls {
    /// Sends one datagram from a given address of this host.
    pub(super) fn send_from(
        &self,
        socket: impl AsFd,
        from: IpAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: Some(from),
        };
        self.0.try_send(UdpSockRef::from(&socket), &transmit)
    }
}

fn message(buffers: &[u8], at: usize, bytes: usize) -> &[u8] {
    let start = at * DATAGRAM_BYTES_MAX;
    buffers.get(start..start + bytes).unwrap_or_default()
}

/// Of those buffers in `left`, a bit each, the first and all that one call can send with it: single datagrams of the same
/// sender and size, the last of which may be shorter. One that does not fit ends it, since a sender's order is kept.
fn run(metas: &[RecvMeta], left: u64) -> u64 {
    let at = left.trailing_zeros() as usize;
    let Some(first) = metas.get(at) else { return 0 };
    let mut run = left & left.wrapping_neg();
    if first.len == 0 || first.stride != first.len {
        return run;
    }
    let mut bytes = first.len;
    for (at, meta) in metas.iter().enumerate().skip(at + 1) {
        let bit = 1_u64 << at;
        if left & bit == 0 || meta.addr.port() != first.addr.port() || meta.addr != first.addr {
            continue;
        }
        let joins = meta.dst_ip == first.dst_ip
            && meta.stride == meta.len
            && (1..=first.len).contains(&meta.len)
            && bytes + meta.len <= SEGMENTS_BYTES_MAX;
        if !joins {
            break;
        }
        run |= bit;
        bytes += meta.len;
        if meta.len < first.len {
            break;
        }
    }
    run
}

/// That many bits from the lowest on.
const fn first_bits(count: usize) -> u64 {
    match count {
        0 => 0,
        1..64 => u64::MAX >> (64 - count),
        64.. => u64::MAX,
    }
}

/// How a socket is read: most have one datagram at a time, and a call for many costs more than one for one. Those that
/// have something turn after turn may be streams: they are read in batches, until these turn out to hold one each. Who
/// was mistaken for a stream is tried again later and later.
///
/// Those of which batches are full are streams for good: from then on the system joins their datagrams (UDP_GRO), which
/// a call for one could not take apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The turn in which it last had something.
    last: u64,
    /// Turns in a row in which it has had something; once it is read in batches, those in a row that held one.
    row: u16,
    /// How many turns in a row make a stream of it.
    patience: u16,
    /// Full batches in a row.
    full: u8,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Single,
    Batches,
    /// In batches whatever they hold.
    Always {
        joined: bool,
    },
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            last: 0,
            row: 0,
            patience: DATAGRAM_STREAM_TURNS,
            full: 0,
            reading: Reading::Single,
        }
    }
}

impl Pace {
    /// In batches from the start and for good.
    pub(super) fn batches() -> Self {
        Self {
            reading: Reading::Always { joined: false },
            ..Self::default()
        }
    }

    /// Whether it is read in batches. To be asked once per turn in which it has something.
    pub(super) const fn is_stream(&mut self, turn: u64) -> bool {
        if matches!(self.reading, Reading::Single) {
            self.row = if turn == self.last + 1 {
                self.row + 1
            } else {
                0
            };
            self.last = turn;
            if self.row >= self.patience {
                self.reading = Reading::Batches;
                self.row = 0;
            }
        }
        !matches!(self.reading, Reading::Single)
    }

    /// Learns from a batch that filled so many buffers of `most`, and has the system join datagrams if there are many.
    pub(super) fn learn(&mut self, filled: usize, most: usize, socket: &impl AsFd) {
        if self.is_to_be_joined(filled, most) {
            let_come_together(socket);
        }
    }

    fn is_to_be_joined(&mut self, filled: usize, most: usize) -> bool {
        self.full = if filled < most { 0 } else { self.full + 1 };
        if self.full >= DATAGRAM_FULL_BATCHES {
            self.full = 0;
            let before = self.reading;
            self.reading = Reading::Always { joined: true };
            return before != self.reading;
        }
        if self.reading == Reading::Batches {
            self.row = if filled <= 1 { self.row + 1 } else { 0 };
            if self.row >= DATAGRAM_SINGLES {
                self.reading = Reading::Single;
                self.row = 0;
                self.patience = (self.patience * 2).min(DATAGRAM_PATIENCE_MAX);
            }
        }
        false
    }
}

/// Whether a socket has more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    Unknown,
}

/// The size of the datagrams of which a socket takes several with one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    bytes_max: usize,
}

impl Segments {
    /// Of any size, as far as is known.
    pub(super) const ANY: Self = Self {
        bytes_max: SEGMENTS_BYTES_MAX,
    };
}

/// Sends all datagrams of a parcel with one call, to `to` or whom the socket is connected to. `false` if that cannot be
/// done here, and each has to be sent by itself.
pub(super) fn send_together(
    socket: impl AsFd,
    to: Option<SocketAddr>,
    parcel: Parcel<'_>,
    segments: &mut Segments,
) -> bool {
    if parcel.is_single() || parcel.size > segments.bytes_max {
        return false;
    }
    let Ok(size) = u16::try_from(parcel.size) else {
        return false;
    };
    let to = to.map(SockaddrStorage::from);
    let sent = sendmsg(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(parcel.bytes)],
        &[ControlMessage::UdpGsoSegments(&size)],
        MsgFlags::MSG_NOSIGNAL,
        to.as_ref(),
    );
    match sent.map_err(|error| Errno::from_raw_os_error(error as i32)) {
        Ok(_) => true,
        // Larger than the way takes: in fragments each may pass.
        Err(Errno::INVAL | Errno::MSGSIZE) => {
            segments.bytes_max = parcel.size - 1;
            false
        }
        // The device cannot.
        Err(Errno::IO | Errno::OPNOTSUPP) => {
            segments.bytes_max = 0;
            false
        }
        // Sending one by one will tell what is wrong.
        Err(_) => false,
    }
}

/// Sends one datagram to whom the socket is connected to.
pub(super) fn send_connected(socket: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    send(socket, bytes, SendFlags::NOSIGNAL).map(drop)
}

/// Sends one datagram.
pub(super) fn send_to(socket: impl AsFd, to: SocketAddr, bytes: &[u8]) -> Result<(), Errno> {
    sendto(socket, bytes, SendFlags::NOSIGNAL, &to).map(drop)
}

/// A socket that exchanges datagrams with one member, and hears what ICMP says of it. Its descriptor is below
/// `descriptors_max`.
pub(super) fn connected(member: SocketAddr, descriptors_max: i32) -> Result<OwnedFd, Errno> {
    let socket = open(member)?;
    if socket.as_raw_fd() >= descriptors_max {
        return Err(Errno::MFILE);
    }
    connect(&socket, &member)?;
    Ok(socket)
}

fn open(family_of: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if family_of.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    let_pass_whole(&socket, family_of)?;
    Ok(socket)
}

/// Datagrams larger than the way takes are sent in fragments rather than refused. Of IPv4 routers do that, so that no
/// ICMP message need be believed; of IPv6 the system must believe them, and does so by itself.
pub(super) fn let_pass_whole(socket: impl AsFd, family_of: SocketAddr) -> Result<(), Errno> {
    if family_of.is_ipv4() {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT)?;
    }
    Ok(())
}

/// Has the system hand over datagrams of one sender that came together in one buffer. Where it cannot, they come one by
/// one.
fn let_come_together(socket: &impl AsFd) {
    let _ = setsockopt(&socket.as_fd(), UdpGroSegment, &true);
}

/// Has the system say to which address a datagram was sent: needed where a socket is bound to all of them.
pub(super) fn tell_destination(socket: &impl AsFd, bound_to: IpAddr) -> io::Result<()> {
    match bound_to {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            setsockopt(&socket.as_fd(), Ipv4PacketInfo, &true)?;
        }
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            setsockopt(&socket.as_fd(), Ipv6RecvPacketInfo, &true)?;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sender: u16, len: usize, stride: usize) -> RecvMeta {
        let mut meta = RecvMeta::default();
        meta.addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), sender);
        (meta.len, meta.stride) = (len, stride);
        meta
    }

    fn single(sender: u16, len: usize) -> RecvMeta {
        meta(sender, len, len)
    }

    /// What is taken out of these together, one after the other, by position.
    fn runs(metas: &[RecvMeta]) -> Vec<Vec<usize>> {
        let mut left = first_bits(metas.len());
        let mut runs = Vec::new();
        while left != 0 {
            let run = run(metas, left);
            assert!(run & left == run && run != 0);
            left &= !run;
            runs.push((0..64).filter(|at| run & (1 << at) != 0).collect());
        }
        runs
    }

    #[test]
    fn only_equal_datagrams_of_one_sender_are_joined_and_a_shorter_one_ends_it() {
        let (a, b) = (|len| single(1, len), |len| single(2, len));
        for (metas, expected) in [
            (vec![], vec![]),
            (vec![a(64)], vec![vec![0]]),
            (vec![a(64), a(64), a(64)], vec![vec![0, 1, 2]]),
            (
                vec![a(64), b(64), a(64), b(9)],
                vec![vec![0, 2], vec![1, 3]],
            ),
            (vec![a(64), a(10), a(10)], vec![vec![0, 1], vec![2]]),
            (vec![a(64), a(65), a(64)], vec![vec![0], vec![1, 2]]),
            // An empty one has no place in a run, and one that holds several is sent as it came.
            (vec![a(0), a(0)], vec![vec![0], vec![1]]),
            (vec![a(64), a(0), a(64)], vec![vec![0], vec![1], vec![2]]),
            (vec![meta(1, 128, 64), a(64)], vec![vec![0], vec![1]]),
            (vec![a(64), meta(1, 128, 64)], vec![vec![0], vec![1]]),
            (vec![a(40_000), a(40_000)], vec![vec![0], vec![1]]),
        ] {
            assert_eq!(runs(&metas), expected, "{metas:?}");
        }
        let many = vec![a(64); BATCH_SIZE];
        assert_eq!(runs(&many), [(0..BATCH_SIZE).collect::<Vec<_>>()]);
    }

    /// Looks at a socket that has something every turn, whose batches fill so many buffers, and says how many of the
    /// looks were for a batch.
    fn batches(pace: &mut Pace, turns: u64, filled: usize) -> u64 {
        let mut batches = 0;
        for _ in 0..turns {
            if pace.is_stream(pace.last + 1) {
                batches += 1;
                // Turns pass for those too of which nothing is noted.
                pace.last += 1;
                pace.is_to_be_joined(filled, BATCH_SIZE);
            }
        }
        batches
    }

    #[test]
    fn who_has_one_datagram_at_a_time_is_soon_left_alone_with_batches() {
        let mut pace = Pace::default();
        assert_eq!(
            batches(&mut pace, u64::from(DATAGRAM_STREAM_TURNS) - 1, 1),
            0
        );
        assert_eq!(batches(&mut pace, 10, 1), u64::from(DATAGRAM_SINGLES));
        // Tried again, but ever more seldom.
        assert!(batches(&mut pace, 10_000, 1) < 150);
        assert_eq!(pace.patience, DATAGRAM_PATIENCE_MAX);
        // Who rests between two datagrams is never tried.
        let mut pace = Pace::default();
        assert!((0..1000).all(|turn| !pace.is_stream(2 * turn)));
    }

    #[test]
    fn a_stream_is_read_in_batches_and_joined_once_they_are_full() {
        let mut pace = Pace::default();
        assert!(batches(&mut pace, 1000, 2) > 980);
        assert_eq!(pace.reading, Reading::Batches);
        let joins = (0..20).filter(|_| pace.is_to_be_joined(BATCH_SIZE, BATCH_SIZE));
        assert_eq!(joins.count(), 1, "the option is set once");
        // What was joined can be taken apart by a call for many alone.
        assert_eq!(batches(&mut pace, 1000, 1), 1000);
        let mut pace = Pace::batches();
        assert_eq!(batches(&mut pace, 1000, 1), 1000);
    }

    #[test]
    fn a_parcel_falls_into_its_datagrams() {
        let lengths = |bytes: &[u8], size| {
            let parcel = Parcel { bytes, size };
            let lengths: Vec<_> = parcel.each().map(<[u8]>::len).collect();
            assert_eq!(parcel.count(), lengths.len() as u64);
            lengths
        };
        assert_eq!(lengths(&[0; 10], 4), [4, 4, 2]);
        assert_eq!(lengths(&[0; 4], 4), [4]);
        assert_eq!(lengths(&[], 0), [0]);
    }
}
