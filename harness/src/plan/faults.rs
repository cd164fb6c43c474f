//! The faults of a scenario: from tables as written to windows in which one endpoint breaks.

use keyquake_core::{Span, Time};
use keyquake_idp::{Body, Endpoint, Extra, Fault, FaultWindow, Keys, Parts, Replicas, Scope};

use crate::scenario::{self, Document, Scenario};

/// All windows of a scenario's faults, in the order in which they were written.
///
/// # Errors
///
/// The first table that cannot be, with its place, as a finished text.
pub(super) fn windows(source: &Document<'_>, scenario: &Scenario) -> Result<Vec<FaultWindow>, String> {
    let mut windows = Vec::new();
    for (i, written) in scenario.fault.iter().enumerate() {
        windows.extend(Table { source, scenario, i, written }.windows()?);
    }
    Ok(windows)
}

/// One `[[fault]]`.
struct Table<'s> {
    source: &'s Document<'s>,
    scenario: &'s Scenario,
    i: usize,
    written: &'s scenario::Fault,
}

impl Table<'_> {
    fn windows(&self) -> Result<Vec<FaultWindow>, String> {
        let scenario::Fault { from, lasting, jwks, discovery, token, .. } = self.written;
        self.require(*from < self.scenario.duration, "from", "the fault comes after the end of the run")?;
        self.require(*lasting > Span::ZERO, "for", "the fault lasts no time")?;
        self.check_replicas()?;
        let from = Time::ZERO + *from;
        let mut windows = Vec::new();
        for (field, endpoint, parts) in [
            ("jwks", Endpoint::Jwks, jwks),
            ("discovery", Endpoint::Discovery, discovery),
            ("token", Endpoint::Token, token),
        ] {
            let Some(parts) = parts else { continue };
            let fault = self.fault(field, endpoint, parts)?;
            windows.push(FaultWindow { fault, from, until: from + *lasting });
        }
        let message = "the fault names no endpoint: `jwks`, `discovery` or `token`";
        self.require(!windows.is_empty(), "", message)?;
        Ok(windows)
    }

    fn fault(&self, field: &str, endpoint: Endpoint, parts: &Parts) -> Result<Fault, String> {
        let scope = Scope { probability: self.written.probability, replicas: self.instances() };
        let fault = Fault { endpoint, parts: parts.clone(), scope };
        fault.check().map_err(|error| {
            let path = match error.part() {
                Some(part @ ("probability" | "replicas")) => part.to_owned(),
                Some(part) => format!("{field}.{part}"),
                None => field.to_owned(),
            };
            self.complain(&path, &error.to_string())
        })?;
        Ok(fault)
    }

    /// Whom it hits, by what the IdP tells apart: the workers of a replica ask it one by one.
    fn instances(&self) -> Option<Replicas> {
        let workers = self.scenario.fleet.workers;
        match self.written.replicas.clone()? {
            Replicas::Listed(listed) => Some(Replicas::Listed(
                listed.iter().flat_map(|replica| replica * workers..(replica + 1) * workers).collect(),
            )),
            share => Some(share),
        }
    }

    /// Replicas that are listed are there.
    fn check_replicas(&self) -> Result<(), String> {
        let Some(Replicas::Listed(listed)) = &self.written.replicas else { return Ok(()) };
        let fleet = self.scenario.fleet.replicas;
        let stranger = listed.iter().find(|number| **number >= fleet);
        stranger.map_or(Ok(()), |number| {
            let message =
                format!("there is no replica {number}: the fleet has {fleet}, and they count from 0");
            Err(self.complain("replicas", &message))
        })
    }

    fn require(&self, holds: bool, field: &str, message: &str) -> Result<(), String> {
        if holds { Ok(()) } else { Err(self.complain(field, message)) }
    }

    fn complain(&self, field: &str, message: &str) -> String {
        let path = format!("fault[{}].{field}", self.i);
        self.source.complain(path.trim_end_matches('.'), message, None)
    }
}

