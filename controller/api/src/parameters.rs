//! The query string: names and values in their order, decoded.

use serde_json::Value;

use crate::{body, fault::Fault};

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query string.
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// Reads a query string in which no name and no value has NUL: nothing here can be called so.
    pub(crate) fn checked(query: &str) -> Result<Self, Fault> {
        let parameters = Self::parse(query);
        let nul = |(name, value): &(&str, &str)| name.contains('\0') || value.contains('\0');
        if let Some((name, value)) = parameters.iter().find(nul) {
            return Err(Fault::input(name, value, body::NO_NUL));
        }
        Ok(parameters)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of `name`.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of `name`.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter()
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Refuses every parameter but `known`, as all requests that change something do (reference 1.2).
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self.iter().find(|(name, _)| !known.contains(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Fault::bad_request(format!("Unknown argument: \"{name}\""))),
        }
    }

    /// The unambiguous truth value of `name`; `false` when it is not there.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Fault> {
        let Some(text) = self.first(name) else {
            return Ok(false);
        };
        let refused = || {
            Fault::input(
                name,
                text,
                format!("Value not an unambiguous boolean: {text}"),
            )
        };
        body::truth(&Value::from(text)).ok_or_else(refused)
    }

    /// The truth value of `name`, anything unrecognised being false.
    pub(crate) fn lenient_flag(&self, name: &str) -> bool {
        self.first(name)
            .and_then(|text| body::truth(&Value::from(text)))
            .unwrap_or(false)
    }
}
