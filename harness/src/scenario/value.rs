//! A value of a scenario, as serde reads it. Unlike toml's own reader it takes a table only where one belongs: derived
//! structs also fill themselves from arrays, in the order of their fields, and dates pass for tables there.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::value::{CowStrDeserializer, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::source::Complaint;

const TABLE_HINT: &str =
    "a table is written `[name]`, its fields in the lines below, or `name = { field = value }`";
const LIST_HINT: &str =
    "a list is written `name = [0, 1]`, and one of tables `[[name]]` before the fields of each";

/// A value and where it stands.
pub(super) struct Value<'i>(Spanned<DeValue<'i>>);

impl<'i> From<Spanned<DeTable<'i>>> for Value<'i> {
    fn from(table: Spanned<DeTable<'i>>) -> Self {
        let span = table.span();
        Self(Spanned::new(span, DeValue::Table(table.into_inner())))
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Complaint;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let span = self.0.span();
        let read = match self.0.into_inner() {
            DeValue::Table(table) => visitor.visit_map(MapDeserializer::new(entries(table))),
            DeValue::Array(array) => visitor.visit_seq(SeqDeserializer::new(array.into_iter().map(Self))),
            DeValue::Datetime(_) => Err(Complaint::invalid_type(Unexpected::Other("date"), &visitor)),
            scalar => {
                let scalar = ValueDeserializer::from(Spanned::new(span.clone(), scalar));
                scalar.deserialize_any(visitor).map_err(Complaint::from)
            }
        };
        read.map_err(|complaint| complaint.within(span))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        if self.0.get_ref().is_table() {
            self.deserialize_any(visitor)
        } else {
            Err(self.is_not("a table", TABLE_HINT))
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        if self.0.get_ref().is_array() {
            self.deserialize_any(visitor)
        } else {
            Err(self.is_not("a list", LIST_HINT))
        }
    }

    /// A choice is a word, or a table of one field whose name is the word.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        let span = self.0.span();
        let read = match self.0.into_inner() {
            DeValue::String(word) => visitor.visit_enum(CowStrDeserializer::new(word)),
            DeValue::Table(table) if table.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(entries(table))))
            }
            other => {
                let words: Vec<String> = variants.iter().map(|word| format!("`{word}`")).collect();
                let hint = format!("the choices are {}", words.join(", "));
                return Err(Self(Spanned::new(span, other)).is_not("one choice", &hint));
            }
        };
        read.map_err(|complaint| complaint.within(span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

impl Value<'_> {
    fn is_not(&self, expected: &str, hint: &str) -> Complaint {
        let found = match self.0.get_ref() {
            DeValue::Table(table) if table.is_empty() => "an empty table".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Integer(_) => "an integer".to_owned(),
            scalar => format!("a {}", scalar.type_str()),
        };
        Complaint {
            message: format!("expected {expected}, found {found}"),
            span: Some(self.0.span()),
            hint: Some(hint.to_owned()),
        }
    }
}

impl<'de> IntoDeserializer<'de, Complaint> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The name of a field and where it stands.
struct Name<'i> {
    text: Cow<'i, str>,
    span: Range<usize>,
}

impl<'de> IntoDeserializer<'de, Complaint> for Name<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = Complaint;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let text: CowStrDeserializer<'_, Complaint> = self.text.into_deserializer();
        text.deserialize_any(visitor).map_err(|complaint| complaint.within(self.span))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

fn entries<'i>(table: DeTable<'i>) -> impl Iterator<Item = (Name<'i>, Value<'i>)> {
    table.into_iter().map(|(name, value)| (Name { span: name.span(), text: name.into_inner() }, Value(value)))
}
