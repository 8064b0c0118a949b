//! The command line: parse, refuse or start, and end with a code that says which.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use krater_amphora_api::AmphoraId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, info, warn};

use crate::{
    access::{self, Target},
    agent::chain,
    config::{
        BAD_CONFIGURATION, Config, Controller, DEFAULTS, DRAIN_DEFAULT, Overrides, parse_drain,
        parse_workers, workers_default,
    },
    host::{self, Host, HostError, Join, JoinToken},
    identity::Identity,
    log::Log,
    managed::{Claim, Managed, Order, StartError},
    network,
    standalone::{Standalone, file::Plan},
    strict::Flaw,
    supervise::{End, Supervisor, Upgrade},
};

/// The data plane of krater: carries the traffic of load balancers.
#[derive(Debug, Parser)]
#[command(
    name = "krater-amphora",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve what a file says, without a controller. SIGHUP reads the file again.
    #[command(after_help = SNAPSHOT_EXAMPLE)]
    Run(Run),
    /// Serve what controllers say, starting with what was last in force.
    Agent(Box<Managing>),
    /// Keep an agent alive: takes the same arguments.
    Supervise(Box<Managing>),
    /// Join a deployment as a host of amphorae, with a token of krater host token; then run what controllers want here.
    Join(Joining),
    /// Run what controllers want on this host, which has joined.
    Host {
        /// Folder of everything that must survive a restart.
        #[arg(long, value_name = "DIR", default_value = HOST_STATE_DIR)]
        state_dir: PathBuf,
        /// The address at which tunnels of other hosts reach this one, from now on, for networks of tenants.
        #[arg(long, value_name = "ADDR")]
        underlay: Option<IpAddr>,
    },
    /// Remove what amphorae have left of networks on this host.
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Print or verify settings.
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Args, Debug)]
struct Run {
    /// JSON file with the load balancers to serve.
    #[arg(long, value_name = "FILE")]
    snapshot: PathBuf,
    /// Number of worker threads; one per core unless set.
    #[arg(long, value_name = "N", value_parser = |text: &str| text.parse().map_err(|_| "not a number".to_owned()).and_then(parse_workers))]
    workers: Option<usize>,
    /// Address and port of the metrics endpoint.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Time that connections get to end by themselves; 10s unless set.
    #[arg(long, value_name = "DURATION", value_parser = parse_drain)]
    drain: Option<Duration>,
    /// Where access logs of listeners go: stdout (unless set), file:/PATH, syslog+udp://ADDR:PORT, syslog+tcp://ADDR:PORT.
    #[arg(long, value_name = "TARGET", value_parser = Target::parse)]
    access_log: Option<Target>,
}

#[derive(Args, Debug)]
struct Managing {
    /// TOML file with the settings; flags win over it, and may replace it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Take over from the agent that serves: a supervisor says so.
    #[arg(long, hide = true)]
    succeed: bool,
}

#[derive(Args, Debug)]
struct Joining {
    /// A controller, where amphorae report; may be given several times.
    #[arg(long, value_name = "https://HOST:PORT", required = true, value_parser = host::parse_url)]
    controller: Vec<Controller>,
    /// The token; others of this host see what is said here, they do not see the environment.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "KRATER_HOST_TOKEN",
        hide_env_values = true
    )]
    token: JoinToken,
    /// Folder of everything that must survive a restart.
    #[arg(long, value_name = "DIR", default_value = HOST_STATE_DIR)]
    state_dir: PathBuf,
    /// The address at which controllers reach this host [default: the one that leads to the controller].
    #[arg(long, value_name = "ADDR")]
    address: Option<IpAddr>,
    /// The port at which controllers reach this host.
    #[arg(long, value_name = "PORT", default_value_t = 9880)]
    port: u16,
    /// The address at which tunnels of other hosts reach this one, for networks of tenants [default: where controllers do].
    #[arg(long, value_name = "ADDR")]
    underlay: Option<IpAddr>,
    /// How people call this host [default: the name of the system].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Number of worker threads of each amphora; one per core unless set.
    #[arg(long, value_name = "N", value_parser = |text: &str| text.parse().map_err(|_| "not a number".to_owned()).and_then(parse_workers))]
    workers: Option<usize>,
    /// Join again, as another host, though this one has joined: what it ran as the former one is ended.
    #[arg(long)]
    again: bool,
    /// Only join; krater-amphora host then does the rest.
    #[arg(long)]
    only: bool,
}

