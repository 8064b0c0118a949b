//! A real Keystone for tests whose clients log in: its own folder, its own process, the users of
//! `tests/clients/keystone-seed.py`.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    http::{Connection, fetch},
    process::Program,
    wait::until,
};

/// An identity service at its usual port of the test's namespace, whose catalog names a krater at its usual port as
/// load balancing and network service. Dropping it ends it.
#[derive(Debug)]
pub struct Keystone {
    folder: TempDir,
    program: Option<Program>,
}

impl Keystone {
    /// A copy of the one that `tests/clients/keystone-install` made, ready to give tokens.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("keystone-")
            .tempdir()
            .expect("a temporary folder");
        let mut keystone = Self {
            folder,
            program: None,
        };
        copy(&installed().join("template"), &keystone.home());
        let secret = keystone.folder.path().join("secret");
        fs::write(&secret, PASSWORD).expect("the secret can be written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode is set");
        keystone.resume();
        keystone
    }

    /// Starts it (again) and waits until it answers.
    pub fn resume(&mut self) {
        let conf = self.home().join("keystone.conf");
        // Not under gunicorn: Keystone's module would take its arguments for its own.
        let what = ["--module", "keystone.wsgi.api:application"];
        let program = serve("keystone", &self.home(), address(), &what, |command| {
            command.env("OS_KEYSTONE_CONFIG_FILES", conf);
        });
        let program = self.program.insert(program);
        until("the identity service answers", START_MAX, || {
            program.assert_runs();
            fetch(address(), "/v3").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The folder it runs in.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("template")
    }

    /// Ends it without a warning; [`Keystone::resume`] starts it again with all it knew.
    pub fn kill(&mut self) {
        self.program.as_mut().expect("keystone was started").kill();
    }

    /// Settings for a krater that believes this Keystone; `more` are further lines of `[auth.keystone]`. Answers with
    /// the file's path, for `--config`.
    pub fn settings(&self, role_set: &str, more: &str) -> String {
        let path = self.folder.path().join("krater.toml");
        let secret = self.folder.path().join("secret");
        let text = format!(
            "[auth]\ndriver = \"keystone\"\nrole_set = \"{role_set}\"\n[auth.keystone]\nurl = \"{}\"\n\
             user = \"krater\"\nproject = \"service\"\nsecret_file = \"{}\"\n{more}\n",
            Self::url(),
            secret.display(),
        );
        fs::write(&path, text).expect("the settings can be written");
        path.to_string_lossy().into_owned()
    }

    /// Where it is, as clients name it.
    pub fn url() -> String {
        format!("http://{}/v3", address())
    }

    /// What an OpenStack client reads from its environment to log in as one of the users.
    pub fn environment(user: &str, project: &str) -> Vec<(&'static str, String)> {
        vec![
            ("OS_AUTH_TYPE", "password".to_owned()),
            ("OS_AUTH_URL", Self::url()),
            ("OS_IDENTITY_API_VERSION", "3".to_owned()),
            ("OS_USERNAME", user.to_owned()),
            ("OS_PASSWORD", PASSWORD.to_owned()),
            ("OS_USER_DOMAIN_ID", "default".to_owned()),
            ("OS_PROJECT_NAME", project.to_owned()),
            ("OS_PROJECT_DOMAIN_ID", "default".to_owned()),
            ("OS_REGION_NAME", "RegionOne".to_owned()),
        ]
    }

    /// A token of a user in a project.
    pub fn token(user: &str, project: &str) -> String {
        let scope = json!({"project": {"name": project, "domain": {"id": "default"}}});
        Self::log_in(user, &scope)
    }

    /// A token of a user on the whole deployment.
    pub fn system_token(user: &str) -> String {
        Self::log_in(user, &json!({"system": {"all": true}}))
    }

    /// Makes a token worthless; it revokes itself.
    pub fn revoke(token: &str) {
        let headers = [("x-auth-token", token), ("x-subject-token", token)];
        let answer = Connection::open(address())
            .and_then(|mut keystone| keystone.request("DELETE", "/v3/auth/tokens", &headers, None));
        let answer = answer.expect("keystone answers");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    fn log_in(user: &str, scope: &Value) -> String {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": PASSWORD});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}}).to_string();
        let headers = [("content-type", "application/json")];
        let answer = Connection::open(address()).and_then(|mut keystone| {
            keystone.request("POST", "/v3/auth/tokens", &headers, Some(body.as_bytes()))
        });
        let answer = answer.expect("keystone answers");
        assert_eq!(answer.status, 201, "{}", answer.text());
        let token = answer.header("x-subject-token");
        token.expect("a login gives a token").to_owned()
    }
}

/// Starts a service of that environment; `what` says to uWSGI which.
pub(crate) fn serve(
    name: &'static str,
    home: &Path,
    address: SocketAddr,
    what: &[&str],
    more: impl FnOnce(&mut Command),
) -> Program {
    let venv = installed().join("venv");
    let mut command = Command::new(venv.join("bin/uwsgi"));
    command
        .args(["--http-socket", &address.to_string(), "--need-app"])
        .args(what)
        .arg("--virtualenv")
        .arg(&venv)
        // One process and no master: whoever ends it has ended all of it.
        .args(["--processes", "1", "--threads", "4"])
        .args(["--buffer-size", "65535", "--disable-logging"])
        // It ends connections after each answer; clients must know, or they use one that is gone.
        .args(["--add-header", "Connection: close"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(home);
    more(&mut command);
    let log = home.join(format!("{name}.log"));
    Program::start(name, &mut command, &log)
}

/// What `tests/clients/keystone-install` made.
fn installed() -> PathBuf {
    let own = std::env::current_exe().expect("the test knows its own path");
    let found = own
        .ancestors()
        .map(|folder| folder.join("clients/keystone"))
        .find(|folder| folder.join("installed.txt").exists());
    found.expect("Keystone is not installed: run tests/clients/keystone-install, as tests/run does")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("what is installed can be read") {
        let entry = entry.expect("what is installed can be read");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5000))
}

/// Of every user.
const PASSWORD: &str = "secret";
/// Such a service imports half of Python before it answers.
pub(crate) const START_MAX: Duration = Duration::from_secs(90);
