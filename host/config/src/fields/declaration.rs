//! How fields and their types are declared: a type by the form that its values are written in, a set of fields by one list of names,
//! meanings, types and defaults. The reader of both file formats and the published JSON Schema come from the same declarations.
//!
//! This module must not know which fields and types there are.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::forms::{Form, Seen};
use super::mismatch::{Mismatch, Refusal};
use crate::value::Value;

/// A type that a field's value is read as.
pub(crate) trait FieldType: Sized {
    /// The form that its values are written in.
    type Form: Form;
    const FORM: Self::Form;

    /// Its name among the definitions of the schema; none for a type that is written out wherever it stands.
    const DEFINITION: Option<&'static str> = None;

    /// What is meant by a value of the right form, unless something is wrong with it that the form does not know.
    fn of(read: <Self::Form as Form>::Read) -> Result<Self, Refusal>;

    /// How it would be written in a JSON file; null if that is never asked, because no field has a default of this type.
    fn written(&self) -> Json {
        Json::Null
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Self::FORM.schema(generator)
    }

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let form = Self::FORM;
        let read = form.read(Seen::Value(value)).and_then(Self::of);
        read.map_err(|refusal| refusal.told(value, |got| format!("must be {}, not {got}", form.words())))
    }
}

/// The schema of a type, for the generator of schemas.
struct Published<T>(PhantomData<T>);

impl<T: FieldType> JsonSchema for Published<T> {
    fn schema_name() -> Cow<'static, str> {
        T::DEFINITION.unwrap_or_default().into()
    }
    fn inline_schema() -> bool {
        T::DEFINITION.is_none()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// The place of a field's value: one that is always there, or one that is empty unless the field is given.
pub(crate) trait Slot: Sized {
    fn read(value: &Value) -> Result<Self, Mismatch>;

    fn schema(generator: &mut SchemaGenerator, required: bool) -> Schema;

    /// What is published as the field's default, if this is what it holds by default.
    fn default(&self) -> Option<Json>;
}

impl<T: FieldType> Slot for T {
    fn read(value: &Value) -> Result<Self, Mismatch> {
        T::from_value(value)
    }

    fn schema(generator: &mut SchemaGenerator, _: bool) -> Schema {
        generator.subschema_for::<Published<T>>()
    }

    fn default(&self) -> Option<Json> {
        Some(self.written())
    }
}

impl<T: FieldType> Slot for Option<T> {
    fn read(value: &Value) -> Result<Self, Mismatch> {
        T::from_value(value).map(Some)
    }

    fn schema(generator: &mut SchemaGenerator, required: bool) -> Schema {
        match required {
            true => generator.subschema_for::<Published<T>>(),
            false => generator.subschema_for::<Option<Published<T>>>(),
        }
    }

    fn default(&self) -> Option<Json> {
        None
    }
}

/// One field in a schema.
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) schema: Schema,
    pub(crate) default: Option<Json>,
}

/// The schema of an object with these fields and no others.
pub(crate) fn object(doc: &str, required: &[&str], properties: impl IntoIterator<Item = Property>) -> Schema {
    let property = |property: Property| {
        let mut schema = property.schema;
        schema.insert("description".to_owned(), description(property.doc).into());
        if let Some(default) = property.default {
            schema.insert("default".to_owned(), default);
        }
        (property.name.to_owned(), schema.to_value())
    };
    let properties: serde_json::Map<String, Json> = properties.into_iter().map(property).collect();
    let mut schema = json_schema!({
        "type": "object",
        "description": description(doc),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

/// A doc comment as text: each of its lines begins with the space after the slashes.
fn description(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n")
}

/// Declares a set of fields: the struct that they are read into, with its defaults, their names as `NAMES`, in order, and the schema,
/// which has the doc comments for descriptions.
macro_rules! fields {
    (
        $(#[doc = $about:literal])*
        struct $fields:ident, published as $definition:literal, required $required:expr;

        $( $(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, )*
    ) => {
        /// The names of all fields, in the order in which those that can be given by position are.
        pub(crate) const NAMES: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        pub(crate) struct $fields {
            $( $(#[doc = $doc])* pub(crate) $name: $type, )*
        }

        impl Default for $fields {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl $fields {
            /// Sets one field. A value of none leaves the default; a name that is not of [`NAMES`] is left to the caller and changes
            /// nothing.
            pub(crate) fn set(
                &mut self,
                name: &str,
                value: &$crate::value::Value,
            ) -> Result<(), $crate::fields::mismatch::Mismatch> {
                if matches!(value, $crate::value::Value::None) {
                    return Ok(());
                }
                match name {
                    $( stringify!($name) => self.$name = $crate::fields::declaration::Slot::read(value)?, )*
                    _ => {}
                }
                Ok(())
            }
        }

        impl schemars::JsonSchema for $fields {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $definition.into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use $crate::fields::declaration::{Property, Slot, object};
                let required: &[&str] = &$required;
                let defaults = Self::default();
                let properties = [$( Property {
                    name: stringify!($name),
                    doc: concat!($($doc, "\n"),*),
                    schema: <$type as Slot>::schema(generator, required.contains(&stringify!($name))),
                    default: Slot::default(&defaults.$name),
                } ),*];
                object(concat!($($about, "\n"),*), required, properties)
            }
        }
    };
}
pub(crate) use fields;