#[derive(Debug, Subcommand)]
enum NetworkVerb {
    /// Take an amphora that has ended off its network.
    Leave {
        /// Its identity, a UUID.
        #[arg(long, value_name = "UUID")]
        id: AmphoraId,
    },
    /// Have the tunnel of an amphora's network reach the hosts that its settings name at present.
    Peers {
        /// TOML file with the settings of the amphora.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Remove bridges and tunnels that amphorae have made and none is joined to any more; prints their names.
    Sweep,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print every setting with its default and its meaning.
    Default,
    /// Verify the settings of an agent and the certificates they name, or a snapshot file.
    Check {
        /// TOML file with the settings.
        #[arg(long, value_name = "FILE", required_unless_present = "snapshot")]
        config: Option<PathBuf>,
        /// JSON file with load balancers.
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        #[command(flatten)]
        overrides: Box<Overrides>,
    },
}

/// Runs the program with the arguments of the process. Codes: 0 done, 1 failed, 2 usage, 78 bad configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let log = match Log::start(network::give_up_all) {
        Ok(log) => log,
        Err(reason) => return refuse("KRATER_LOG", &[Flaw::new("", reason)]),
    };
    let code = match cli.verb {
        Verb::Run(run) => run_standalone(run),
        Verb::Agent(managing) => run_agent(&managing),
        Verb::Supervise(managing) => run_supervisor(&managing),
        Verb::Join(joining) => conclude_host(joining.run()),
        Verb::Host {
            state_dir,
            underlay,
        } => conclude_host(Host::open(state_dir, underlay).and_then(Host::run)),
        Verb::Network(NetworkVerb::Leave { id }) => conclude(network::leave(id)),
        Verb::Network(NetworkVerb::Peers { config }) => tell_peers(&config),
        Verb::Network(NetworkVerb::Sweep) => match network::sweep() {
            Ok(names) => print(
                &names
                    .iter()
                    .map(|name| format!("{name}\n"))
                    .collect::<String>(),
            ),
            Err(error) => conclude(Err(error)),
        },
        Verb::Config(ConfigVerb::Default) => print(DEFAULTS),
        Verb::Config(ConfigVerb::Check {
            config,
            snapshot,
            overrides,
        }) => check(config, snapshot, &overrides),
    };
    log.flush();
    code
}

fn run_standalone(run: Run) -> ExitCode {
    let standalone = Standalone {
        snapshot: run.snapshot,
        workers: run.workers.unwrap_or_else(workers_default),
        metrics: run.metrics,
        drain: run.drain.unwrap_or(DRAIN_DEFAULT),
        access_log: run
            .access_log
            .map_or_else(access::Settings::default, |to| access::Settings {
                to,
                ..access::Settings::default()
            }),
    };
    let plan: Plan = match standalone.prepare() {
        Ok(plan) => plan,
        Err(flaws) => return refuse(&standalone.snapshot.display().to_string(), &flaws),
    };
    raise_descriptor_limit();
    conclude(standalone.run(plan))
}

fn run_agent(managing: &Managing) -> ExitCode {
    let config = match managing.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    raise_descriptor_limit();
    let order = if managing.succeed {
        Order::Succeed
    } else {
        Order::Begin
    };
    // Before it moves in: that would take the network from an agent that lives.
    let claim = match Claim::take(&config.state_dir, order) {
        Ok(claim) => claim,
        Err(error) => return refuse_start(managing, error),
    };
    if let Some(network) = &config.network
        && let Err(error) = network::move_in(config.id, network)
    {
        return conclude(Err(error));
    }
    match Managed::prepare(config, claim) {
        Ok(managed) => conclude(managed.run()),
        Err(error) => refuse_start(managing, error),
    }
}

fn refuse_start(managing: &Managing, error: StartError) -> ExitCode {
    match error {
        StartError::Identity(error) => refuse(&managing.name(), &[Flaw::new("", chain(&error))]),
        error => {
            error!(error = chain(&error), "cannot start");
            ExitCode::FAILURE
        }
    }
}

fn run_supervisor(managing: &Managing) -> ExitCode {
    let config = match managing.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    // It holds the agent's listening sockets, one for each core and address.
    raise_descriptor_limit();
    // The same arguments, under another verb: the first argument after the program's name is ours.
    let arguments = [OsString::from("agent")]
        .into_iter()
        .chain(std::env::args_os().skip(2))
        .collect();
    let supervisor = Supervisor {
        arguments,
        state_dir: config.state_dir,
        drain: config.drain,
        network: config.network.map(|network| (config.id, network)),
        upgrade: Upgrade {
            drain: config.upgrade_drain,
            memory_max: config.upgrade_memory_max,
        },
    };
    match supervisor.run() {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::BadConfiguration) => BAD_CONFIGURATION.into(),
        Err(error) => conclude(Err(error)),
    }
}

