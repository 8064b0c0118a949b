//! Prometheus' text format, version 0.0.4, read as strictly as its reader could.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// What a scrape has told.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Kind of each family, by name.
    pub kinds: BTreeMap<String, String>,
    /// Value of each sample, by its name and labels as they were written.
    pub samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a text: each family in one piece behind its help and its type, each sample once, names and labels as they
    /// have to be, counters that are none below zero.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(
            text.is_empty() || text.ends_with('\n'),
            "the last line does not end"
        );
        let mut read = Self::default();
        let mut done = BTreeSet::new();
        let mut family = String::new();
        let mut helped = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').context("a help has a text")?;
                ensure!(!help.is_empty() && helped.is_none(), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').context("a type has a kind")?;
                ensure!(
                    helped.take().as_deref() == Some(name),
                    "no help ahead of {line}"
                );
                ensure!(matches!(kind, "counter" | "gauge"), "{line}");
                ensure!(kind != "counter" || name.ends_with("_total"), "{line}");
                ensure!(is_name(name) && done.insert(name.to_owned()), "{line}");
                name.clone_into(&mut family);
                read.kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').context("a sample has a value")?;
                let name = series.split('{').next().unwrap_or_default();
                ensure!(
                    name == family && helped.is_none(),
                    "{line} is not of {family}"
                );
                check_labels(series.strip_prefix(name).unwrap_or_default())
                    .with_context(|| line.to_owned())?;
                let value: f64 = value.parse().with_context(|| line.to_owned())?;
                ensure!(value.is_finite() && value >= 0.0, "{line}");
                let known = read.samples.insert(series.to_owned(), value);
                ensure!(known.is_none(), "{series} is there twice");
            }
        }
        ensure!(helped.is_none(), "a help without a family");
        Ok(read)
    }

    /// The value of a sample.
    pub fn value(&self, series: &str) -> f64 {
        let value = self.samples.get(series).copied();
        value.unwrap_or_else(|| panic!("{series} is not among {:#?}", self.samples.keys()))
    }
}

fn check_labels(labels: &str) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let inside = labels
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .context("labels are in braces")?;
    let mut names = BTreeSet::new();
    for pair in inside.split(',') {
        let (name, value) = pair.split_once('=').context("a label has a value")?;
        let quoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let value = quoted.context("a value is in quotes")?;
        if value.contains(['"', '\\', '\n']) || !is_name(name) || name.contains(':') {
            bail!("{pair}");
        }
        ensure!(names.insert(name), "{name} is there twice");
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().all(fits) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}
