//! What a fault makes of a body.

use axum::body::Bytes;
use axum::http::header;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Reply;

/// A page as a proxy, a captive portal or a login wall sends it.
const PAGE: &str =
    "<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n";

/// What comes instead of a body, or becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A page for people, of type `text/html` and without the headers of what it stands for.
    Html,
    /// Nothing.
    Empty,
    /// A key set without keys, `{"keys":[]}`.
    EmptySet,
    /// An object without the member `keys`, `{}`.
    NoKeys,
    /// The first half of the document, sent as if it were whole.
    Truncated,
    /// The keys as an object by their names, where an array belongs (RFC 7517 section 5.1).
    KeysObject,
    /// The document after a byte order mark, which JSON texts must not begin with (RFC 8259 section 8.1).
    Bom,
}

impl Body {
    /// The name in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Empty => "empty",
            Self::EmptySet => "empty_set",
            Self::NoKeys => "no_keys",
            Self::Truncated => "truncated",
            Self::KeysObject => "keys_object",
            Self::Bom => "bom",
        }
    }

    /// Whether it is about key sets.
    pub(super) const fn is_of_key_sets(self) -> bool {
        matches!(self, Self::EmptySet | Self::NoKeys | Self::KeysObject)
    }

    /// Whether nothing of the original body is left.
    pub(super) const fn replaces(self) -> bool {
        matches!(self, Self::Html | Self::Empty | Self::EmptySet | Self::NoKeys)
    }

    pub(super) fn bend(self, mut reply: Reply) -> Reply {
        // It names another document.
        reply.headers.remove(header::ETAG);
        reply.body = match self {
            Self::Html => return Reply::new(reply.status, "text/html; charset=utf-8", PAGE),
            Self::Empty => Bytes::new(),
            Self::EmptySet => Bytes::from_static(br#"{"keys":[]}"#),
            Self::NoKeys => Bytes::from_static(b"{}"),
            Self::Truncated => reply.body.slice(..reply.body.len() / 2),
            Self::KeysObject => keys_by_name(&reply.body).into(),
            Self::Bom => [b"\xEF\xBB\xBF", &reply.body[..]].concat().into(),
        };
        reply
    }
}

fn keys_by_name(document: &[u8]) -> String {
    let mut set: Value = serde_json::from_slice(document).unwrap_or_default();
    let keys = set.get_mut("keys").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    let by_name: Map<String, Value> =
        keys.into_iter().filter_map(|key| Some((key.get("kid")?.as_str()?.to_owned(), key))).collect();
    json!({ "keys": by_name }).to_string()
}
