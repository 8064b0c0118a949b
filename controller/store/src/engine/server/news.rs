//! What processes that share a database tell each other: hints, by `NOTIFY`. Whoever misses one looks by itself a little
//! later, so they are sent outside of transactions, several at once, and dropped when there are too many.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::ServerSettings;
use crate::StoreError;

/// Where news are sent and come in. Both go on for ever, however often the server goes away.
pub(super) struct Newsroom {
    outgoing: mpsc::Sender<String>,
    incoming: broadcast::Sender<Option<Arc<str>>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What comes in.
pub struct News(broadcast::Receiver<Option<Arc<str>>>);

impl From<broadcast::Receiver<Option<Arc<str>>>> for News {
    fn from(incoming: broadcast::Receiver<Option<Arc<str>>>) -> Self {
        Self(incoming)
    }
}

impl News {
    /// The next piece of news. None: some may have been missed, and everything is to be looked at. Pending for ever once
    /// the store is closed.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        match self.0.recv().await {
            Ok(news) => news,
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Newsroom {
    pub(super) fn open(settings: &ServerSettings, name: &Arc<str>) -> Result<Self, StoreError> {
        let fail = |source| StoreError::from_server(name, "connect to the database", source);
        let options = PgConnectOptions::from_str(&settings.full_url()?)
            .map_err(fail)?
            .disable_statement_logging();
        let (outgoing, waiting) = mpsc::channel(NEWS_WAITING_MAX);
        let (incoming, _) = broadcast::channel(NEWS_WAITING_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(send(options.clone(), waiting));
        tasks.spawn(hear(options, incoming.clone()));
        Ok(Self {
            outgoing,
            incoming,
            tasks: tokio::sync::Mutex::new(tasks),
        })
    }

    pub(super) fn announce(&self, news: &str) {
        // Full: the server is away, and whoever listens looks at everything when it is back.
        let _ = self.outgoing.try_send(news.to_owned());
    }

    pub(super) fn listen(&self) -> News {
        News(self.incoming.subscribe())
    }

    pub(super) async fn close(&self) {
        self.tasks.lock().await.shutdown().await;
    }
}

async fn send(options: PgConnectOptions, mut waiting: mpsc::Receiver<String>) {
    let mut connection: Option<PgConnection> = None;
    let mut batch = Vec::new();
    loop {
        batch.clear();
        if waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        batch.sort_unstable();
        batch.dedup();
        let ready = match connection.take() {
            Some(ready) => Some(ready),
            None => match timeout(CONNECT_TIME_MAX, options.connect()).await {
                Ok(Ok(mut fresh)) => fresh
                    .execute(sqlx::raw_sql(SETUP))
                    .await
                    .is_ok()
                    .then_some(fresh),
                _ => None,
            },
        };
        let Some(mut ready) = ready else {
            sleep(RECONNECT_WAIT).await;
            continue;
        };
        let payload = batch.join("\n");
        let statement = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(payload);
        if ready.execute(statement).await.is_ok() {
            connection = Some(ready);
        } else {
            let _ = timeout(CONNECT_TIME_MAX, ready.close_hard()).await;
        }
    }
}

async fn hear(options: PgConnectOptions, incoming: broadcast::Sender<Option<Arc<str>>>) {
    // Nobody listening is no error.
    let tell = |news| drop(incoming.send(news));
    loop {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_TIME_MAX)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options.clone());
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            // From here on nothing is missed.
            tell(None);
            while let Ok(Some(notification)) = listener.try_recv().await {
                for news in notification.payload().lines() {
                    tell(Some(news.into()));
                }
            }
        }
        sleep(RECONNECT_WAIT).await;
    }
}

const CHANNEL: &str = "krater";
const SETUP: AssertSqlSafe<&str> =
    AssertSqlSafe("SET synchronous_commit = off; SET statement_timeout = 5000");
/// Pieces of news that wait to be sent or looked at: those of a burst of changes.
const NEWS_WAITING_MAX: usize = 4_096;
/// Pieces of news sent as one: the server takes 8,000 bytes.
const BATCH_MAX: usize = 100;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
const RECONNECT_WAIT: Duration = Duration::from_millis(200);
