//! Reads the repository and holds it to what ARCHITECTURE.md says of it: walls between crates, order of modules,
//! limits of style, declared metrics, licences, and a README whose commands exist.

mod layout;
mod licences;
mod metrics;
mod modules;
mod source;
mod style;
mod walls;

/// Fails with every offence at once, one a line.
#[track_caller]
fn assert_none(offences: &[String]) {
    assert!(
        offences.is_empty(),
        "{} offences:\n{}",
        offences.len(),
        offences.join("\n")
    );
}
