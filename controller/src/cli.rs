//! The command line: what `krater …` understands, and what it answers with.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{Config, Overrides},
    http_client::{AskError, HttpClient},
    run::{self, LogChoice},
    up::Demo,
};

mod amphora;
mod audit;
mod ca;
mod config;
mod db;
mod fleet;
mod host;
mod lb;
mod secret;
mod table;
mod token;

/// krater: a load balancer service that speaks the OpenStack Octavia API.
#[derive(Parser)]
#[command(name = "krater", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this host: controller, database and amphorae. Ctrl-C ends all of it.
    Up {
        #[command(flatten)]
        settings: Settings,
        /// Make a demonstration: a load balancer with three members to try things on.
        #[arg(long)]
        demo: bool,
    },
    /// Run the controller; amphorae go on serving when it ends.
    Controller {
        #[command(flatten)]
        settings: Settings,
    },
    /// Look at the amphorae, which carry the traffic.
    #[command(subcommand)]
    Amphora(Look),
    /// Let hosts in that amphorae are to run on, look at them, drain and remove them.
    #[command(subcommand)]
    Host(Box<host::HostVerb>),
    /// Look at the authority that certifies the fleet, and have another one take over.
    #[command(subcommand)]
    Ca(ca::CaVerb),
    /// Change all amphorae, one after another.
    #[command(subcommand)]
    Fleet(fleet::FleetVerb),
    /// Look at load balancers.
    #[command(subcommand)]
    Lb(lb::LbVerb),
    /// Look at who changed what.
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// Lay certificates and keys into the folder of secrets (secrets.driver = "file"), and look at them.
    #[command(subcommand)]
    Secret(Box<secret::SecretVerb>),
    /// Make tokens for the file of tokens (auth.driver = "file").
    #[command(subcommand)]
    Token(TokenVerb),
    /// Back up, restore, bring up to date or check the database.
    #[command(subcommand)]
    Db(Box<db::DbVerb>),
    /// Print, check or show settings.
    #[command(subcommand)]
    Config(ConfigVerb),
}

/// Settings that win over the file.
#[derive(Args, Clone, Debug)]
struct Settings {
    /// Settings file; see: krater config default.
    #[arg(long, value_name = "FILE", env = "KRATER_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for everything that must survive a restart.
    #[arg(long, value_name = "DIR", env = "KRATER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// The PostgreSQL database to store everything in, without its password [default: SQLite in the state folder].
    #[arg(long, value_name = "URL", env = "KRATER_STORE_URL")]
    store_url: Option<String>,
    /// Where the API is served [default: 127.0.0.1:9876].
    #[arg(long, value_name = "ADDR:PORT", env = "KRATER_LISTEN")]
    listen: Option<String>,
    /// Where amphorae report [default: 127.0.0.1:9877].
    #[arg(long, value_name = "ADDR:PORT", env = "KRATER_INTAKE")]
    intake: Option<String>,
    /// Where /metrics answers, or "off" [default: 127.0.0.1:9878].
    #[arg(long, value_name = "ADDR:PORT", env = "KRATER_METRICS")]
    metrics: Option<String>,
    /// How many amphorae to run [default: 1].
    #[arg(long, value_name = "N", env = "KRATER_AMPHORAE")]
    amphorae: Option<usize>,
    /// The krater-amphora program [default: beside krater].
    #[arg(long, value_name = "FILE", env = "KRATER_AMPHORA_BINARY")]
    amphora_binary: Option<PathBuf>,
    /// What to log, e.g. debug or warn,krater=debug [default: info].
    #[arg(long, value_name = "FILTER", env = "KRATER_LOG")]
    log: Option<String>,
}

#[derive(Subcommand)]
enum Look {
    /// List all.
    List {
        #[command(flatten)]
        from: From,
    },
    /// Show one, by id (a load balancer by name too).
    Show {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
}

/// Where to ask, and how to show the answer.
#[derive(Args, Clone)]
struct From {
    /// The API to ask.
    #[arg(
        long,
        value_name = "URL",
        env = "KRATER_ENDPOINT",
        default_value = "http://127.0.0.1:9876"
    )]
    endpoint: String,
    /// Who asks, where that matters [default: OS_TOKEN in the environment]. Others of this host see what is said here;
    /// they do not see the environment.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "KRATER_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// How to show the answer.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Make a new token: one line to give away, one for the file.
    New,
    /// Hash a token of your own, read from the standard input, for the file.
    Hash,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print every setting with its default and what it means.
    Default,
    /// Check settings; says everything that is wrong with them.
    Check {
        #[command(flatten)]
        settings: Settings,
    },
    /// Show the settings that are in force with this file, environment and flags.
    Show {
        #[command(flatten)]
        settings: Settings,
    },
}

