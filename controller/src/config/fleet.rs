//! `[fleet]`: how its settings are shown.

use std::fmt::Write as _;

use super::{Fleet, quantity::print_duration, quoted};

/// Writes the section as it is read.
pub(super) fn print(fleet: &Fleet, out: &mut String) {
    let _ = write!(
        out,
        "\n[fleet]\namphorae_max = {}\nload_balancers_max = {}\n",
        fleet.amphorae_max, fleet.load_balancers_max
    );
    if let Some(binary) = &fleet.amphora_binary {
        let _ = writeln!(
            out,
            "amphora_binary = {}",
            quoted(&binary.display().to_string())
        );
    }
    if let Some(workers) = fleet.workers {
        let _ = writeln!(out, "workers = {workers}");
    }
    for (name, value) in [
        ("heartbeat", fleet.heartbeat),
        ("drain", fleet.drain),
        ("silence", fleet.silence),
    ] {
        let _ = writeln!(out, "{name} = \"{}\"", print_duration(value));
    }
    let _ = writeln!(out, "on_this_host = {}", fleet.on_this_host);
    let _ = writeln!(out, "repair = {}", fleet.repair);
    for zone in &fleet.zones {
        let (name, amphorae) = (quoted(&zone.name), zone.amphorae);
        let _ = write!(
            out,
            "[[fleet.zones]]\nname = {name}\namphorae = {amphorae}\n"
        );
    }
}
