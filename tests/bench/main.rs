//! Measures what users feel: how soon a tree serves, what changes cost, what a thousand load balancers weigh, and
//! what is lost when processes are killed. Runs the programs beside itself, on a network of its own.

mod api;
mod changes;
mod compare;
mod crash;
mod ending;
mod fleet;
mod memory;
mod peer;
mod scale;
mod siege;
mod soak;
mod table;
mod takeover;
mod tree;
mod writers;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use krater_tests::{HttpMember, Krater, Namespace, Octavia};
use serde_json::{Value, json};

use table::Table;

#[derive(Debug, Parser)]
#[command(
    name = "krater-bench",
    about = "Measures krater; needs root, for a network namespace of its own."
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// How the figures are printed.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum What {
    /// From the POST of a whole tree to the first request answered through the VIP.
    Tree {
        /// How many load balancers are made.
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// Changes of members and listeners under keep-alive HTTP clients and long TCP streams.
    Changes {
        /// How many changes are made.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// Changes asked for per second, at most.
        #[arg(long, default_value_t = 120)]
        rate: usize,
        /// HTTP clients, and as many TCP streams.
        #[arg(long, default_value_t = 32)]
        clients: usize,
        /// Milliseconds each HTTP client rests between two requests.
        #[arg(long, default_value_t = 10)]
        pause: u64,
        /// Seconds of traffic without changes, before them.
        #[arg(long, default_value_t = 20)]
        quiet: u64,
    },
    /// Many load balancers on one amphora: memory, start, one change.
    Scale {
        /// How many load balancers are made.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Hundreds of amphorae and thousands of load balancers on one controller and PostgreSQL.
    Fleet {
        /// How many amphorae.
        #[arg(long, default_value_t = 500)]
        amphorae: usize,
        /// How many load balancers.
        #[arg(long, default_value_t = 20_000)]
        balancers: usize,
        /// Seconds of rest while it is measured what the fleet costs.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Show, list, update and create by few clients and by many; pages of a long list.
    Api {
        /// Load balancers that are there, each with a listener, a pool and two members.
        #[arg(long, default_value_t = 1000)]
        balancers: usize,
        /// Numbers of clients, one after the other.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
        clients: Vec<usize>,
        /// Requests of one step, at most; of the more expensive kinds fewer.
        #[arg(long, default_value_t = 2000)]
        requests: usize,
        /// Seconds one step takes, at most.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Load balancers paged through at the end, the others included; 0 for none.
        #[arg(long, default_value_t = 10_000)]
        pages_of: usize,
    },
    /// Kills processes at random moments during changes and looks for what was lost.
    Crash {
        /// How many kills.
        #[arg(long, default_value_t = 50)]
        count: usize,
        /// Where the random moments come from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// krater beside HAProxy, nginx and Envoy: what the same work costs each of them.
    Compare(compare::Settings),
    /// A part of a comparison, started by it.
    #[command(hide = true)]
    Player(compare::Player),
    /// Requests, streams, short connections, datagrams and changes at once for a long time; memory meanwhile.
    Soak {
        /// How long, in seconds.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Changes per second.
        #[arg(long, default_value_t = 20)]
        rate: usize,
        /// Clients of each kind.
        #[arg(long, default_value_t = 16)]
        clients: usize,
    },
    /// Kills everything of a fleet in turn under checked traffic and edits: what is lost by it, and for how long.
    Siege(siege::Settings),
    /// How long nobody answers when addresses pass from one host to another, by why.
    Takeover {
        /// How often each is done.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Serves the SPEC.json of a comparison of load balancers with `krater-amphora run`, until SIGTERM.
    Peer {
        /// What to serve; read again on SIGHUP.
        spec: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let table = match arguments.what {
        What::Peer { spec } => return peer::serve(&spec),
        What::Player(player) => return compare::play(player),
        What::Compare(settings) => return compare::run(&settings, arguments.output),
        What::Siege(settings) => return siege::run(&settings, arguments.output),
        What::Tree { count } => tree::measure(count),
        What::Changes {
            count,
            rate,
            clients,
            pause,
            quiet,
        } => changes::measure(&changes::Settings {
            count,
            rate,
            clients,
            pause: Duration::from_millis(pause),
            quiet: Duration::from_secs(quiet),
        }),
        What::Scale { count } => scale::measure(count),
        What::Fleet {
            amphorae,
            balancers,
            seconds,
        } => fleet::measure(&fleet::Settings {
            amphorae,
            balancers,
            rest: Duration::from_secs(seconds),
        }),
        What::Api {
            balancers,
            clients,
            requests,
            seconds,
            pages_of,
        } => api::measure(&api::Settings {
            balancers,
            clients,
            requests,
            time: Duration::from_secs(seconds),
            pages_of,
        }),
        What::Soak {
            seconds,
            rate,
            clients,
        } => soak::measure(&soak::Settings {
            time: Duration::from_secs(seconds),
            rate,
            clients,
        }),
        What::Takeover { runs } => takeover::measure(runs),
        What::Crash { count, seed } => crash::measure(count, seed),
    };
    match arguments.output {
        Output::Table => print!("{}", table.text()),
        Output::Json => println!("{}", table.json()),
    }
    Ok(())
}

/// A krater on a network of its own, and two members that answer at every address of the loopback network.
struct Stage {
    api: Octavia,
    krater: Krater,
    members: [HttpMember; 2],
    _network: Namespace,
}

impl Stage {
    fn set() -> Self {
        let network = Namespace::enter_new();
        let krater = Krater::up();
        krater.wait_up();
        let members = [
            HttpMember::start("a", "0.0.0.0:0"),
            HttpMember::start("b", "0.0.0.0:0"),
        ];
        Self {
            api: krater.api(),
            krater,
            members,
            _network: network,
        }
    }

    /// A member as a request creates it: member `which` at `127.10.x.y`, by `number`.
    fn member(&self, which: usize, number: usize) -> Value {
        json!({
            "address": format!("127.10.{}.{}", number / 250, 1 + number % 250),
            "protocol_port": self.members[which].address().port(),
        })
    }

    /// A tree of one HTTP listener, one pool and these members, as a request creates it.
    fn tree(subnet: &str, name: &str, members: &[Value]) -> Value {
        let pool = json!({"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members});
        let listener = json!({"protocol": "HTTP", "protocol_port": 80, "default_pool": pool});
        json!({"loadbalancer": {"name": name, "vip_subnet_id": subnet, "listeners": [listener]}})
    }
}

/// Tells whoever waits what is under way.
fn progress(what: &str) {
    eprintln!("krater-bench: {what}");
}

/// A JSON string, owned.
fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string was expected: {value}"))
        .to_owned()
}
