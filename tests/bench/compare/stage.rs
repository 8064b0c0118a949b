//! Three networks in a row (clients, proxy, members), joined by links, and the programs that run there.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use krater_tests::{Namespace, Program};
use serde_json::Value;
use tempfile::TempDir;

use crate::ending::is_interrupted;

use super::{
    account::Account,
    peers::{Listener, Peer},
    serve::Role,
};

/// Everything there is but the proxy. Fields are dropped in this order: the networks last.
pub(super) struct Stage {
    _members: Program,
    folder: TempDir,
    /// The generator runs beside the members and not on the proxy's core.
    apart: bool,
    clients: Namespace,
    middle: Namespace,
    behind: Namespace,
}

/// A proxy at work.
pub(super) struct Running {
    pub(super) program: Program,
    pub(super) account: Account,
    pub(super) folder: PathBuf,
}

impl Running {
    /// Processor time so far.
    pub(super) fn time(&self) -> Duration {
        self.account.read(self.program.pid())
    }

    /// Memory now.
    pub(super) fn memory_kib(&self) -> u64 {
        Account::memory_kib(self.program.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Politely first: a master ends its workers.
        if self.program.is_running() {
            self.program.signal(krater_tests::Signal::TERM);
            let start = Instant::now();
            while self.program.is_running() && start.elapsed() < END_MAX {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Stage {
    pub(super) fn set(apart: bool) -> Result<Self> {
        let [clients, middle, behind] = std::array::from_fn(|_| Namespace::new());
        clients.link("c0", &["10.77.1.1/24"], &middle, "p0", &["10.77.1.2/24"]);
        let members: Vec<_> = (0..10)
            .map(|index| format!("{}/24", member(index)))
            .collect();
        let members: Vec<_> = members.iter().map(String::as_str).collect();
        middle.link("p1", &["10.77.2.1/24"], &behind, "m0", &members);
        for network in [&clients, &middle, &behind] {
            network.run(tune)?;
        }
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let log = folder.path().join("members");
        let mut command = own("serve", GENERATOR, None)?;
        command.arg("0.0.0.0");
        let mut program = behind.run(|| Program::start("members", &mut command, &log));
        wait_for_line(&mut program)?;
        Ok(Self {
            _members: program,
            folder,
            apart,
            clients,
            middle,
            behind,
        })
    }

    /// Starts a peer and waits until it accepts on its last listener.
    pub(super) fn start(&self, peer: Peer, listeners: &[Listener]) -> Result<Running> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(format!("{}-{number}", peer.name()));
        fs::create_dir(&folder)?;
        let account = Account::open(&number.to_string());
        let mut command = own("launch", PROXY, account.entrance())?;
        command.arg(peer.program().context("the peer is installed")?);
        command.args(peer.configure(&folder, listeners));
        let log = folder.join("log");
        let program = self
            .middle
            .run(|| Program::start(peer.name(), &mut command, &log));
        let mut running = Running {
            program,
            account,
            folder,
        };
        let last = listeners.last().context("there is a listener")?;
        let start = Instant::now();
        while !self.answers(last) {
            ensure!(!is_interrupted(), "interrupted");
            if !running.program.is_running() || start.elapsed() > START_MAX {
                bail!(
                    "{} does not start: {}",
                    peer.name(),
                    tail(&running.program.output())
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn answers(&self, listener: &Listener) -> bool {
        self.clients.run(|| {
            if !listener.datagrams {
                return TcpStream::connect_timeout(&listener.address, START_MAX).is_ok();
            }
            // A member that only counts says nothing: what is asked for is that nobody says "no port".
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            let patience = Some(Duration::from_millis(200));
            socket.set_read_timeout(patience).expect("a time");
            let asked = socket
                .connect(listener.address)
                .and_then(|()| socket.send(b"?"));
            let refused =
                |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
            asked.is_ok()
                && !socket
                    .recv(&mut [0; 64])
                    .is_err_and(|error| refused(&error))
        })
    }

    /// Starts the generator.
    pub(super) fn generate(&self, arguments: &[String]) -> Result<Program> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("generator-{number}"));
        let processor = if self.apart { GENERATOR } else { PROXY };
        let mut command = own("generate", processor, None)?;
        command.args(arguments);
        Ok(self
            .clients
            .run(|| Program::start("generator", &mut command, &log)))
    }

    /// Lets the generator run to its end; what it saw.
    pub(super) fn generated(&self, arguments: &[String]) -> Result<Value> {
        finished(self.generate(arguments)?)
    }

    /// Datagrams that have arrived at the member that counts.
    pub(super) fn counted(&self) -> Result<u64> {
        let address = SocketAddr::new(member(0), Role::Count.port(0));
        let text = self.behind.run(|| -> Result<String> {
            let mut text = String::new();
            TcpStream::connect(address)?.read_to_string(&mut text)?;
            Ok(text)
        })?;
        text.parse().context("a number")
    }

    /// What the member behind the proxy says of itself.
    pub(super) fn named(&self, address: SocketAddr) -> Result<u8> {
        self.clients.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, START_MAX)?;
            stream.set_read_timeout(Some(START_MAX))?;
            let mut letter = [0];
            stream.read_exact(&mut letter)?;
            Ok(letter[0])
        })
    }
}

/// Where clients go: the proxy.
pub(super) fn vip(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 1, 2], port))
}

