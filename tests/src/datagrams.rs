//! Members and clients of UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::wait::until_some;

/// A UDP member: answers each datagram with its name, a space and what it got. Closing its socket is all that dying
/// means here.
#[derive(Debug)]
pub struct UdpMember {
    name: String,
    address: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl UdpMember {
    /// Serves at `address` (port 0 takes a free one).
    pub fn start(name: &str, address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let mut member = Self {
            name: name.to_owned(),
            address,
            running: None,
        };
        member.restart();
        member
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes its socket.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
            running.thread.join().expect("a member that did not panic");
        }
    }

    /// Listens again, on the same address.
    pub fn restart(&mut self) {
        self.stop();
        let socket = UdpSocket::bind(self.address).expect("the address of a member is free");
        self.address = socket.local_addr().expect("it is bound");
        socket
            .set_read_timeout(Some(LOOK))
            .expect("sockets have timeouts");
        let stop = Arc::new(AtomicBool::new(false));
        let (name, flag) = (self.name.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || serve(&socket, &name, &flag));
        self.running = Some(Running { stop, thread });
    }
}

impl Drop for UdpMember {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{name} ").into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            // Whoever asked may have gone.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// A UDP client of one address: it hears nobody else.
#[derive(Debug)]
pub struct UdpClient(UdpSocket);

impl UdpClient {
    /// A client with a port of its own.
    pub fn of(address: SocketAddr) -> Self {
        let any: IpAddr = if address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).expect("a port is free");
        socket.connect(address).expect("there is a route");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("sockets have timeouts");
        Self(socket)
    }

    /// Sends and gives what came back.
    ///
    /// # Errors
    /// If nothing did within some seconds, or the system says that nobody listens there.
    pub fn ask(&self, question: &str) -> io::Result<String> {
        self.0.send(question.as_bytes())?;
        self.hear()
    }

    /// Asks until there is an answer, as clients do that know that datagrams get lost; at most `bound` long.
    #[track_caller]
    pub fn ask_until_heard(&self, question: &str, bound: Duration) -> String {
        let set = |time| {
            self.0
                .set_read_timeout(Some(time))
                .expect("they have timeouts")
        };
        set(LOOK);
        let heard = until_some("an answer", bound, || self.ask(question).ok());
        set(PATIENCE);
        heard
    }

    fn hear(&self) -> io::Result<String> {
        let mut buffer = vec![0; 70_000];
        let length = self.0.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

/// How often a member looks whether it is to stop, and how long an impatient client waits.
const LOOK: Duration = Duration::from_millis(50);
/// Far more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(10);
