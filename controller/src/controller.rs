//! The composition root: everything the controller is made of, put together, and taken apart in order.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::middleware;
use krater_amphora_api::Report;
use krater_controller_api::{self as api, Healthcheck};
use krater_controller_core::{carried::Carried, compile, query::TreeFilter};
use krater_controller_store::{Store, StoreError};
use krater_driver::{Authenticator, DriverError, SecretStore};
use krater_driver_local::{FileSecrets, NoAuth, TokenFile};
use krater_driver_openstack::{Barbican, BarbicanSettings, Keystone};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    application::{self, Application},
    cause::chain,
    clock,
    config::{Config, StoreConfig, auth::Auth, secrets::SecretsDriver},
    fleet::Fleet,
    hearing,
    hosts::Hosts,
    intake::Intake,
    knowledge::Knowledge,
    limits::{INTAKE_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX, REPORTS_WAITING_MAX, STOP_TIME_MAX},
    metrics::Metrics,
    networking::Networking,
    operator,
    pki::{self, Authority, PkiError, tls::Credentials},
    realm,
    reconcile::{self, Reconciler, Urgency},
    repair::Repair,
    request_log,
    rotation::{Rotation, followers::Followers},
    scrape::Scrape,
    serve::{Site, Stop, listen, serve},
    state_lock::{LockError, StateLock},
    trail::{self, Trail},
    vault::{Renewal, Vault},
};

mod hosting;
mod processes;
mod world;

pub(crate) use world::World;

pub(crate) use hosting::host;

/// A running controller.
pub(crate) struct Controller {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) api: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    intake: Arc<Intake>,
    store: Store,
    /// What serves; ends when told to stop.
    servers: JoinSet<()>,
    /// What runs for ever; is simply dropped.
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    _lock: StateLock,
}

/// What becomes of the amphorae when the controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amphorae {
    /// They go on serving.
    Serve,
    /// They end too.
    End,
}

/// Why a controller does not start. Each is a sentence for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The state folder cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An address cannot be served at.
    #[error("{0}")]
    Listen(String),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates cannot be had.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Amphorae cannot be run.
    #[error("amphorae cannot be started: {0}")]
    Compute(DriverError),
    /// There is no amphora program.
    #[error(
        "cannot use the amphora program {}: {reason}; put krater-amphora beside krater, or name it with --amphora-binary",
        looked_at.display()
    )]
    NoAmphoraBinary {
        /// Where it should be.
        looked_at: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody can say who callers are.
    #[error("callers cannot be told apart: {0}")]
    Auth(String),
    /// Secrets cannot be read.
    #[error("secrets cannot be read: {0}")]
    Secrets(String),
    /// The networks are not what was checked before.
    #[error("the networks cannot be used: {0}")]
    Network(String),
    /// A secret cannot be had, or not be read.
    #[error("{0}")]
    Secret(String),
    /// A defect.
    #[error("metrics cannot be declared: {0}")]
    Metrics(String),
}

struct Listeners {
    api: TcpListener,
    intake: TcpListener,
    metrics: Option<TcpListener>,
}

impl Controller {
    /// Puts everything together and starts it. The API answers when this returns; amphorae may still be starting.
    pub(crate) async fn start(config: &Config) -> Result<Self, StartError> {
        let lock = StateLock::take(&config.state_dir)?;
        let listeners = Listeners::open(config).await?;
        let address = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| StartError::Listen(format!("a socket has no address: {error}")))
        };
        let (api, reports_to) = (address(&listeners.api)?, address(&listeners.intake)?);
        let metrics_at = listeners.metrics.as_ref().map(address).transpose()?;
        if config.auth == Auth::None && !api.ip().is_loopback() {
            tracing::warn!(%api, "whoever reaches the API may do everything: there is no authentication");
        }
        let store = open_store(config).await?;
        let world = World::choose(config, store.clone()).await?;
        let parts = Foundation::lay(config, world, reports_to).await?;
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        servers.spawn(serve(
            listeners.api,
            parts.api_site(config),
            stopped.clone(),
        ));
        servers.spawn(serve(
            listeners.intake,
            parts.intake_site(),
            stopped.clone(),
        ));
        if let Some(listener) = listeners.metrics {
            servers.spawn(serve(listener, parts.metrics_site(), stopped.clone()));
        }
        let (fleet, intake) = (Arc::clone(&parts.fleet), Arc::clone(&parts.intake));
        let tasks = parts.begin(config);
        Ok(Self {
            fleet,
            api,
            metrics: metrics_at,
            intake,
            store,
            servers,
            tasks,
            stop,
            _lock: lock,
        })
    }

    /// Hears when the controller is told to stop.
    pub(crate) fn stopping(&self) -> Stop {
        self.stop.subscribe()
    }

    /// The tasks that serve, for more of them.
    pub(crate) const fn servers(&mut self) -> &mut JoinSet<()> {
        &mut self.servers
    }

    /// Takes everything apart: requests in progress end, what was counted is written down, the rest just stops.
    pub(crate) async fn stop(mut self, amphorae: Amphorae) -> Result<(), DriverError> {
        self.stop.send_replace(true);
        let _ = timeout(STOP_TIME_MAX, async {
            while self.servers.join_next().await.is_some() {}
        })
        .await;
        self.servers.shutdown().await;
        // Before the amphorae end: nobody is to start them again.
        self.tasks.shutdown().await;
        let ended = match amphorae {
            Amphorae::Serve => Ok(()),
            Amphorae::End => self.fleet.stop_all().await,
        };
        self.intake.write_down().await;
        self.store.close().await;
        ended
    }
}

