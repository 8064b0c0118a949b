//! Reads JSON objects field by field: coercions, bounds and the sentences of reference 1.3. What no reader took is an
//! unknown attribute, so nothing can be accepted and forgotten.

use core::net::IpAddr;

use krater_controller_core::model::{Description, Name, Tags};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::fault::Fault;

/// What a request says of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// Nothing.
    Absent,
    /// `null`
    Null,
    /// A value.
    Value(T),
}

impl<T> Given<T> {
    /// The value, or `default` when there is none or it is null.
    pub(crate) fn or(self, default: T) -> T {
        self.value().unwrap_or(default)
    }

    /// The value, or the type's own default when there is none or it is null.
    pub(crate) fn or_default(self) -> T
    where
        T: Default,
    {
        self.value().unwrap_or_default()
    }

    /// The value, unless there is none or it is null.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// For updates: `None` leaves the field as it is, null stands for `null`.
    pub(crate) fn set(self, null: T) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Null => Some(null),
            Self::Value(value) => Some(value),
        }
    }

    /// For updates of fields that null clears.
    pub(crate) fn clear(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Value(value) => Some(Some(value)),
        }
    }

    /// For updates of fields that null is no value of.
    pub(crate) fn set_not_null(self, name: &str) -> Result<Option<T>, Fault> {
        match self {
            Self::Absent => Ok(None),
            Self::Null => Err(Fault::option("None", name)),
            Self::Value(value) => Ok(Some(value)),
        }
    }

    /// For fields a creation needs.
    pub(crate) fn mandatory(self, name: &str) -> Result<T, Fault> {
        match self {
            Self::Absent => Err(Fault::input(name, "None", "Mandatory field missing.")),
            Self::Null => Err(Fault::option("None", name)),
            Self::Value(value) => Ok(value),
        }
    }

    /// The value turned into another.
    pub(crate) fn map<U>(self, turn: impl FnOnce(T) -> U) -> Given<U> {
        match self {
            Self::Absent => Given::Absent,
            Self::Null => Given::Null,
            Self::Value(value) => Given::Value(turn(value)),
        }
    }

    /// The value turned into another by something that may refuse it.
    pub(crate) fn parse<U>(
        self,
        turn: impl FnOnce(T) -> Result<U, Fault>,
    ) -> Result<Given<U>, Fault> {
        Ok(match self {
            Self::Absent => Given::Absent,
            Self::Null => Given::Null,
            Self::Value(value) => Given::Value(turn(value)?),
        })
    }
}

/// The fields of one JSON object that nobody took yet.
pub(crate) struct Fields {
    path: String,
    object: Map<String, Value>,
}

/// Reads the object `value`; `path` names it in errors (`ARG.ROOT` or deeper). Refuses what `read` leaves over.
pub(crate) fn read<T>(
    value: Value,
    path: &str,
    read: impl FnOnce(&mut Fields) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let Value::Object(object) = value else {
        return Err(Fault::input(
            name,
            &echo(&value),
            "Value should be an object",
        ));
    };
    let mut fields = Fields {
        path: path.to_owned(),
        object,
    };
    let parsed = read(&mut fields)?;
    fields.refuse_leftovers()?;
    Ok(parsed)
}

/// Reads a request's body, an object with the one key `root`; `argument` is the name in errors (reference 1.3).
pub(crate) fn read_root<T>(
    body: Value,
    argument: &str,
    root: &'static str,
    reader: impl FnOnce(Value, &str) -> Result<T, Fault>,
) -> Result<T, Fault> {
    read(body, argument, |fields| {
        let value = match fields.take(root) {
            Given::Value(value) => value,
            Given::Absent | Given::Null => {
                fields.refuse_leftovers()?;
                return Err(Fault::input(root, "None", "Mandatory field missing."));
            }
        };
        reader(value, &format!("{argument}.{root}"))
    })
}

