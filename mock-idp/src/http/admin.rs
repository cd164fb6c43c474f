//! What a person at the controls can see and do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use keyquake_core::{Span, Time};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::metrics::named;
use super::{Provider, error_reply, json_reply};
use crate::clock::Clock;
use crate::fault::{Endpoint, Fault, FaultId, Parts, Replicas, Reply, Scope};
use crate::idp::Idp;
use crate::key::SigningKey;
use crate::rotation::{Rotation, Style};
use crate::share::Share;
use crate::timeline::{Event, KeyState};

/// How much longer than a token's lifetime a key stays if nothing else is asked for: the usual clock skew.
const SKEW: Span = Span::from_secs(300);

/// A rotation that begins now.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    style: Style,
    lead: Option<Span>,
    /// By default as long as tokens of the old key may live.
    retention: Option<Span>,
    replace: Option<bool>,
}

impl RotateBody {
    fn rotation(&self, token_lifetime: Span) -> Rotation {
        let usual = if self.style.has_retention() { token_lifetime.saturating_add(SKEW) } else { Span::ZERO };
        Rotation {
            lead: self.lead.unwrap_or(Span::ZERO),
            retention: self.retention.unwrap_or(usual),
            replace: self.replace.unwrap_or(true),
            // The provider sets the moment.
            ..Rotation::new(Time::NEVER, self.style)
        }
    }
}

pub(super) async fn rotate(
    State(provider): State<Arc<Provider>>,
    body: Result<Json<RotateBody>, JsonRejection>,
) -> Result<Reply, Reply> {
    let Json(body) = body.map_err(|error| error_reply(error.status(), error.body_text()))?;
    let settings = provider.with(|idp, _| idp.settings().clone());
    let rotation = body.rotation(settings.token_lifetime);
    rotation.check().map_err(|error| error_reply(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let key = if rotation.replace {
        // An RSA key takes 50 to 160 ms.
        let generated = spawn_blocking(move || SigningKey::generate(settings.algorithm)).await;
        let failed = |error: &dyn ToString| error_reply(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        Some(generated.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?)
    } else {
        None
    };
    let new = provider
        .with(|idp, now| idp.rotate(now, rotation, key))
        .map_err(|error| error_reply(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    Ok(json_reply(StatusCode::OK, &json!({ "key": new.map(|id| id.to_string()) })))
}

/// A fault that begins now, in the words of a scenario.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultBody {
    jwks: Option<Parts>,
    discovery: Option<Parts>,
    token: Option<Parts>,
    probability: Option<Share>,
    replicas: Option<Replicas>,
    /// By default until it is ended.
    r#for: Option<Span>,
}

impl FaultBody {
    /// One fault for each endpoint that is named.
    fn faults(self) -> Vec<Fault> {
        let scope = Scope { probability: self.probability, replicas: self.replicas };
        let endpoints = [
            (Endpoint::Jwks, self.jwks),
            (Endpoint::Discovery, self.discovery),
            (Endpoint::Token, self.token),
        ];
        let named = endpoints.into_iter().filter_map(|(endpoint, parts)| Some((endpoint, parts?)));
        named.map(|(endpoint, parts)| Fault { endpoint, parts, scope: scope.clone() }).collect()
    }
}

pub(super) async fn start_fault(
    State(provider): State<Arc<Provider>>,
    body: Result<Json<FaultBody>, JsonRejection>,
) -> Result<Reply, Reply> {
    let Json(body) = body.map_err(|error| error_reply(error.status(), error.body_text()))?;
    let unprocessable =
        |error: &dyn ToString| error_reply(StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    let length = body.r#for.unwrap_or(Span::INFINITE);
    let faults = body.faults();
    if faults.is_empty() {
        return Err(unprocessable(&"the fault names no endpoint: `jwks`, `discovery` or `token`"));
    }
    for fault in &faults {
        fault.check().map_err(|error| unprocessable(&error))?;
    }
    let ids = provider.with(|idp, now| {
        faults.into_iter().map(|fault| idp.start_fault(now, fault, length)).collect::<Result<Vec<_>, _>>()
    });
    let ids = ids.map_err(|error| unprocessable(&error))?;
    Ok(json_reply(StatusCode::CREATED, &json!({ "ids": ids })))
}

pub(super) async fn end_fault(State(provider): State<Arc<Provider>>, Path(id): Path<FaultId>) -> Reply {
    if provider.with(|idp, now| idp.end_fault(now, id)) {
        Reply::empty(StatusCode::NO_CONTENT)
    } else {
        error_reply(StatusCode::NOT_FOUND, format!("fault `{id}` is not in force"))
    }
}

pub(super) async fn state(State(provider): State<Arc<Provider>>) -> Reply {
    let body = provider.with(|idp, now| StateBody::of(idp, &provider.clock(), now));
    json_reply(StatusCode::OK, &body)
}

/// The provider at a glance. Times are seconds since the start of event time.
#[derive(Serialize)]
struct StateBody {
    now_s: f64,
    unix: i64,
    issuer: String,
    active: Option<String>,
    keys: Vec<KeyBody>,
    faults: Vec<FaultInForce>,
    events: Vec<EventBody>,
    upcoming: Vec<EventBody>,
    /// By status.
    jwks_requests: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct KeyBody {
    key: String,
    kid: String,
    #[serde(flatten)]
    state: KeyState,
}

#[derive(Serialize)]
struct FaultInForce {
    id: FaultId,
    #[serde(flatten)]
    parts: BTreeMap<Endpoint, Parts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<Share>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Replicas>,
}

impl FaultInForce {
    fn of(id: FaultId, fault: &Fault) -> Self {
        let Fault { endpoint, parts, scope: Scope { probability, replicas } } = fault.clone();
        Self { id, parts: BTreeMap::from([(endpoint, parts)]), probability, replicas }
    }
}

#[derive(Serialize)]
struct EventBody {
    at_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_s: Option<f64>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultId>,
}

impl StateBody {
    fn of(idp: &mut Idp, clock: &Clock, now: Time) -> Self {
        let standing = idp.standing(now).clone();
        let timeline = idp.timeline();
        let upcoming = timeline.events().iter().filter(|timed| timed.at > now);
        Self {
            now_s: now.as_secs_f64(),
            unix: clock.unix(now).0,
            issuer: idp.settings().issuer.clone(),
            active: standing.active_key().map(|key| key.to_string()),
            keys: standing
                .keys()
                .iter()
                .filter_map(|(id, state)| {
                    let kid = idp.keys().get(*id)?.key.kid().to_string();
                    Some(KeyBody { key: id.to_string(), kid, state: *state })
                })
                .collect(),
            faults: timeline.faults_at(now).map(|(id, fault)| FaultInForce::of(id, fault)).collect(),
            events: idp
                .event_log()
                .iter()
                .map(|done| EventBody::of(done.event, done.planned, Some(done.applied)))
                .collect(),
            upcoming: upcoming.map(|timed| EventBody::of(timed.event, timed.at, None)).collect(),
            jwks_requests: idp
                .jwks_log()
                .by_status()
                .iter()
                .map(|(status, count)| (named(*status), *count))
                .collect(),
        }
    }
}

impl EventBody {
    fn of(event: Event, planned: Time, applied: Option<Time>) -> Self {
        Self {
            at_s: planned.as_secs_f64(),
            applied_s: applied.map(Time::as_secs_f64),
            event: event.name(),
            key: event.key().map(|key| key.to_string()),
            fault: event.fault(),
        }
    }
}