fn check(config: Option<PathBuf>, snapshot: Option<PathBuf>, overrides: &Overrides) -> ExitCode {
    if let Some(snapshot) = snapshot {
        let name = snapshot.display().to_string();
        let standalone = Standalone {
            snapshot,
            workers: 1,
            metrics: None,
            drain: DRAIN_DEFAULT,
            access_log: access::Settings::default(),
        };
        if let Err(flaws) = standalone.prepare() {
            return refuse(&name, &flaws);
        }
    }
    let Some(config) = config else {
        return print("valid\n");
    };
    let name = config.display().to_string();
    let outcome = Config::load(Some(&config), overrides).and_then(|config| {
        Identity::load(&config)
            .map(drop)
            .map_err(|error| vec![Flaw::new("", chain(&error))])
    });
    match outcome {
        Ok(()) => print("valid\n"),
        Err(flaws) => refuse(&name, &flaws),
    }
}

impl Joining {
    fn run(self) -> Result<(), HostError> {
        let only = self.only;
        let join = Join {
            state_dir: self.state_dir,
            controllers: self.controller,
            token: self.token,
            address: self.address,
            port: self.port,
            underlay: self.underlay,
            name: self.name,
            workers: self.workers,
            again: self.again,
        };
        let host = join.run()?;
        if only { Ok(()) } else { host.run() }
    }
}

fn tell_peers(config: &Path) -> ExitCode {
    match Config::load(Some(config), &Overrides::default()) {
        Ok(loaded) => conclude(match &loaded.network {
            Some(network) => network::tell_peers(network),
            None => Ok(()),
        }),
        Err(flaws) => refuse(&config.display().to_string(), &flaws),
    }
}

fn conclude_host(outcome: Result<(), HostError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever joins sits before a terminal.
            let _ = writeln!(io::stderr(), "krater-amphora: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

impl Managing {
    fn load(&self) -> Result<Config, ExitCode> {
        Config::load(self.config.as_deref(), &self.overrides)
            .map_err(|flaws| refuse(&self.name(), &flaws))
    }

    fn name(&self) -> String {
        self.config.as_deref().map_or_else(
            || "settings".to_owned(),
            |path: &Path| path.display().to_string(),
        )
    }
}

/// Everything that is wrong, a line each.
fn refuse(what: &str, flaws: &[Flaw]) -> ExitCode {
    let mut stderr = io::stderr().lock();
    for flaw in flaws {
        // Nobody is left to be told when even this fails.
        let _ = writeln!(stderr, "{what}: {flaw}");
    }
    BAD_CONFIGURATION.into()
}

fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    conclude(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    )
}

fn conclude(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = chain(&error), "failed");
            ExitCode::FAILURE
        }
    }
}

/// Every connection is two descriptors: take as many as the system lets us.
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    // Where the hard limit is said to be infinite, the kernel's own bound is what can be set.
    let bound = maximum.or_else(|| {
        fs::read_to_string("/proc/sys/fs/nr_open")
            .ok()?
            .trim()
            .parse()
            .ok()
    });
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: bound,
            maximum,
        },
    ) {
        Ok(()) => info!(descriptors = bound, "descriptor limit raised"),
        Err(error) => warn!(%error, descriptors = current, "the descriptor limit cannot be raised"),
    }
}

/// Enough to begin with: ids may be left out, and pools are referred to by name.
const SNAPSHOT_EXAMPLE: &str = r#"A snapshot file:
  {"load_balancers": [{
    "name": "web", "vips": ["192.0.2.10"],
    "listeners": [{"protocol": "http", "port": 80, "default_pool": "servers"}],
    "pools": [{"name": "servers", "protocol": "http",
      "members": [{"address": "192.0.2.21", "port": 8080}, {"address": "192.0.2.22", "port": 8080}],
      "monitor": {"probe": {"type": "tcp"}, "delay_ms": 5000, "timeout_ms": 2000, "rise": 2, "fall": 3}}]}]}
Things without an id are known by their name (a listener without one by its port, a member by its address): keep
those, and a reload costs no connection. SIGHUP applies what changed; a file that is wrong changes nothing."#;

/// Where a host keeps what it must.
const HOST_STATE_DIR: &str = "/var/lib/krater-amphora";
/// Wrong arguments.
const USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn the_example_in_the_help_is_valid() {
        let text = SNAPSHOT_EXAMPLE.split_once(":\n").unwrap().1;
        let json = text.split_once("\nThings").unwrap().0;
        assert_eq!(
            Plan::read(
                json,
                &crate::standalone::Texts::default(),
                &World::default()
            )
            .unwrap()
            .apply
            .len(),
            1
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
