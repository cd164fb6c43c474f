//! What every client may read: metadata and key set.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::Provider;
use super::wire::{Unanswered, Wire};
use crate::idp::{JwksAnswer, JwksRequest};

pub(super) async fn metadata(
    State(provider): State<Arc<Provider>>,
    wire: Wire,
) -> Result<Response, Unanswered> {
    let instance = wire.owner(&provider).await;
    let answer = provider.with(|idp, now| idp.discovery(now, instance));
    wire.carry_out(&provider, answer).await
}

pub(super) async fn instance_metadata(
    State(provider): State<Arc<Provider>>,
    Path(instance): Path<u32>,
    wire: Wire,
) -> Result<Response, Unanswered> {
    let answer = provider.with(|idp, now| idp.discovery(now, Some(instance)));
    wire.carry_out(&provider, answer).await
}

pub(super) async fn key_set(
    State(provider): State<Arc<Provider>>,
    wire: Wire,
    headers: HeaderMap,
) -> Result<Response, Unanswered> {
    let instance = wire.owner(&provider).await;
    answer(&provider, &wire, instance, &headers).await
}

pub(super) async fn instance_key_set(
    State(provider): State<Arc<Provider>>,
    Path(instance): Path<u32>,
    wire: Wire,
    headers: HeaderMap,
) -> Result<Response, Unanswered> {
    answer(&provider, &wire, Some(instance), &headers).await
}

async fn answer(
    provider: &Provider,
    wire: &Wire,
    instance: Option<u32>,
    headers: &HeaderMap,
) -> Result<Response, Unanswered> {
    let if_none_match = known_tags(headers);
    let request = JwksRequest { instance, if_none_match: if_none_match.as_deref() };
    let JwksAnswer { answer, ticket } = provider.with(|idp, now| idp.jwks(now, request));
    let response = wire.carry_out(provider, answer).await?;
    provider.with(|idp, now| idp.jwks_answered(ticket, now));
    Ok(response)
}

/// All `If-None-Match` lines as one list (RFC 9110 section 5.3).
fn known_tags(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { None } else { Some(lines.join(",")) }
}