impl Settings {
    /// The complete settings, or every reason against them.
    fn load(&self) -> Result<Config, Vec<String>> {
        let overrides = Overrides {
            state_dir: self.state_dir.clone(),
            store_url: self.store_url.clone(),
            listen: self.listen.clone(),
            intake: self.intake.clone(),
            metrics: self.metrics.clone(),
            amphorae: self.amphorae,
            amphora_binary: self.amphora_binary.clone(),
            log: self.log.clone(),
        };
        Config::load(self.config.as_deref(), &overrides)
    }

    /// The complete settings for `body`, or a word about why not.
    fn with(&self, body: impl FnOnce(&Config, LogChoice) -> anyhow::Result<()>) -> ExitCode {
        let log = if self.log.is_some() {
            LogChoice::Chosen
        } else {
            LogChoice::Usual
        };
        match self.load() {
            Ok(config) => {
                body(&config, log).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
            }
            Err(flaws) => refuse(&flaws),
        }
    }
}

impl Cli {
    /// Does what was asked.
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::Up { settings, demo } => {
                let demo = if demo { Demo::Wanted } else { Demo::Unwanted };
                settings.with(|config, log| run::up(config, demo, log))
            }
            Command::Controller { settings } => settings.with(|config, _| run::controller(config)),
            Command::Amphora(look) => look.run(amphora::list, amphora::show),
            Command::Host(verb) => show(host::run(*verb)),
            Command::Ca(verb) => show(ca::run(verb)),
            Command::Fleet(fleet::FleetVerb::Upgrade(wish)) => show(fleet::upgrade(*wish)),
            Command::Lb(lb::LbVerb::Look(look)) => look.run(lb::list, lb::show),
            Command::Lb(lb::LbVerb::Members { id, from }) => show(lb::members(from, id)),
            Command::Lb(lb::LbVerb::Amphorae { id, from }) => show(lb::amphorae(from, id)),
            Command::Lb(lb::LbVerb::Causes { id, from }) => show(lb::causes(from, id)),
            Command::Audit(audit::AuditVerb::List(wanted)) => show(audit::list(*wanted)),
            Command::Secret(verb) => secret::run(*verb),
            Command::Token(verb) => token::run(&verb),
            Command::Db(verb) => match verb.settings().load() {
                Ok(config) => show(verb.run(config)),
                Err(flaws) => refuse(&flaws),
            },
            Command::Config(verb) => config::run(verb),
        }
    }
}

impl From {
    /// The API to ask, as whom.
    fn client(&self) -> Result<HttpClient, AskError> {
        let usual = || env::var("OS_TOKEN").ok().filter(|token| !token.is_empty());
        let token = self.token.clone().or_else(usual);
        Ok(HttpClient::new(&self.endpoint)?.with_token(token))
    }
}

impl Look {
    fn run<L, S>(
        self,
        list: impl FnOnce(From) -> L,
        one: impl FnOnce(From, String) -> S,
    ) -> ExitCode
    where
        L: Future<Output = anyhow::Result<String>>,
        S: Future<Output = anyhow::Result<String>>,
    {
        match self {
            Self::List { from } => show(list(from)),
            Self::Show { id, from } => show(one(from, id)),
        }
    }
}

/// Prints an answer when it is there.
fn show(answer: impl Future<Output = anyhow::Result<String>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    match runtime.block_on(answer) {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Prints an answer. A reader who stopped reading is no error.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Says why it went wrong.
fn fail(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "krater: {error:#}");
    ExitCode::FAILURE
}

/// Says everything that is wrong with the settings.
fn refuse(flaws: &[String]) -> ExitCode {
    let mut out = io::stderr();
    let _ = writeln!(out, "krater: these settings cannot be used:");
    for flaw in flaws {
        let _ = writeln!(out, "  {}", flaw.replace('\n', "\n  "));
    }
    ExitCode::from(BAD_CONFIGURATION)
}

/// `EX_CONFIG` of sysexits(3).
const BAD_CONFIGURATION: u8 = 78;
