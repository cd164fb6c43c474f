//! The JWKS document, built once for each state.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::Algorithm;
use serde::Serialize;

use crate::fault::{Keys, Reply};
use crate::key::Signer;
use crate::timeline::KeyId;

/// A key set as it is sent, and its name for conditional requests.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    keys: Arc<[KeyId]>,
    body: Bytes,
    etag: String,
}

impl KeySet {
    /// The set of these keys (RFC 7517 section 5).
    pub(super) fn of<'a>(signers: impl Iterator<Item = &'a Signer>) -> Self {
        let (ids, keys): (Vec<_>, Vec<_>) =
            signers.map(|signer| (signer.id, signer.key.public_jwk())).unzip();
        Self::new(ids, &keys)
    }

    /// What these faulty keys make of that set.
    pub(super) fn bent<'a>(
        signers: impl Iterator<Item = &'a Signer>,
        faulty: &Keys,
        algorithm: Algorithm,
        seed: u64,
    ) -> Self {
        let (ids, own): (Vec<_>, Vec<_>) =
            signers.map(|signer| (signer.id, signer.key.public_jwk().clone())).unzip();
        Self::new(if faulty.has_own() { ids } else { Vec::new() }, &faulty.bend(own, algorithm, seed))
    }

    fn new(ids: Vec<KeyId>, keys: &[impl Serialize]) -> Self {
        // Maps of texts are always JSON.
        let body = serde_json::to_vec(&BTreeMap::from([("keys", keys)])).unwrap_or_default();
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest(&SHA256, &body).as_ref()[..16]));
        Self { keys: ids.into(), body: body.into(), etag }
    }

    /// Which of the provider's keys are in it.
    pub(super) fn keys(&self) -> Arc<[KeyId]> {
        Arc::clone(&self.keys)
    }

    /// The set with its headers, or 304 with the same headers for who has it already (RFC 9110 section 15.4.5).
    pub(super) fn reply(&self, cache_control: Option<&HeaderValue>, if_none_match: Option<&str>) -> Reply {
        let mut reply = if if_none_match.is_some_and(|known| names(known, &self.etag)) {
            Reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            Reply::new(StatusCode::OK, "application/jwk-set+json", self.body.clone())
        };
        // A quoted base64url text is always a header value.
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            reply.headers.insert(header::ETAG, etag);
        }
        if let Some(directive) = cache_control {
            reply.headers.insert(header::CACHE_CONTROL, directive.clone());
        }
        reply
    }
}

/// Whether a list of entity tags names this one, by weak comparison (RFC 9110 section 13.1.2).
fn names(list: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == etag;
    list.trim() == "*" || list.split(',').any(|tag| opaque(tag.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_compared_weakly_and_in_lists() {
        for list in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "\"x\",W/\"abc\"", "*", " * "] {
            assert!(names(list, "\"abc\""), "{list}");
        }
        for list in ["", "abc", "\"ab\"", "\"abcd\"", "\"*\"", "W/W/\"abc\""] {
            assert!(!names(list, "\"abc\""), "{list}");
        }
    }
}
