//! Figures with names and units, as a table or as JSON.

use serde_json::{Map, Value, json};

/// What one measurement gave.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<(String, Value, &'static str)>,
}

impl Table {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    /// Adds a figure.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
        unit: &'static str,
    ) {
        self.rows.push((name.into(), value.into(), unit));
    }

    /// Adds a time given in microseconds, as milliseconds.
    pub(crate) fn add_us(&mut self, name: impl Into<String>, microseconds: u32) {
        self.add(name, f64::from(microseconds) / 1000.0, "ms");
    }

    pub(crate) fn text(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(name, ..)| name.len())
            .max()
            .unwrap_or_default();
        let mut text = format!("{}\n", self.title);
        for (name, value, unit) in &self.rows {
            text.push_str(&format!("  {name:width$}  {value} {unit}\n"));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let figures: Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, value, unit)| (name.clone(), json!({"value": value, "unit": unit})))
            .collect();
        json!({"title": self.title, "figures": figures})
    }
}