impl Fields {
    /// The field as it is.
    pub(crate) fn take(&mut self, name: &str) -> Given<Value> {
        match self.object.remove(name) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => Given::Value(value),
        }
    }

    /// Whether nothing but `name` is there.
    pub(crate) fn holds_only(&self, name: &str) -> bool {
        self.object.keys().all(|key| key == name)
    }

    /// Whether the field is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// The text of a field that stays to be read; `None` if it is none.
    pub(crate) fn peek_text(&self, name: &str) -> Option<&str> {
        self.object.get(name).and_then(Value::as_str)
    }

    /// The path of a field, for errors inside it.
    pub(crate) fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// A text of at most `characters_max` characters. None of them is NUL, which PostgreSQL cannot keep.
    pub(crate) fn text(
        &mut self,
        name: &str,
        characters_max: usize,
    ) -> Result<Given<String>, Fault> {
        self.take(name)
            .parse(|value| text(name, value, characters_max))
    }

    /// A UUID in any spelling.
    pub(crate) fn uuid(&mut self, name: &str) -> Result<Given<Uuid>, Fault> {
        self.take(name).parse(|value| {
            let refused = || Fault::input(name, &echo(&value), "Value should be UUID format");
            value
                .as_str()
                .and_then(|text| Uuid::parse_str(text).ok())
                .ok_or_else(refused)
        })
    }

    /// An IP address.
    pub(crate) fn address(&mut self, name: &str) -> Result<Given<IpAddr>, Fault> {
        self.take(name).parse(|value| {
            let refused =
                || Fault::input(name, &echo(&value), "Value should be IPv4 or IPv6 format");
            value
                .as_str()
                .and_then(|text| text.parse().ok())
                .ok_or_else(refused)
        })
    }

    /// A whole number between `least` and `most`, both included.
    pub(crate) fn integer<T>(
        &mut self,
        name: &str,
        least: i64,
        most: i64,
    ) -> Result<Given<T>, Fault>
    where
        T: TryFrom<i64>,
    {
        self.take(name).parse(|value| {
            let number = whole_number(&value)
                .ok_or_else(|| Fault::input(name, &echo(&value), "Value should be an integer"))?;
            if number < least {
                let reason = format!("Value should be greater or equal to {least}");
                return Err(Fault::input(name, &echo(&value), reason));
            }
            let refused = || {
                Fault::input(
                    name,
                    &echo(&value),
                    format!("Value should be lower or equal to {most}"),
                )
            };
            if number > most {
                return Err(refused());
            }
            T::try_from(number).map_err(|_| refused())
        })
    }

    /// A truth value in any unambiguous spelling.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Given<bool>, Fault> {
        self.take(name).parse(|value| {
            let refused = || {
                let echoed = echo(&value);
                Fault::input(
                    name,
                    &echoed,
                    format!("Value not an unambiguous boolean: {echoed}"),
                )
            };
            truth(&value).ok_or_else(refused)
        })
    }

    /// One of `options`.
    pub(crate) fn choice(
        &mut self,
        name: &str,
        options: &'static [&'static str],
    ) -> Result<Given<&'static str>, Fault> {
        self.take(name).parse(|value| choice(name, &value, options))
    }

    /// One of `all`, by its name.
    pub(crate) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<Given<T>, Fault> {
        self.take(name)
            .parse(|value| one_of(name, &value, all, word))
    }

    /// A list, each of whose entries `entry` reads.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        mut entry: impl FnMut(Value) -> Result<T, Fault>,
    ) -> Result<Given<Vec<T>>, Fault> {
        self.take(name).parse(|value| match value {
            Value::Array(entries) => entries.into_iter().map(&mut entry).collect(),
            other => {
                let echoed = echo(&other);
                Err(Fault::input(
                    name,
                    &echoed,
                    format!("Value not a valid list: {echoed}"),
                ))
            }
        })
    }

    /// The field `name` of nearly every resource; null is the empty one.
    pub(crate) fn name(&mut self) -> Result<Given<Name>, Fault> {
        let given = self.text("name", TEXT_CHARACTERS_MAX)?.set(String::new());
        absent_or(given)
            .parse(|text| Name::parse(text).map_err(|_| too_long("name", TEXT_CHARACTERS_MAX)))
    }

    /// The field `description`; null is the empty one.
    pub(crate) fn description(&mut self) -> Result<Given<Description>, Fault> {
        let given = self
            .text("description", TEXT_CHARACTERS_MAX)?
            .set(String::new());
        absent_or(given).parse(|text| {
            Description::parse(text).map_err(|_| too_long("description", TEXT_CHARACTERS_MAX))
        })
    }

    /// The field `admin_state_up`; null is false (reference 1.3).
    pub(crate) fn admin_state_up(&mut self) -> Result<Given<bool>, Fault> {
        Ok(absent_or(self.boolean("admin_state_up")?.set(false)))
    }

    /// The field `tags`; null is as if it were not there.
    pub(crate) fn tags(&mut self) -> Result<Option<Tags>, Fault> {
        let entry = |value| {
            let tag = text("tags", value, TEXT_CHARACTERS_MAX)?;
            if tag.is_empty() {
                return Err(Fault::input(
                    "tags",
                    "",
                    "Value should have a minimum character requirement of 1",
                ));
            }
            Ok(tag)
        };
        let Some(tags) = self.list("tags", entry)?.value() else {
            return Ok(None);
        };
        let count = tags.len();
        Tags::parse(tags).map(Some).map_err(|_| {
            Fault::validation(format!("{count} tags are more than one resource may have."))
        })
    }

    /// The fields `project_id` and `tenant_id` of a child, whose project is its parent's whatever they say
    /// (reference 1.4).
    pub(crate) fn project_of_child(&mut self) -> Result<(), Fault> {
        self.text("project_id", PROJECT_CHARACTERS_MAX)?;
        self.text("tenant_id", PROJECT_CHARACTERS_MAX)?;
        Ok(())
    }

    fn refuse_leftovers(&self) -> Result<(), Fault> {
        if self.object.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.object.keys().map(String::as_str).collect();
        let plural = if names.len() > 1 {
            "attributes"
        } else {
            "attribute"
        };
        let list = abridge(&names.join(", "));
        Err(Fault::bad_request(format!(
            "Unknown {plural} for argument {}: {list}",
            self.path
        )))
    }
}