/// The address of a member, of ten.
pub(super) fn member(index: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 2, 2 + index))
}

/// Waits for the end of a generator; what it saw.
pub(super) fn finished(mut generator: Program) -> Result<Value> {
    let status = generator.wait(GENERATE_MAX);
    ensure!(!is_interrupted(), "interrupted");
    let output = generator.output();
    let seen = output.lines().last().map(serde_json::from_str);
    match seen {
        Some(Ok(seen)) if status.success() => Ok(seen),
        _ => bail!("the generator failed: {}", tail(&output)),
    }
}

/// Waits for the first line of a program.
pub(super) fn wait_for_line(program: &mut Program) -> Result<String> {
    let start = Instant::now();
    loop {
        let output = program.output();
        if let Some((line, _)) = output.split_once('\n') {
            return Ok(line.to_owned());
        }
        ensure!(!is_interrupted(), "interrupted");
        ensure!(
            program.is_running() && start.elapsed() < GENERATE_MAX,
            "it says nothing: {}",
            tail(&output)
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// This program as a player, on a processor of its own and in a control group.
fn own(what: &str, processor: usize, group: Option<PathBuf>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.args(["player", "--processor", &processor.to_string()]);
    if let Some(group) = group {
        command.arg("--group").arg(group);
    }
    command.arg(what);
    Ok(command)
}

/// Settings of a network that is to take this load.
fn tune() -> Result<()> {
    let settings = [
        ("net/ipv4/ip_local_port_range", "1024 65535"),
        ("net/ipv4/ip_local_reserved_ports", "20000-22999"),
        ("net/ipv4/tcp_tw_reuse", "1"),
        ("net/core/somaxconn", "65535"),
        ("net/ipv4/tcp_max_syn_backlog", "65535"),
        ("net/ipv4/tcp_syncookies", "0"),
    ];
    for (name, value) in settings {
        let path = Path::new("/proc/sys").join(name);
        // Older kernels have some of these for the whole system only.
        if let Ok(mut file) = fs::File::options().write(true).open(path) {
            let _ = file.write_all(value.as_bytes());
        }
    }
    Ok(())
}

fn tail(output: &str) -> &str {
    let skip = output.len().saturating_sub(400);
    output.get(skip..).unwrap_or(output)
}

/// The port of the first listener.
pub(super) const FIRST_PORT: u16 = 20_000;
/// Processors: that of the proxy, and that of all else.
const PROXY: usize = 0;
const GENERATOR: usize = 1;
const START_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(3);
const GENERATE_MAX: Duration = Duration::from_secs(90);