impl Listeners {
    /// First of all that may fail: most starts that fail do so here.
    async fn open(config: &Config) -> Result<Self, StartError> {
        let open = async |address, what, flag| {
            listen(address, what, flag)
                .await
                .map_err(StartError::Listen)
        };
        let api = open(config.api.listen, "the API", "--listen").await?;
        let intake = open(config.intake, "the reports of amphorae", "--intake").await?;
        let metrics = match config.metrics {
            Some(address) => Some(open(address, "metrics", "--metrics").await?),
            None => None,
        };
        Ok(Self {
            api,
            intake,
            metrics,
        })
    }
}

/// The parts that outlive the start, wired together.
pub(crate) struct Foundation {
    pub(crate) known: Knowledge,
    pub(crate) application: Arc<Application>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) intake: Arc<Intake>,
    hosts: Arc<Hosts>,
    rotation: Arc<Rotation>,
    credentials: Arc<Credentials>,
    reports: mpsc::Receiver<Report>,
    pub(crate) trail: Arc<Trail>,
    refusals: mpsc::Receiver<trail::Refusal>,
    vault: Arc<Vault>,
}

fn networking(config: &Config, driver: Arc<dyn krater_driver::NetworkDriver>) -> Networking {
    Networking {
        driver,
        rules: config.network.rules.clone(),
    }
}

impl Foundation {
    pub(crate) async fn lay(
        config: &Config,
        world: World,
        reports_to: SocketAddr,
    ) -> Result<Self, StartError> {
        warn_of_expiry(&world.authority);
        let (network, credentials) = (Arc::clone(&world.network), Arc::clone(&world.credentials));
        let metrics = Metrics::declare().map_err(|error| StartError::Metrics(error.to_string()))?;
        let known = Knowledge::gather(world.store.clone(), metrics).await?;
        let (report_sender, reports) = mpsc::channel(REPORTS_WAITING_MAX);
        let reports_to = controllers(config, reports_to);
        let hosts = hosting::parts(config, &known, &world.authority, &world.dialer);
        let hosts = Hosts::gather(hosts).await?;
        let its = (known.clone(), Arc::clone(&hosts));
        let authority = Arc::clone(&world.authority);
        let (omission, followers) = (world.omission, Followers::new(&world.host));
        let fleet = world.fleet(config, its, reports_to, report_sender)?;
        let fleet = Arc::new(Fleet::gather(fleet).await?);
        let rotation = Rotation {
            authority,
            credentials: Arc::clone(&credentials),
            fleet: Arc::clone(&fleet),
            hosts: Arc::clone(&hosts),
            home: hosting::home(config, &known)?,
            followers,
            heartbeat: config.fleet.heartbeat,
            progress: tokio::sync::Mutex::default(),
        };
        let rotation = Arc::new(rotation);
        let vault = Vault::new(secrets(config)?);
        let reconciler = Reconciler::new(reconcile::Parts {
            known: known.clone(),
            vault: Arc::clone(&vault),
            agents: fleet.clone(),
            network: Arc::clone(&network),
            defaults: compile_defaults(config),
            omission,
        });
        let application = Arc::new(Application::new(application::Parts {
            known: known.clone(),
            networking: networking(config, network),
            authenticator: authenticator(config)?,
            reconciler: Arc::clone(&reconciler),
            agents: fleet.clone(),
            vault: Arc::clone(&vault),
            carried: Carried::release(),
            quota_defaults: config.quota,
            rules: config.rules.clone(),
            zones: zone_names(config),
            topology: config.turns.topology,
        }));
        let intake = Arc::new(Intake::new(
            known.clone(),
            Arc::clone(&hosts),
            Arc::clone(&fleet),
            Arc::clone(&reconciler),
        ));
        let (trail, refusals) = Trail::begin(Arc::clone(&known.metrics));
        Ok(Self {
            trail,
            refusals,
            known,
            application,
            fleet,
            reconciler,
            intake,
            hosts,
            rotation,
            credentials,
            reports,
            vault,
        })
    }

