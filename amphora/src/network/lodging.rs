//! The namespace of one amphora, from the supervisor's and from the agent's side.

use std::{
    env,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use krater_amphora_api::AmphoraId;
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::{runtime, task::LocalSet};
use tracing::warn;

use super::{INTERFACE, Settings, host, kernel::Kernel, namespace, outside, privileges};

/// A namespace that is joined to its network; it is left when this is told to.
#[derive(Debug)]
pub(crate) struct Lodging {
    amphora: AmphoraId,
    settings: Settings,
    namespace: OwnedFd,
}

impl Lodging {
    /// Makes a namespace and joins it to the network.
    pub(crate) fn make(amphora: AmphoraId, settings: &Settings) -> io::Result<Self> {
        let namespace = namespace::make().map_err(|error| failed("make its namespace", &error))?;
        let lodging = Self {
            amphora,
            settings: settings.clone(),
            namespace: namespace.into(),
        };
        // One that leads to a namespace of a supervisor before this one, which nobody is in any more.
        lodging.leave()?;
        lodging.join()?;
        lodging
            .run(furnish)
            .map_err(|error| failed("furnish its namespace", &error))?;
        Ok(lodging)
    }

    /// Sees to it that the namespace is joined to the network, whatever became of that.
    pub(crate) fn join(&self) -> io::Result<()> {
        let (amphora, settings) = (self.amphora, self.settings.clone());
        let namespace = self.namespace.try_clone()?;
        on_a_thread(move || async move { host::join(amphora, &settings, &namespace).await })
            .map_err(|error| failed("join its network", &error))
    }

    /// Takes the namespace off the network.
    pub(crate) fn leave(&self) -> io::Result<()> {
        leave(self.amphora)
    }

    /// Runs something inside, on a thread of its own.
    pub(crate) fn run<T: Send + 'static, F: Future<Output = io::Result<T>>>(
        &self,
        act: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<T> {
        namespace::within(&self.file()?, || locally(act))
    }

    /// Where a child that is started now finds the namespace.
    pub(crate) fn for_child(&self) -> io::Result<(&'static str, PathBuf)> {
        fcntl_setfd(&self.namespace, FdFlags::empty())?;
        Ok((VARIABLE, path_of(&self.namespace)))
    }

    fn file(&self) -> io::Result<File> {
        Ok(self.namespace.try_clone()?.into())
    }
}

/// Moves this process into its namespace and gives up what it may not do there. Before any thread is started but the one
/// that writes the log, which has given up everything: only those that come later are inside. Whoever calls this has the
/// state folder of the amphora, or the right to it, since what a living one has would be taken from it. Without a supervisor the namespace is made here.
pub(crate) fn move_in(amphora: AmphoraId, settings: &Settings) -> io::Result<()> {
    let namespace = match env::var_os(VARIABLE) {
        Some(path) => namespace::open(Path::new(&path)),
        None => Lodging::make(amphora, settings).and_then(|lodging| lodging.file()),
    };
    outside::stay_behind()?;
    namespace::enter(&namespace?).map_err(|error| failed("enter its namespace", &error))?;
    privileges::keep(privileges::INSIDE)
}

/// Takes the namespace of an amphora off its network, whoever made it.
pub(crate) fn leave(amphora: AmphoraId) -> io::Result<()> {
    on_a_thread(move || host::leave(amphora)).map_err(|error| failed("leave its network", &error))
}

/// Has the tunnel of a network reach the hosts that its settings name at present; of one without a tunnel there is nothing
/// to do.
pub(crate) fn tell_peers(settings: &Settings) -> io::Result<()> {
    let Some(vxlan) = settings.vxlan.clone() else {
        return Ok(());
    };
    on_a_thread(move || async move { host::tell_peers(&vxlan).await })
}

/// Why this process cannot build networks on this host, if so: a sentence.
pub(crate) fn obstacle() -> Option<String> {
    let rehearse = || {
        if !privileges::may_build()? {
            let reason = "it takes root, or CAP_NET_ADMIN and CAP_SYS_ADMIN";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        host::may_take_turns()?;
        namespace::within(&namespace::make()?, || locally(host::rehearse))
    };
    let error = rehearse().err()?;
    Some(format!(
        "networks of tenants cannot be built there: {error}"
    ))
}

/// Removes what was made of networks on this host and nobody uses any more; its names.
pub(crate) fn sweep() -> io::Result<Vec<String>> {
    on_a_thread(host::sweep)
}

/// What is to be had inside before anybody moves in. The interface stays down until it has an address: the kernel then
/// tells the neighbours.
async fn furnish() -> io::Result<()> {
    for (setting, value) in SETTINGS {
        let path = setting.replace("DEVICE", INTERFACE);
        // In a container they may be read-only: it then waits until neighbours ask.
        if let Err(error) = fs::write(format!("/proc/sys/net/{path}"), value) {
            warn!(setting = path, %error, "a setting of the namespace cannot be made");
        }
    }
    let kernel = Kernel::connect()?;
    match kernel.index("lo").await? {
        Some(loopback) => kernel.up(loopback).await,
        None => Ok(()),
    }
}

/// Runs something on a thread of its own, in the namespace of this one.
fn on_a_thread<T: Send + 'static, F: Future<Output = io::Result<T>>>(
    act: impl FnOnce() -> F + Send + 'static,
) -> io::Result<T> {
    let thread = thread::Builder::new().name("network".to_owned());
    let thread = thread.spawn(move || locally(act))?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread broke: this is a bug")))
}

fn locally<T, F: Future<Output = io::Result<T>>>(act: impl FnOnce() -> F) -> io::Result<T> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async { act().await })
}

fn path_of(namespace: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()))
}

fn failed(doing: &str, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; it takes root, or CAP_NET_ADMIN and CAP_SYS_ADMIN",
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("the amphora cannot {doing}: {error}{hint}"),
    )
}

/// Where an agent finds the namespace it is to move into.
const VARIABLE: &str = "KRATER_NAMESPACE";
/// Neighbours are told when the interface comes up; nobody else says what is routed where. Who is looked for is asked each
/// 250 ms, for 3 s as ever: a bridge does not pass on what is sent before it has noticed the cable, and a second more is
/// all the time that a probe may have.
const SETTINGS: [(&str, &str); 7] = [
    ("ipv4/conf/DEVICE/arp_notify", "1"),
    ("ipv6/conf/DEVICE/ndisc_notify", "1"),
    ("ipv6/conf/DEVICE/accept_ra", "0"),
    ("ipv4/neigh/DEVICE/retrans_time_ms", "250"),
    ("ipv6/neigh/DEVICE/retrans_time_ms", "250"),
    ("ipv4/neigh/DEVICE/mcast_solicit", "12"),
    ("ipv6/neigh/DEVICE/mcast_solicit", "12"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_build_networks_says_what_it_takes() {
        let told = thread::spawn(|| {
            privileges::give_up_all().unwrap();
            obstacle()
        });
        let told = told.join().unwrap().unwrap();
        assert!(told.contains("CAP_NET_ADMIN and CAP_SYS_ADMIN"), "{told}");
    }
}
