//! The provider's counters in the text format of Prometheus, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::Provider;
use crate::fault::Reply;
use crate::idp::{Idp, Standing};

pub(super) async fn text(State(provider): State<Arc<Provider>>) -> Reply {
    let page = provider.with(|idp, now| {
        let standing = idp.standing(now).clone();
        page(idp, &standing)
    });
    Reply::new(StatusCode::OK, "text/plain; version=0.0.4", page)
}

fn page(idp: &Idp, standing: &Standing) -> String {
    let jwks = idp.jwks_log().by_status().iter();
    let jwks = jwks.map(|(status, count)| (format!("status=\"{}\"", named(*status)), *count));
    let tokens = idp
        .token_counts()
        .iter()
        .map(|(grant, status, count)| (format!("grant=\"{grant}\",status=\"{}\"", named(status)), count));
    let mut page = String::new();
    family(&mut page, "jwks_requests_total", "counter", "Requests for the key set.", jwks);
    family(&mut page, "token_requests_total", "counter", "Requests for tokens.", tokens);
    family(&mut page, "keys", "gauge", "Keys by phase.", keys_by_phase(standing));
    family(&mut page, "events_applied_total", "counter", "Events since the start.", events_by_name(idp));
    page
}

/// The status of an answer, and what stands for it where there is none.
pub(super) fn named(status: Option<u16>) -> String {
    status.map_or_else(|| "none".into(), |status| status.to_string())
}

fn keys_by_phase(standing: &Standing) -> impl Iterator<Item = (String, u64)> {
    let states = standing.keys().values();
    let count = |phase: &str, number: usize| (format!("phase=\"{phase}\""), number as u64);
    [
        count("published", states.clone().filter(|state| state.published).count()),
        count("active", states.clone().filter(|state| state.active).count()),
        count("retired", states.clone().filter(|state| state.retired).count()),
        count("removed", states.clone().filter(|state| state.removed).count()),
        count("revoked", states.filter(|state| state.revoked).count()),
    ]
    .into_iter()
}

fn events_by_name(idp: &Idp) -> impl Iterator<Item = (String, u64)> {
    let mut counts = BTreeMap::<_, u64>::new();
    for done in idp.event_log() {
        *counts.entry(done.event.name()).or_default() += 1;
    }
    counts.into_iter().map(|(name, count)| (format!("event=\"{name}\""), count))
}

fn family(
    page: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl Iterator<Item = (String, u64)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP keyquake_idp_{name} {help}\n# TYPE keyquake_idp_{name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(page, "keyquake_idp_{name}{{{labels}}} {value}");
    }
}