/// A fault in a few words.
pub(crate) fn fault_title(fault: &Fault) -> String {
    let endpoint = match fault.endpoint {
        Endpoint::Discovery => "discovery",
        Endpoint::Jwks => "JWKS",
        Endpoint::Token => "token endpoint",
    };
    let Scope { probability, replicas } = &fault.scope;
    let scope: Vec<String> = probability
        .iter()
        .map(|share| format!("{share} of requests"))
        .chain(replicas.iter().map(ToString::to_string))
        .collect();
    let what = effects(&fault.parts).join(", ");
    if scope.is_empty() {
        format!("{endpoint} {what}")
    } else {
        format!("{endpoint} {what} ({})", scope.join(", "))
    }
}

/// What each part does, the gravest first.
fn effects(parts: &Parts) -> Vec<String> {
    let flag = |set: bool, effect: &str| set.then(|| effect.to_owned());
    [
        flag(parts.hang, "hangs"),
        flag(parts.reset, "resets connections"),
        flag(parts.drop, "drops mid-body"),
        flag(parts.redirect.is_some(), "redirects"),
        parts.status.map(|status| format!("answers {status}")),
        parts.body.map(|body| body_effect(body).to_owned()),
        parts.keys.as_ref().map(keys_effect),
        parts.stale.map(|span| format!("stale by {span}")),
        parts.delay.map(|span| format!("delayed by {span}")),
        flag(parts.retry_after.is_some(), "asks to retry later"),
        flag(parts.named().any(|part| part == "headers"), "changed headers"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const fn body_effect(body: Body) -> &'static str {
    match body {
        Body::Html => "HTML page",
        Body::Empty => "empty body",
        Body::EmptySet => "empty set",
        Body::NoKeys => "without `keys`",
        Body::Truncated => "truncated",
        Body::KeysObject => "keys as an object",
        Body::Bom => "with a byte order mark",
    }
}

fn keys_effect(keys: &Keys) -> String {
    match keys {
        Keys::WrongSet => "wrong key set".to_owned(),
        Keys::Swapped => "swapped keys".to_owned(),
        Keys::With(extras) => {
            let names: Vec<_> = extras.iter().map(|extra| Extra::name(*extra)).collect();
            format!("with extra keys {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;

    #[test]
    fn a_title_says_what_breaks_and_for_whom() {
        for (table, title) in [
            ("jwks = { status = 503 }", "JWKS answers 503"),
            ("jwks = { hang = true }", "JWKS hangs"),
            ("jwks = { body = \"empty_set\" }", "JWKS empty set"),
            ("jwks = { keys = \"wrong_set\" }", "JWKS wrong key set"),
            ("jwks = { keys = [\"akp\", \"null\"] }", "JWKS with extra keys akp, null"),
            ("token = { reset = true, delay = \"2s\" }", "token endpoint resets connections, delayed by 2s"),
            (
                "discovery = { status = 503, headers = { age = \"1\" } }\nreplicas = [0]",
                "discovery answers 503, changed headers (replica 0)",
            ),
            (
                "jwks = { drop = true }\nprobability = \"12.5%\"\nreplicas = \"20%\"",
                "JWKS drops mid-body (12.5% of requests, 20% of the replicas)",
            ),
        ] {
            let plan = plan(&format!("[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\n{table}"));
            assert_eq!(plan.disturbances[0].title, title);
        }
    }

    #[test]
    fn one_table_breaks_several_endpoints_for_the_same_time() {
        let lines =
            "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = { status = 503 }\ntoken = { status = 500 }";
        let plan = plan(lines);
        let spans: Vec<_> = plan.disturbances.iter().map(|it| (it.from, it.until)).collect();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0], spans[1]);
        assert_eq!(plan.timeline.faults_at(Time::from_nanos(15_000_000_000)).count(), 2);
    }
}
