//! `krater up` for people: what is happening while it starts, what is where and what to try when it is up, and a
//! clean end.

use std::{
    env,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use krater_controller_core::query::AmphoraStatus;
use tokio::time::timeout;

use crate::{
    config::{Config, auth::Auth},
    controller::{Amphorae, Controller},
    demo::Members,
    http_client::HttpClient,
    signals::Signals,
};

/// Whether a demonstration is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demo {
    /// It is.
    Wanted,
    /// It is not.
    Unwanted,
}

/// Runs everything until told to stop.
pub(crate) async fn run(
    config: &Config,
    demo: Demo,
    log: Option<&Path>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    if demo == Demo::Wanted && config.auth != Auth::None {
        anyhow::bail!("the demonstration needs auth.driver = \"none\": it has no token");
    }
    say(&format!("krater {} is starting", env!("CARGO_PKG_VERSION")));
    let mut controller = Controller::start(config).await?;
    step(&format!("the API answers at {}", controller.api));
    if config.auth == Auth::None && !controller.api.ip().is_loopback() {
        step("careful: whoever reaches that address may do everything, there is no authentication");
    }
    let ended = tokio::select! {
        demo = Box::pin(get_ready(&mut controller, demo)) => Some(demo),
        () = signals.next() => None,
    };
    if let Some(demo) = ended {
        let mut screen = Screen::of(&controller, config);
        screen.log = log.map(shortened);
        screen.demo = demo;
        say(&screen.draw());
        signals.next().await;
    }
    say("krater is stopping; connections get a moment to end (Ctrl-C again: do not wait)");
    tokio::select! {
        stopped = controller.stop(Amphorae::End) => stopped.map_err(|error| anyhow::anyhow!("amphorae: {error}"))?,
        () = signals.next() => anyhow::bail!("stopped without waiting; amphorae end by themselves"),
    }
    say("krater has stopped; everything is there again at the next start");
    Ok(())
}

/// Waits for the amphorae, within a bound, and makes the demonstration; answers with its address.
async fn get_ready(controller: &mut Controller, demo: Demo) -> Option<String> {
    let ids = controller.fleet.staying();
    let total = ids.len();
    for (number, id) in (1..).zip(ids) {
        if timeout(READY_TIME_MAX, controller.fleet.reached(id))
            .await
            .is_ok()
        {
            step(&format!("amphora {number} of {total} serves"));
        } else {
            let why = controller
                .fleet
                .trouble(id)
                .unwrap_or_else(|| "it does not answer yet".to_owned());
            step(&format!(
                "amphora {number} of {total} is not up: {why}\n    (it is tried again for ever)"
            ));
        }
    }
    if demo == Demo::Unwanted {
        return None;
    }
    match demonstrate(controller).await {
        Ok(address) => {
            step("the demonstration is ready");
            Some(address)
        }
        Err(error) => {
            step(&format!("the demonstration is not ready: {error:#}"));
            None
        }
    }
}

async fn demonstrate(controller: &mut Controller) -> anyhow::Result<String> {
    let stop = controller.stopping();
    let members = Members::start(controller.servers(), &stop)
        .await
        .map_err(anyhow::Error::msg)?;
    let api = HttpClient::new(&endpoint(controller))?;
    Ok(members.publish(&api).await?)
}

/// What is shown when everything is up.
#[derive(Debug, Default)]
struct Screen {
    endpoint: String,
    /// Whose tokens are believed; empty when nobody needs one.
    tokens: String,
    /// What the openstack client needs to know in its environment.
    client: String,
    metrics: Option<String>,
    state: String,
    log: Option<String>,
    subnet: String,
    serving: usize,
    amphorae: usize,
    demo: Option<String>,
}

impl Screen {
    fn of(controller: &Controller, config: &Config) -> Self {
        let ids = controller.fleet.staying();
        let serves = |id: &_| {
            controller.fleet.is_reached(*id)
                || controller.fleet.status(*id) == AmphoraStatus::Allocated
        };
        let subnet = config
            .network
            .networks
            .first()
            .and_then(|network| network.subnets.first());
        let endpoint = endpoint(controller);
        let (tokens, client) = match &config.auth {
            Auth::None => (
                String::new(),
                format!("export OS_AUTH_TYPE=none OS_ENDPOINT={endpoint}"),
            ),
            Auth::File { path, .. } => (
                format!("tokens of {}", shortened(path)),
                format!("export OS_AUTH_TYPE=admin_token OS_ENDPOINT={endpoint} OS_TOKEN=…"),
            ),
            Auth::Keystone(keystone) => (
                format!("tokens of {}", keystone.identity_uri()),
                format!(
                    "export OS_AUTH_URL={} OS_USERNAME=…",
                    keystone.identity_uri()
                ),
            ),
        };
        Self {
            endpoint,
            tokens,
            client,
            metrics: controller
                .metrics
                .map(|metrics| format!("http://{metrics}/metrics")),
            state: shortened(&config.state_dir),
            log: None,
            subnet: subnet.map_or_else(|| "noop-v4".to_owned(), |subnet| subnet.name.clone()),
            serving: ids.iter().filter(|id| serves(id)).count(),
            amphorae: ids.len(),
            demo: None,
        }
    }