    /// Begins all that runs for ever.
    pub(crate) fn begin(self, config: &Config) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let renewal = self.renewal(config);
        let Self {
            known,
            fleet,
            reconciler,
            intake,
            hosts,
            rotation,
            reports,
            refusals,
            ..
        } = self;
        let hearing = hearing::hear(known.clone(), fleet.clone(), reconciler.clone());
        let trail = trail::keep(
            known.store.clone(),
            known.neighbours.clone(),
            refusals,
            config.retention,
            Arc::clone(&known.metrics),
        );
        if config.fleet.repair {
            let (known, hosts) = (known.clone(), Arc::clone(&hosts));
            let repair = Repair::new(known, Arc::clone(&fleet), hosts, Arc::clone(&reconciler));
            run(&mut tasks, repair.keep());
        }
        run(&mut tasks, rotation.keep_up());
        run(&mut tasks, hosts.keep());
        run(&mut tasks, Arc::clone(&fleet).watch_orphans());
        run(&mut tasks, fleet.keep());
        run(&mut tasks, renewal.keep());
        run(&mut tasks, Arc::clone(&intake).take_asked(reports));
        run(&mut tasks, intake.watch());
        run(&mut tasks, hearing);
        run(
            &mut tasks,
            heed_settings(Arc::clone(&reconciler), config.state_dir.join("made-with")),
        );
        run(&mut tasks, reconciler.sweep());
        run(&mut tasks, trail);
        run(&mut tasks, count(known));
        tasks
    }

    fn renewal(&self, config: &Config) -> Renewal {
        let reconciler = Arc::clone(&self.reconciler);
        Renewal {
            vault: Arc::clone(&self.vault),
            known: self.known.clone(),
            poke: Box::new(move |id| reconciler.poke(id, Urgency::Tenant)),
            interval: config.secrets.refresh,
        }
    }

    fn api_site(&self, config: &Config) -> Site {
        let settings = api_settings(config);
        let tenants = api::router(self.application.clone(), settings);
        let router = operator::router(self.application.clone())
            .merge(hosting::router(self))
            .fallback_service(tenants)
            .layer(middleware::from_fn_with_state(
                request_log::Book {
                    metrics: Arc::clone(&self.known.metrics),
                    trail: Arc::clone(&self.trail),
                },
                request_log::log,
            ));
        Site {
            router,
            connections_max: config.api.connections_max,
            header_timeout: config.api.header_timeout,
            credentials: None,
        }
    }

    fn intake_site(&self) -> Site {
        Site {
            router: self.intake.router(),
            connections_max: INTAKE_CONNECTIONS_MAX,
            header_timeout: INTAKE_HEADER_TIMEOUT,
            credentials: Some(Arc::clone(&self.credentials)),
        }
    }

    fn metrics_site(&self) -> Site {
        let scrape = Scrape {
            known: self.known.clone(),
            vault: Arc::clone(&self.vault),
            fleet: Arc::clone(&self.fleet),
            reconciler: Arc::clone(&self.reconciler),
        };
        Site {
            router: scrape.router(),
            connections_max: METRICS_CONNECTIONS_MAX,
            header_timeout: METRICS_HEADER_TIMEOUT,
            credentials: None,
        }
    }
}

fn run(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(realm::inherit(realm::present(), task));
}

/// Has load balancers made anew, beside all else, if the settings have changed since they were made.
async fn heed_settings(reconciler: Arc<Reconciler>, made_with: PathBuf) {
    reconciler.heed_settings(&made_with).await;
}

/// The store that was chosen.
pub(crate) async fn open_store(config: &Config) -> Result<Store, StartError> {
    Ok(match &config.store {
        StoreConfig::Embedded => Store::open(&config.state_dir.join(DATABASE_FILE)).await?,
        StoreConfig::Server(server) => {
            Store::connect(&server.settings().map_err(StartError::Secret)?).await?
        }
    })
}

/// The authority of the fleet: in the state folder, or sealed in the database where controllers share one. The first of
/// them brings the one it has.
async fn authority(config: &Config, store: &Store) -> Result<Authority, StartError> {
    let folder = config.state_dir.join("pki");
    let StoreConfig::Server(server) = &config.store else {
        return Ok(Authority::open(&folder, clock::now())?);
    };
    let key = server.seal_key().map_err(StartError::Secret)?;
    let sealed = match store.sealed(AUTHORITY).await? {
        Some(sealed) => sealed,
        None => {
            let own = Authority::to_share(&folder, clock::now())?;
            let sealed = key.seal(AUTHORITY, &own).map_err(StartError::Secret)?;
            store.keep_sealed(AUTHORITY, &sealed).await?
        }
    };
    let text = key.open(AUTHORITY, &sealed).map_err(StartError::Secret)?;
    Ok(Authority::shared(&folder, &text)?)
}