/// The most characters of names, descriptions and tags (reference 1.4).
pub(crate) const TEXT_CHARACTERS_MAX: usize = 255;
/// What is wrong with a text that has NUL in it.
pub(crate) const NO_NUL: &str = "Value should not contain NUL.";
/// The most characters of a project's id (reference 1.4).
pub(crate) const PROJECT_CHARACTERS_MAX: usize = 36;

/// A text of at most `characters_max` characters.
pub(crate) fn text(name: &str, value: Value, characters_max: usize) -> Result<String, Fault> {
    let Value::String(text) = value else {
        return Err(Fault::input(name, &echo(&value), "Value should be string"));
    };
    if text.chars().count() > characters_max {
        return Err(Fault::input(name, &abridge(&text), maximum(characters_max)));
    }
    if text.contains('\0') {
        return Err(Fault::input(name, &abridge(&text), NO_NUL));
    }
    Ok(text)
}

/// One of `options`.
pub(crate) fn choice(
    name: &str,
    value: &Value,
    options: &'static [&'static str],
) -> Result<&'static str, Fault> {
    let chosen = value
        .as_str()
        .and_then(|text| options.iter().find(|option| **option == text));
    chosen.copied().ok_or_else(|| {
        Fault::input(
            name,
            &echo(value),
            format!("Value should be one of: {}", options.join(", ")),
        )
    })
}

/// One of `all`, by its name.
pub(crate) fn one_of<T: Copy>(
    name: &str,
    value: &Value,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> Result<T, Fault> {
    let named = |text: &str| all.iter().copied().find(|one| word(*one) == text);
    value.as_str().and_then(named).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
        Fault::input(
            name,
            &echo(value),
            format!("Value should be one of: {}", words.join(", ")),
        )
    })
}

/// The value as the reference prints it, cut to a bearable length.
pub(crate) fn echo(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::String(text) => abridge(text),
        other => abridge(&other.to_string()),
    }
}

/// The truth a text or number unambiguously stands for (reference 1.3).
pub(crate) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "t" | "y" | "1" => Some(true),
            "false" | "no" | "off" | "f" | "n" | "0" => Some(false),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The whole number that a JSON value stands for: numeric texts are read, fractions cut off (reference 1.3).
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let cut = number.as_f64()?.trunc();
            // Out of range on purpose: every field's bounds are far inside, so the caller names the one it breaks.
            if cut >= BEYOND_EVERY_BOUND {
                return Some(i64::MAX);
            }
            if cut <= -BEYOND_EVERY_BOUND {
                return Some(i64::MIN);
            }
            format!("{cut:.0}").parse().ok()
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

const BEYOND_EVERY_BOUND: f64 = 1e15;
const ECHO_CHARACTERS_MAX: usize = 300;

fn absent_or<T>(set: Option<T>) -> Given<T> {
    set.map_or(Given::Absent, Given::Value)
}

fn too_long(name: &str, characters_max: usize) -> Fault {
    Fault::input(name, "…", maximum(characters_max))
}

fn maximum(characters_max: usize) -> String {
    format!("Value should have a maximum character requirement of {characters_max}")
}

fn abridge(text: &str) -> String {
    if text.chars().count() <= ECHO_CHARACTERS_MAX {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(ECHO_CHARACTERS_MAX).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests;
