//! `[turns]`: amphorae that take turns at the addresses of load balancers.

use std::{fmt::Write as _, time::Duration};

use krater_controller_core::model::Topology;
use serde::Deserialize;

use super::{Flaws, parse_duration, quantity::print_duration};

/// How they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Of load balancers without a flavor.
    pub(crate) topology: Topology,
    /// Between two adverts.
    pub(crate) advert_interval: Duration,
}

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TurnsFile {
    topology: Option<String>,
    advert_interval: Option<String>,
}

pub(super) fn parse(file: TurnsFile, flaws: &mut Flaws) -> Option<Turns> {
    let topology = match file.topology.as_deref() {
        None | Some("SINGLE") => Ok(Topology::Single),
        Some("ACTIVE_STANDBY") => Ok(Topology::ActiveStandby),
        Some(other) => Err(format!("{other:?} is neither SINGLE nor ACTIVE_STANDBY")),
    };
    let interval = file.advert_interval.map_or(Ok(DEFAULT), |text| {
        let interval = parse_duration(&text)?;
        let is_whole = interval.as_millis().is_multiple_of(10);
        if is_whole && (LEAST..=MOST).contains(&interval) {
            Ok(interval)
        } else {
            Err(format!(
                "{text} is no multiple of 10ms between {} and {}",
                print_duration(LEAST),
                print_duration(MOST)
            ))
        }
    });
    let topology = flaws.keep("turns.topology", topology);
    let advert_interval = flaws.keep("turns.advert_interval", interval);
    Some(Turns {
        topology: topology?,
        advert_interval: advert_interval?,
    })
}

/// Writes the section as it is read.
pub(super) fn print(turns: &Turns, out: &mut String) {
    let topology = match turns.topology {
        Topology::Single => "SINGLE",
        Topology::ActiveStandby => "ACTIVE_STANDBY",
    };
    let _ = write!(
        out,
        "\n[turns]\ntopology = \"{topology}\"\nadvert_interval = \"{}\"\n",
        print_duration(turns.advert_interval)
    );
}

/// As with Octavia.
const DEFAULT: Duration = Duration::from_secs(1);
/// What amphorae take.
const LEAST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_millis(40_950);

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(topology: &str, interval: &str) -> Result<Turns, Vec<String>> {
        let mut flaws = Flaws::default();
        let file = TurnsFile {
            topology: Some(topology.to_owned()),
            advert_interval: Some(interval.to_owned()),
        };
        parse(file, &mut flaws).ok_or(flaws.0)
    }

    #[test]
    fn topologies_and_intervals_are_those_that_there_are() {
        let quick = parsed("ACTIVE_STANDBY", "100ms").unwrap();
        assert_eq!(quick.topology, Topology::ActiveStandby);
        assert_eq!(quick.advert_interval, Duration::from_millis(100));
        assert_eq!(parsed("BOTH", "5ms").unwrap_err().len(), 2);
        for interval in ["105ms", "41s", "soon"] {
            assert!(parsed("SINGLE", interval).is_err());
        }
    }
}
