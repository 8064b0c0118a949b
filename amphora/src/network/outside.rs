//! The host's network, for a process that lives in a namespace: where controllers, scrapers and log servers are.
//!
//! A thread stays behind when the process moves in. What it opens belongs to the host's network wherever it is used, so
//! tenants cannot reach the agent, and no address of ours has to be unlike those of tenants. In a process that has not
//! moved all of this happens where it is asked for.

use std::{
    io,
    net::SocketAddr,
    sync::{OnceLock, mpsc},
    thread::{self, JoinHandle},
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Handle},
};

use super::privileges;

/// The thread that stayed behind, once there is one.
static OUTSIDE: OnceLock<Handle> = OnceLock::new();

/// Leaves a thread behind. To be called before this one moves.
pub(super) fn stay_behind() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let (ready, is_ready) = mpsc::channel();
    thread::Builder::new()
        .name("outside".to_owned())
        .spawn(move || {
            let _ = ready.send(privileges::keep(privileges::OUTSIDE));
            runtime.block_on(std::future::pending::<()>());
        })?;
    is_ready.recv().map_err(|_| gone())??;
    OUTSIDE
        .set(handle)
        .map_err(|_| io::Error::other("this process has moved already"))
}

/// Connects to a name or an address.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let Some(outside) = OUTSIDE.get() else {
        return TcpStream::connect((host, port)).await;
    };
    let host = host.to_owned();
    // Names too are looked up out there: threads for that are started by the one that polls this.
    let stream = outside.spawn(async move {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.into_std()
    });
    TcpStream::from_std(stream.await.map_err(|_| gone())??)
}

/// Listens.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let Some(outside) = OUTSIDE.get() else {
        return TcpListener::bind(address).await;
    };
    let listener = outside.spawn(async move { TcpListener::bind(address).await?.into_std() });
    TcpListener::from_std(listener.await.map_err(|_| gone())??)
}

/// Starts a thread.
pub(crate) fn start_thread(
    name: &str,
    act: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name(name.to_owned());
    let Some(outside) = OUTSIDE.get() else {
        return thread.spawn(act);
    };
    let (started, start) = mpsc::channel();
    outside.spawn(async move {
        let _ = started.send(thread.spawn(act));
    });
    start.recv().map_err(|_| gone())?
}

fn gone() -> io::Error {
    io::Error::other("the thread on the host's network is gone: this is a bug")
}
