//! Reads objects field by field, so that everything that is wrong with a file comes out at once, each with its path.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// One thing that is wrong with a file: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Path of the value, like `load_balancers[0].listeners[2].port`; empty for the file as a whole.
    pub(crate) path: String,
    /// One sentence, lower case, no full stop.
    pub(crate) reason: String,
}

impl Flaw {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

/// An object being taken apart; what is left over when it is [closed](Object::close) is unknown and refused (I9).
pub(crate) struct Object {
    path: String,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Object {
    /// Opens `value`, or records that it is no object.
    pub(crate) fn open(path: String, value: Value, flaws: &mut Vec<Flaw>) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                path,
                fields,
                known: Vec::new(),
            }),
            other => {
                flaws.push(Flaw::new(
                    path,
                    format!("must be an object, not {}", kind_of(&other)),
                ));
                None
            }
        }
    }

    /// The path of a field of this object.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Takes a field as it is.
    pub(crate) fn take_value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name)
    }

    /// Takes a field that may be absent; `null` counts as absent.
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        flaws: &mut Vec<Flaw>,
    ) -> Option<T> {
        let value = self.take_value(name).filter(|value| !value.is_null())?;
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(error) => {
                flaws.push(Flaw::new(self.path_of(name), error.to_string()));
                None
            }
        }
    }

    /// Refuses whatever was not taken.
    pub(crate) fn close(self, flaws: &mut Vec<Flaw>) {
        for name in self.fields.keys() {
            let known = self.known.join(", ");
            flaws.push(Flaw::new(
                self.path_of(name),
                format!("unknown field; known here: {known}"),
            ));
        }
    }
}

/// What a JSON value is, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flaw_of_an_object_is_named_at_once() {
        let mut flaws = Vec::new();
        let value = serde_json::json!({"port": "x", "name": 5, "extra": 1});
        let mut object = Object::open("a[0]".to_owned(), value, &mut flaws).unwrap();
        assert_eq!(object.take::<u16>("port", &mut flaws), None);
        assert_eq!(object.take::<String>("name", &mut flaws), None);
        assert_eq!(object.take::<String>("absent", &mut flaws), None);
        object.close(&mut flaws);
        let text: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(text[0].starts_with("a[0].port: invalid type"), "{text:?}");
        assert!(text[2].starts_with("a[0].extra: unknown field"), "{text:?}");
    }
}
