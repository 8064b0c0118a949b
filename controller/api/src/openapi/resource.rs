//! What a kind of resource is called and made of.

use serde_json::{Map, Value, json};

use super::field::{self, Field, Mode, Null, Takes};

/// A kind of resource.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// The name of its schema.
    pub component: &'static str,
    /// The key of one.
    pub root: &'static str,
    /// The key of many.
    pub root_list: &'static str,
    /// The key of the links of a list.
    pub links: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// Fields by name: what each takes, its mode, its null, and a sentence; before them those that are constants.
macro_rules! fields {
    ([$($shared:ident),*]; $($name:literal: $takes:expr, $mode:ident, $null:ident, $about:literal;)*) => {
        &[$($shared,)* $(crate::openapi::resource::field($name, $takes, $mode, $null, $about),)*]
    };
}

/// Fields that several resources have.
macro_rules! constants {
    ($($constant:ident = $name:literal: $takes:expr, $mode:ident, $null:ident, $about:literal;)*) => {
        $(const $constant: crate::openapi::field::Field =
            crate::openapi::resource::field($name, $takes, $mode, $null, $about);)*
    };
}

pub(super) use {constants, fields};

/// A field.
pub(super) const fn field(
    name: &'static str,
    takes: Takes,
    mode: Mode,
    null: Null,
    about: &'static str,
) -> Field {
    Field {
        name,
        takes,
        mode,
        null,
        about,
    }
}

impl Resource {
    /// Adds its schemas to the components: shown, and for creation and update where there are such.
    pub(super) fn describe(&self, components: &mut Map<String, Value>) {
        components.insert(self.component.into(), field::shown(self.fields));
        if self.fields.iter().any(Field::is_created) {
            components.insert(self.creation(), field::creation(self.fields));
        }
        if self.fields.iter().any(Field::is_changed) {
            components.insert(self.update(), field::update(self.fields));
        }
    }

    /// The name of the schema of its creation.
    pub(super) fn creation(&self) -> String {
        format!("{}Create", self.component)
    }

    /// The name of the schema of its update.
    pub(super) fn update(&self) -> String {
        format!("{}Update", self.component)
    }

    /// The schema of its creation within that of a load balancer: without what says where it belongs, with `more`.
    pub(super) fn nested(&self, parents: &[&str], more: &[Field]) -> Value {
        let fields: Vec<Field> = self
            .fields
            .iter()
            .filter(|field| !parents.contains(&field.name))
            .chain(more)
            .copied()
            .collect();
        let mut schema = field::creation(&fields);
        if parents.contains(&"needed")
            && let Some(object) = schema.as_object_mut()
        {
            object.remove("required");
        }
        schema
    }

    /// The body with one of them under its key.
    pub(super) fn body(&self, component: &str) -> Value {
        json!({
            "type": "object",
            "properties": {self.root: {"$ref": format!("#/components/schemas/{component}")}},
            "required": [self.root],
            "additionalProperties": false,
        })
    }

    /// The answer with many of them.
    pub(super) fn list(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                self.root_list: {
                    "type": "array",
                    "items": {"$ref": format!("#/components/schemas/{}", self.component)},
                },
                self.links: {"type": "array", "items": {"$ref": "#/components/schemas/Link"}},
            },
            "required": [self.root_list, self.links],
        })
    }
}