    fn draw(&self) -> String {
        let endpoint = &self.endpoint;
        let mut text = String::from("\nkrater is up.\n\n");
        let mut place = |name: &str, what: &str| {
            // A path that is too long for the column gets a line of its own rather than a broken one.
            let line = format!("  {name:<10}{what}");
            let line = if line.chars().count() > COLUMNS {
                format!("  {name}\n{what}")
            } else {
                line
            };
            text.push_str(&line);
            text.push('\n');
        };
        if self.tokens.is_empty() {
            place("API", &format!("{endpoint} (no authentication)"));
        } else {
            place("API", endpoint);
            place("Callers", &self.tokens);
        }
        place(
            "Amphorae",
            &format!("{} of {} serving", self.serving, self.amphorae),
        );
        if let Some(metrics) = &self.metrics {
            place("Metrics", metrics);
        }
        place("State", &self.state);
        if let Some(log) = &self.log {
            place("Log", log);
        }
        text.push_str("\nTry, in another terminal:\n\n");
        if let Some(demo) = &self.demo {
            text.push_str(&format!("  curl {demo}\n"));
        }
        text.push_str(&format!("  {}\n", self.client));
        text.push_str(&format!(
            "  openstack loadbalancer create --name web --vip-subnet-id {}\n",
            self.subnet
        ));
        text.push_str("  openstack loadbalancer list\n");
        if endpoint != DEFAULT_ENDPOINT {
            text.push_str(&format!("  export KRATER_ENDPOINT={endpoint}\n"));
        }
        text.push_str("  krater amphora list\n\nCtrl-C stops krater and its amphorae; the next start resumes everything.\n");
        text
    }
}

/// Where this host reaches the API.
fn endpoint(controller: &Controller) -> String {
    format!("http://{}", crate::controller::reachable(controller.api))
}

/// A path as people write it.
fn shortened(path: &Path) -> String {
    let home = env::var_os("HOME").filter(|home| !home.is_empty());
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

fn step(text: &str) {
    say(&format!("  {text}"));
}

/// Prints a line. A reader who stopped reading is no error.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// How long the screen waits for an amphora; the amphora goes on starting all the same.
const READY_TIME_MAX: Duration = Duration::from_secs(15);
const COLUMNS: usize = 80;
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:9876";

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        Screen {
            endpoint: "http://127.0.0.1:19876".to_owned(),
            tokens: String::new(),
            client: "export OS_AUTH_TYPE=none OS_ENDPOINT=http://127.0.0.1:19876".to_owned(),
            metrics: Some("http://127.0.0.1:9878/metrics".to_owned()),
            state: "/a/state/folder/with/quite/a/long/path/that/goes/on/and/on/and/on/until/it/ends/here".to_owned(),
            log: Some("~/.local/state/krater/krater.log".to_owned()),
            subnet: "local-v4".to_owned(),
            serving: 1,
            amphorae: 2,
            demo: Some("http://127.77.0.2:8080/".to_owned()),
        }
    }

    #[test]
    fn the_screen_fits_eighty_columns_but_for_paths_that_do_not() {
        let screen = screen();
        let text = screen.draw();
        for line in text.lines().filter(|line| *line != screen.state) {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert!(text.contains(&screen.state));
    }

    #[test]
    fn the_screen_names_commands_that_fit_this_deployment() {
        let text = screen().draw();
        for command in [
            "curl http://127.77.0.2:8080/",
            "export OS_AUTH_TYPE=none OS_ENDPOINT=http://127.0.0.1:19876",
            "openstack loadbalancer create --name web --vip-subnet-id local-v4",
            "export KRATER_ENDPOINT=http://127.0.0.1:19876",
        ] {
            assert!(text.contains(command), "{command} is missing in:\n{text}");
        }
        let usual = Screen {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            demo: None,
            ..screen()
        }
        .draw();
        assert!(
            !usual.contains("KRATER_ENDPOINT") && !usual.contains("curl"),
            "{usual}"
        );
    }
}
