//! What every client may read: metadata and key set.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};

use super::Provider;
use crate::fault::Reply;
use crate::idp::JwksRequest;

pub(super) async fn metadata(State(provider): State<Arc<Provider>>) -> Reply {
    provider.with(|idp, now| idp.discovery(now, None))
}

pub(super) async fn instance_metadata(
    State(provider): State<Arc<Provider>>,
    Path(instance): Path<u32>,
) -> Reply {
    provider.with(|idp, now| idp.discovery(now, Some(instance)))
}

pub(super) async fn key_set(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Reply {
    answer(&provider, None, &headers)
}

pub(super) async fn instance_key_set(
    State(provider): State<Arc<Provider>>,
    Path(instance): Path<u32>,
    headers: HeaderMap,
) -> Reply {
    answer(&provider, Some(instance), &headers)
}

fn answer(provider: &Provider, instance: Option<u32>, headers: &HeaderMap) -> Reply {
    let if_none_match = known_tags(headers);
    let request = JwksRequest { instance, if_none_match: if_none_match.as_deref() };
    let answer = provider.with(|idp, now| idp.jwks(now, request));
    provider.with(|idp, now| idp.jwks_answered(answer.ticket, now));
    answer.reply
}

/// All `If-None-Match` lines as one list (RFC 9110 section 5.3).
fn known_tags(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { None } else { Some(lines.join(",")) }
}
