//! A PostgreSQL server of a test's own: a cluster in a temporary folder, reached by a socket in it. The store's own tests
//! use this file too, so it needs nothing of this crate.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    databases: AtomicU32,
    /// What says that somebody uses a server that is shared. One that is not ends when this is dropped, or with the
    /// process.
    shared: Option<File>,
    settings: &'static [&'static str],
}

impl Postgres {
    /// Starts a server on a new cluster.
    pub fn start() -> Self {
        Self::start_with(HASTY)
    }

    /// The same, as careful as it comes: what is acknowledged is on the disk.
    pub fn start_durable() -> Self {
        Self::start_with(&[])
    }

    fn start_with(settings: &'static [&'static str]) -> Self {
        let postgres = Self {
            folder: new_cluster(),
            databases: AtomicU32::new(0),
            shared: None,
            settings,
        };
        let script = r#"while [ -d "/proc/$1" ] && [ -d "$2/data" ]; do sleep 0.2; done"#;
        postgres.end_after(script, &process::id().to_string());
        postgres.resume();
        postgres
    }

    /// The server that all tests share, each with schemas of its own: it starts with the first of them and ends when
    /// there has been none for a while.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            let users = lock_file("users");
            users.lock_shared().expect("a lock");
            let starting = lock_file("starting");
            starting.lock().expect("a lock");
            let place = beside("place");
            let found = fs::read_to_string(&place).map(PathBuf::from);
            if let Ok(folder) = found
                && answers(&folder)
            {
                return Self {
                    folder,
                    databases: AtomicU32::new(0),
                    shared: Some(users),
                    settings: HASTY,
                };
            }
            let postgres = Self {
                folder: new_cluster(),
                databases: AtomicU32::new(0),
                shared: Some(users),
                settings: HASTY,
            };
            // Tests are processes that follow each other closely.
            let script = r#"idle=0; while [ $idle -lt 4 ]; do
                sleep 0.5; if flock -n -x "$1" true; then idle=$((idle + 1)); else idle=0; fi; done"#;
            postgres.end_after(script, &beside("users").to_string_lossy());
            postgres.resume();
            fs::write(&place, postgres.folder.as_os_str().as_encoded_bytes())
                .expect("the place is noted");
            postgres
        })
    }

    /// Makes an empty schema, which is as good as a database and costs less; gives its URL and its name.
    pub fn database(&self) -> (String, String) {
        let names = self.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'krater_%'");
        let left_behind = names.lines().filter(|name| is_left_behind(name));
        for name in left_behind.take(LEFT_BEHIND_MAX) {
            // Somebody else may have noticed too.
            let _ = self.try_query(&format!("DROP SCHEMA IF EXISTS {name} CASCADE"));
        }
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("krater_{}_{number}", process::id());
        self.query(&format!("CREATE SCHEMA {name}"));
        let folder = self.folder.display();
        let url = format!(
            "postgres://{USER}@localhost/postgres?host={folder}&options[search_path]={name}"
        );
        (url, name)
    }

    /// Runs SQL as `psql` does and gives what it prints: columns apart by `|`.
    pub fn query(&self, sql: &str) -> String {
        self.try_query(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_query(&self, sql: &str) -> Result<String, String> {
        let output = Command::new(program("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1", "--username", USER])
            .arg("--host")
            .arg(&self.folder)
            .args(["--dbname", "postgres", "--command", sql])
            .output()
            .expect("psql runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Ends the server without a warning.
    pub fn kill(&self) {
        let pid = self.pid().expect("a server runs");
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        // Its children end when they notice.
        wait("the server has ended", || {
            self.children().is_empty() && !Path::new("/proc").join(&pid).join("exe").exists()
        });
    }

    /// Starts the server again and waits until it answers.
    pub fn resume(&self) {
        // Whoever was killed left these behind.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a log");
        let mut command = as_somebody(&program("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.folder)
            .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
            .args(self.settings)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log);
        let mut child = command.spawn().expect("the server starts");
        // Reaped, so that it is seen to have ended.
        thread::spawn(move || child.wait());
        wait("the server answers", || answers(&self.folder));
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<u32> {
        let all = self.children().into_iter();
        all.filter_map(|pid| pid.parse().ok()).collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn pid(&self) -> Option<String> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next().map(str::to_owned)
    }

    fn children(&self) -> Vec<String> {
        let data = self.data();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data)
            })
            .collect()
    }

    /// Has somebody take the server and the folder away when the script ends; it gets `subject` and the folder.
    fn end_after(&self, script: &str, subject: &str) {
        const END: &str = r#"
            [ -f "$2/data/postmaster.pid" ] && kill -QUIT "$(head -n 1 "$2/data/postmaster.pid")"
            sleep 0.2; rm -rf "$2""#;
        let begun = Command::new("setsid")
            .args([
                "--fork",
                "sh",
                "-c",
                &format!("{script}{END}"),
                "sh",
                subject,
            ])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .status();
        assert!(begun.is_ok_and(|status| status.success()), "a shell runs");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.shared.is_some() {
            return;
        }
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
            wait("the server has ended", || self.children().is_empty());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a schema is of a test process that is no more.
fn is_left_behind(name: &str) -> bool {
    let process = name
        .strip_prefix("krater_")
        .and_then(|rest| rest.split_once('_'));
    process.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
}

fn new_cluster() -> PathBuf {
    let folder = tempfile::Builder::new()
        .prefix("krater-postgres-")
        .tempdir()
        .expect("a temporary folder")
        .keep();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(template())
        .arg(folder.join("data"))
        .status();
    let is_copied = copied.is_ok_and(|status| status.success());
    assert!(is_copied, "a cluster is copied");
    folder
}

/// A file beside the test that all tests know.
fn beside(name: &str) -> PathBuf {
    let own = env::current_exe().expect("the test knows its own path");
    let folder = own.parent().expect("it is in a folder");
    folder.join(format!("krater-postgres-{name}"))
}

fn lock_file(name: &str) -> File {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(beside(name)).expect("a file to lock")
}

fn answers(folder: &Path) -> bool {
    Command::new(program("psql"))
        .args(["--no-psqlrc", "--username", USER, "--host"])
        .arg(folder)
        .args(["--dbname", "postgres", "--command", "SELECT 1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A cluster that was made once and is copied: making one takes a second.
fn template() -> PathBuf {
    let path = beside("template");
    if !path.exists() {
        let draft = tempfile::Builder::new()
            .prefix("postgres-")
            .tempdir_in(path.parent().expect("it is in a folder"))
            .expect("a folder");
        let data = draft.path().join("data");
        let made = as_somebody(&program("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--username", USER, "--pgdata"])
            .arg(&data)
            .current_dir("/")
            .output()
            .expect("initdb runs");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "a cluster is made: {said}");
        // Somebody may have been faster.
        let _ = fs::rename(&data, &path);
    }
    path
}

/// The server refuses to be root: it is somebody else in a user namespace of its own then.
fn as_somebody(program: &Path) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-user=1000", "--map-group=1000"])
        .arg(program);
    command
}

/// A program of PostgreSQL, of the newest release there is.
fn program(name: &str) -> PathBuf {
    let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = releases
        .flatten()
        .filter_map(|entry| {
            let release: u32 = entry.file_name().to_str()?.parse().ok()?;
            let path = entry.path().join("bin").join(name);
            path.exists().then_some((release, path))
        })
        .max();
    newest.map_or_else(|| PathBuf::from(name), |(_, path)| path)
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

const USER: &str = "krater";
/// Schemas of ended tests dropped by the next one: it has something else to do too.
const LEFT_BEHIND_MAX: usize = 4;

/// What is over in a moment needs no disk.
const HASTY: &[&str] = &[
    "-c",
    "fsync=off",
    "-c",
    "shared_buffers=16MB",
    "-c",
    "autovacuum=off",
    "-c",
    "log_min_messages=fatal",
];