/// Where amphorae find controllers.
fn controllers(config: &Config, own: SocketAddr) -> Vec<String> {
    match config.controllers.as_slice() {
        [] => vec![reachable(own).to_string()],
        all => all.to_vec(),
    }
}

/// What the deployment fills in where tenants and flavors leave it open.
pub(crate) fn compile_defaults(config: &Config) -> compile::Defaults {
    compile::Defaults {
        treatment: config.treatment,
        ciphers_prohibited: config.rules.ciphers_prohibited.clone(),
        advert_interval_ms: u32::try_from(config.turns.advert_interval.as_millis())
            .unwrap_or(u32::MAX),
        ..compile::Defaults::default()
    }
}

fn zone_names(config: &Config) -> BTreeSet<String> {
    let zones = config.fleet.zones.iter();
    zones.map(|zone| zone.name.clone()).collect()
}

fn api_settings(config: &Config) -> api::Settings {
    let identity_uri = match &config.auth {
        Auth::Keystone(keystone) => Some(keystone.identity_uri().to_owned()),
        Auth::None | Auth::File { .. } => None,
    };
    let config = &config.api;
    api::Settings {
        identity_uri,
        api_base_uri: config.base_uri.clone(),
        pagination_max_limit: config.page_items_max,
        body_bytes_max: config.body_bytes_max,
        healthcheck: if config.healthcheck {
            Healthcheck::Enabled
        } else {
            Healthcheck::Disabled
        },
        ..api::Settings::default()
    }
}

fn authenticator(config: &Config) -> Result<Arc<dyn Authenticator>, StartError> {
    Ok(match &config.auth {
        Auth::None => Arc::new(NoAuth::new(config.api.default_project.clone())),
        Auth::File { path, role_set } => {
            let tokens = TokenFile::open(path, *role_set);
            Arc::new(tokens.map_err(|error| StartError::Auth(error.to_string()))?)
        }
        Auth::Keystone(keystone) => {
            let settings = keystone.settings().map_err(StartError::Auth)?;
            let keystone = Keystone::new(&settings);
            Arc::new(keystone.map_err(|error| StartError::Auth(error.to_string()))?)
        }
    })
}

fn secrets(config: &Config) -> Result<Arc<dyn SecretStore>, StartError> {
    Ok(match &config.secrets.driver {
        SecretsDriver::File { .. } => {
            let folder = config.secrets.folder(&config.state_dir);
            Arc::new(FileSecrets::new(folder.unwrap_or_default()))
        }
        SecretsDriver::Barbican {
            url,
            cafile,
            timeout,
        } => {
            let Auth::Keystone(keystone) = &config.auth else {
                let sentence = "secrets.driver needs auth.driver = \"keystone\"".to_owned();
                return Err(StartError::Secrets(sentence));
            };
            let settings = BarbicanSettings {
                url: url.clone(),
                keystone: keystone.settings().map_err(StartError::Secrets)?,
                cafile: cafile.clone(),
                timeout: *timeout,
            };
            let barbican = Barbican::new(&settings);
            Arc::new(barbican.map_err(|error| StartError::Secrets(error.to_string()))?)
        }
    })
}

/// Counts the load balancers there are, so that metrics are right before anything changed.
async fn count(known: Knowledge) {
    match known.store.views(&TreeFilter::default()).await {
        Ok(views) => views.iter().for_each(|view| known.census.note(view)),
        Err(error) => {
            tracing::error!(error = %chain(&error), "load balancers could not be counted")
        }
    }
}

fn warn_of_expiry(authority: &Authority) {
    let left = authority.expires_at().duration_since(clock::now());
    if left.is_negative() || left.unsigned_abs() < pki::AUTHORITY_WARNING {
        tracing::error!(expires_at = %authority.expires_at(), "the fleet's certificate authority ends soon");
    }
}

/// Where amphorae of this host reach what is served at `address`.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, address.port())
}

/// Amphorae keep their connection open between two reports, which are seconds apart.
const INTAKE_HEADER_TIMEOUT: Duration = Duration::from_secs(120);
const METRICS_HEADER_TIMEOUT: Duration = Duration::from_secs(120);
pub(crate) const DATABASE_FILE: &str = "krater.db";
const AUTHORITY: &str = "authority";
