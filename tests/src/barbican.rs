//! A real Barbican for tests whose tenants keep their certificates in it.

use std::net::SocketAddr;

use crate::{
    http::fetch,
    keystone::{Keystone, START_MAX, serve},
    process::Program,
    wait::until,
};

/// A key manager at its usual port of the test's namespace, which believes a [`Keystone`]. Dropping it ends it.
#[derive(Debug)]
pub struct Barbican {
    program: Program,
}

impl Barbican {
    /// Starts it, empty, and waits until it answers.
    pub fn start(keystone: &Keystone) -> Self {
        let home = keystone.home();
        let paste = format!("config:{}", home.join("barbican-api-paste.ini").display());
        let mut program = serve(
            "barbican",
            &home,
            address(),
            &["--paste", &paste],
            |command| {
                // Its settings are looked for there.
                command.env("HOME", &home);
            },
        );
        until("the key manager answers", START_MAX, || {
            program.assert_runs();
            // It offers a choice of versions.
            fetch(address(), "/").is_ok_and(|answer| answer.status == 300)
        });
        Self { program }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Lines for [`Keystone::settings`] that have krater read secrets there.
    pub fn settings() -> String {
        format!(
            "[secrets]\ndriver = \"barbican\"\n[secrets.barbican]\nurl = \"http://{}\"\n",
            address()
        )
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9311))
}
