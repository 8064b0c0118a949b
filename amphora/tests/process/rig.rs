//! What the tests of this folder stand on: processes that end with their test, members, and patience with a bound.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything; far above what any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until `condition` gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A process of ours. It is killed when the test ends.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start<S: AsRef<str>>(arguments: &[S]) -> Self {
        let mut process = Self::start_unheard(arguments);
        let stderr = BufReader::new(process.child.stderr.take().unwrap());
        let lines = Arc::clone(&process.log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        process
    }

    /// Nobody reads its log until [`Process::hang_up`].
    pub(crate) fn start_unheard<S: AsRef<str>>(arguments: &[S]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_krater-amphora"))
            .args(arguments.iter().map(AsRef::as_ref))
            .env("KRATER_LOG", "debug,hyper=info,h2=info,rustls=info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            log: Arc::default(),
        }
    }

    /// Breaks the pipe that an unheard process logs to.
    pub(crate) fn hang_up(&mut self) {
        self.child.stderr.take();
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for(text, || {
            self.log
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.contains(text))
                .cloned()
        })
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        wait_for("the end of the process", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the process\n{}", self.log());
        }
    }
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) fn is_alive(pid: i32) -> bool {
    // A zombie waits only for its parent; it serves nobody.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A web server of one answer, which can be made to close its port and to open it again.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    sick: Arc<AtomicBool>,
}

impl Member {
    pub(crate) fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let sick = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&sick);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sick = Arc::clone(&seen);
                thread::spawn(move || answer(stream, name, &sick));
            }
        });
        Self { address, sick }
    }

    /// From now on it answers 500 (or 200 again).
    pub(crate) fn set_sick(&self, sick: bool) {
        self.sick.store(sick, Ordering::SeqCst);
    }
}

fn answer(mut stream: TcpStream, name: &str, sick: &AtomicBool) {
    let mut head = Vec::new();
    let mut byte = [0];
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let status = if sick.load(Ordering::SeqCst) {
            "500 Sick"
        } else {
            "200 OK"
        };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}",
            name.len()
        );
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Status and body of a GET over a connection of its own, or `None` when there is no answer.
pub(crate) fn get(address: impl Into<SocketAddr>, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address.into(), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The body of a 200.
pub(crate) fn body(port: u16) -> Option<String> {
    get((Ipv4Addr::LOCALHOST, port), "/")
        .filter(|(status, _)| *status == 200)
        .map(|(_, body)| body)
}
