//! Fields of resources as data: what they take, when they may be sent, how they are shown.

use serde_json::{Map, Value, json};

/// A field of a resource.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// Where it is sent and shown.
    pub mode: Mode,
    /// Whether null may be sent for it, or shown.
    pub null: Null,
    /// What it is, one sentence.
    pub about: &'static str,
}

/// Where a field is sent and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Shown, never sent.
    Shown,
    /// Sent on creation and shown.
    Created,
    /// Sent on creation, which needs it, and shown.
    Needed,
    /// Sent on creation and update, and shown.
    Changed,
    /// Sent on creation, which needs it, and on update; shown.
    NeededChanged,
    /// Sent on creation, never shown.
    OnlySent,
    /// Sent on creation, which needs it; never shown.
    NeededOnlySent,
    /// Shown where there is something to show.
    SometimesShown,
}

/// Whether null is a value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    /// Neither sent nor shown.
    Never,
    /// It may be sent, and means the default; it is not shown.
    Sent,
    /// It may be sent and shown.
    Both,
}

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// A text with at least and at most so many characters.
    Text(u32, u32),
    /// A text that is one of these.
    Choice(&'static [&'static str]),
    /// A UUID.
    Uuid,
    /// An IPv4 or IPv6 address.
    Address,
    /// A network in CIDR notation.
    Cidr,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// A number that is one of these.
    Number(&'static [f64]),
    /// A truth value.
    Boolean,
    /// A time in UTC with whole seconds.
    Time,
    /// A list.
    List(&'static Self),
    /// A list of `{"id": …}`.
    References,
    /// An object of texts.
    Texts,
    /// An object with these fields, all of them optional but those needed.
    Object(&'static [Field]),
    /// An object whose schema is a component of its own.
    Component(&'static str),
}

impl Takes {
    /// Its JSON schema.
    #[must_use]
    pub fn schema(&self) -> Value {
        match self {
            Self::Text(least, most) => {
                let mut schema = json!({"type": "string", "maxLength": most});
                if *least > 0
                    && let Some(object) = schema.as_object_mut()
                {
                    object.insert("minLength".into(), json!(least));
                }
                schema
            }
            Self::Choice(options) => json!({"type": "string", "enum": options}),
            Self::Uuid => json!({"type": "string", "format": "uuid"}),
            Self::Address => {
                json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
            }
            Self::Cidr => json!({"type": "string", "example": "192.0.2.0/24"}),
            Self::Integer(least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            Self::Number(options) => json!({"type": "number", "enum": options}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::Time => json!({
                "type": "string",
                "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$",
                "example": "2025-03-04T10:11:12",
            }),
            Self::List(entry) => json!({"type": "array", "items": entry.schema()}),
            Self::References => json!({
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"id": {"type": "string", "format": "uuid"}},
                    "required": ["id"],
                },
            }),
            Self::Texts => {
                json!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 255}})
            }
            Self::Object(fields) => {
                let mut schema = object(fields, |_| true);
                require(&mut schema, fields.iter().filter(|field| field.is_needed()));
                schema
            }
            Self::Component(name) => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

impl Field {
    /// Whether a creation may send it.
    #[must_use]
    pub const fn is_created(&self) -> bool {
        !matches!(self.mode, Mode::Shown | Mode::SometimesShown)
    }

    /// Whether an update may send it.
    #[must_use]
    pub const fn is_changed(&self) -> bool {
        matches!(self.mode, Mode::Changed | Mode::NeededChanged)
    }

    /// Whether it is shown at all.
    #[must_use]
    pub const fn is_shown(&self) -> bool {
        !matches!(self.mode, Mode::OnlySent | Mode::NeededOnlySent)
    }

    /// Whether a creation needs it.
    #[must_use]
    pub const fn is_needed(&self) -> bool {
        matches!(
            self.mode,
            Mode::Needed | Mode::NeededChanged | Mode::NeededOnlySent
        )
    }

    fn property(&self, null: bool) -> Value {
        let mut schema = self.takes.schema();
        if null {
            schema = nullable(schema);
        }
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), json!(self.about));
        }
        schema
    }
}

/// The schema of a creation's object.
#[must_use]
pub(super) fn creation(fields: &[Field]) -> Value {
    let mut schema = object(fields, Field::is_created);
    let needed = fields.iter().filter(|field| field.is_needed());
    require(&mut schema, needed);
    schema
}

/// The schema of an update's object.
#[must_use]
pub(super) fn update(fields: &[Field]) -> Value {
    object(fields, Field::is_changed)
}

/// The schema of an object as it is shown. None of its keys is sure to be there, since `fields` chooses among them;
/// further keys may come with later versions.
#[must_use]
pub(super) fn shown(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .filter(|field| field.is_shown())
        .map(|field| (field.name.into(), field.property(field.null == Null::Both)))
        .collect();
    json!({"type": "object", "properties": properties})
}

fn object(fields: &[Field], which: impl Fn(&Field) -> bool) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .filter(|field| which(field))
        .map(|field| (field.name.into(), field.property(field.null != Null::Never)))
        .collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn require<'a>(schema: &mut Value, fields: impl Iterator<Item = &'a Field>) {
    let names: Vec<&str> = fields.map(|field| field.name).collect();
    if let Some(object) = schema.as_object_mut()
        && !names.is_empty()
    {
        object.insert("required".into(), json!(names));
    }
}

/// The schema that takes null too.
fn nullable(mut schema: Value) -> Value {
    let Some(object) = schema.as_object_mut() else {
        return schema;
    };
    if object.contains_key("$ref") {
        return json!({"anyOf": [schema, {"type": "null"}]});
    }
    if let Some(kind) = object.get("type").cloned() {
        object.insert("type".into(), json!([kind, "null"]));
    }
    if let Some(options) = object.get_mut("enum").and_then(Value::as_array_mut) {
        options.push(Value::Null);
    }
    schema
}
