//! Headers that a fault adds, replaces or takes away.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde::{Serialize, Serializer};

/// The most headers that one fault changes.
const MAX_CHANGES: usize = 64;

/// Those that frame a message or manage its connection: what they say must be true.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers by name, each with the value that it is given; the empty text takes the header away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges(Vec<(HeaderName, HeaderText)>);

/// The value of a header, in ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText(HeaderValue);

impl HeaderChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(changed, _)| changed == name)
    }

    pub(super) fn lay_over(&mut self, later: &Self) {
        self.0.retain(|(name, _)| !later.names(name));
        self.0.extend(later.0.iter().cloned());
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for (name, HeaderText(value)) in &self.0 {
            if value.is_empty() {
                headers.remove(name);
            } else {
                headers.insert(name, value.clone());
            }
        }
    }
}

impl HeaderText {
    pub(super) fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// The value as a text.
    pub fn as_str(&self) -> &str {
        // Nothing else can be made.
        self.0.to_str().unwrap_or_default()
    }
}

impl FromStr for HeaderText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = HeaderValue::from_str(text).ok().filter(|value| value.to_str().is_ok());
        value.map(Self).ok_or("not the value of a header: it is one line of ASCII")
    }
}

impl Serialize for HeaderText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for HeaderText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = HeaderText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of a header")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderText, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl Serialize for HeaderChanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name.as_str(), value)))
    }
}

impl<'de> Deserialize<'de> for HeaderChanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> de::Visitor<'de> for Table {
            type Value = HeaderChanges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of headers like { age = \"300\" }; the empty text takes one away")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<HeaderChanges, A::Error> {
                let mut changes = HeaderChanges::default();
                while let Some((Name(name), value)) = table.next_entry()? {
                    if changes.0.len() >= MAX_CHANGES {
                        return Err(de::Error::custom(format!("more than {MAX_CHANGES} headers")));
                    }
                    changes.lay_over(&HeaderChanges(vec![(name, value)]));
                }
                Ok(changes)
            }
        }

        deserializer.deserialize_map(Table)
    }
}

/// A name of a header that a fault may change.
struct Name(HeaderName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a header")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
                match HeaderName::from_str(text) {
                    Ok(name) if OF_THE_CONNECTION.contains(&name) => {
                        Err(E::custom(format!("header `{name}` belongs to the connection")))
                    }
                    Ok(name) => Ok(Name(name)),
                    Err(_) => Err(E::custom(format!("`{text}` is not the name of a header"))),
                }
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(table: Value) -> Result<HeaderChanges, String> {
        serde_json::from_value(table).map_err(|error| error.to_string())
    }

    #[test]
    fn headers_are_added_replaced_and_taken_away() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
        headers.insert(header::ETAG, HeaderValue::from_static("\"x\""));
        read(json!({ "Cache-Control": "no-store", "etag": "", "age": "7" })).unwrap().apply(&mut headers);
        let left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("cache-control", "no-store"), ("age", "7")]);
    }

    #[test]
    fn what_is_no_header_or_not_ours_to_change_is_refused() {
        let many: serde_json::Map<_, _> = (0..65).map(|i| (format!("x-{i}"), json!("y"))).collect();
        for (table, error) in [
            (json!({ "no name": "x" }), "`no name` is not the name of a header"),
            (json!({ "age": "1\r\nx: y" }), "not the value of a header"),
            (json!({ "age": "ä" }), "not the value of a header"),
            (json!({ "age": 7 }), "expected the value of a header"),
            (json!({ "Content-Length": "7" }), "header `content-length` belongs to the connection"),
            (json!({ "transfer-encoding": "" }), "belongs to the connection"),
            (Value::Object(many), "more than 64 headers"),
            (json!(["age"]), "expected a table of headers"),
        ] {
            let found = read(table).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
    }

    #[test]
    fn the_later_change_of_a_header_holds() {
        let mut changes = read(json!({ "age": "1", "x": "y" })).unwrap();
        changes.lay_over(&read(json!({ "Age": "2" })).unwrap());
        assert_eq!(serde_json::to_value(&changes).unwrap(), json!({ "x": "y", "age": "2" }));
    }
}
