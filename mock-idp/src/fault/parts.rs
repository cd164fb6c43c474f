//! What can be wrong with an answer: the vocabulary of faults.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use keyquake_core::Span;
use serde::{Deserialize, Serialize};

use super::{Body, Endpoint, FaultError, HeaderChanges, HeaderText, Keys, Reply};

/// The parts of a fault, independent of each other and absent unless named.
///
/// At most one of `hang`, `reset`, `redirect` and `drop` says how the request ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parts {
    /// Answers with this status. Alone it has no body; with `body`, `keys` or `stale` it keeps the body, but not the
    /// headers that make it cacheable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Sends `Retry-After` (RFC 9110 section 10.2.3), in whole seconds, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
    /// Adds headers, replaces them, or takes them away where the value is the empty text.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub headers: HeaderChanges,
    /// Sends another body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Serves other keys; of the JWKS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
    /// Serves the set as it was this long ago; of the JWKS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Span>,
    /// Waits this long, in scenario time, before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Never answers, and holds the connection until the fault is over or the client goes away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hang: bool,
    /// Resets the connection without an answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// Leads elsewhere: the value of `Location`, with status 302 unless another is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<HeaderText>,
    /// Sends the first half of the body and closes the connection.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop: bool,
}

/// Parts that leave nothing to do for others.
const CONTRADICTIONS: [(&str, &[&str]); 3] = [
    (
        "hang",
        &["status", "retry_after", "headers", "body", "keys", "stale", "delay", "reset", "redirect", "drop"],
    ),
    ("reset", &["status", "retry_after", "headers", "body", "keys", "stale", "redirect", "drop"]),
    ("redirect", &["body", "keys", "stale", "drop"]),
];

impl Parts {
    /// The names of the parts that are filled in.
    pub fn named(&self) -> impl Iterator<Item = &'static str> {
        let parts = [
            ("status", self.status.is_some()),
            ("retry_after", self.retry_after.is_some()),
            ("headers", !self.headers.is_empty()),
            ("body", self.body.is_some()),
            ("keys", self.keys.is_some()),
            ("stale", self.stale.is_some()),
            ("delay", self.delay.is_some()),
            ("hang", self.hang),
            ("reset", self.reset),
            ("redirect", self.redirect.is_some()),
            ("drop", self.drop),
        ];
        parts.into_iter().filter(|(_, named)| *named).map(|(name, _)| name)
    }

    fn names(&self, part: &str) -> bool {
        self.named().any(|name| name == part)
    }

    pub(super) fn check(&self, endpoint: Endpoint) -> Result<(), FaultError> {
        if self.named().next().is_none() {
            return Err(FaultError::Nothing);
        }
        if self.retry_after.is_some_and(Span::is_infinite) {
            return Err(FaultError::RetryAfter);
        }
        for (part, length) in [("delay", self.delay), ("stale", self.stale)] {
            let measurable = |length: Span| length > Span::ZERO && !length.is_infinite();
            if !length.is_none_or(measurable) {
                return Err(FaultError::Length(part));
            }
        }
        if endpoint != Endpoint::Jwks {
            self.check_without_keys()?;
        }
        for (part, others) in CONTRADICTIONS {
            let other = others.iter().find(|other| self.names(part) && self.names(other));
            if let Some(other) = other {
                return Err(FaultError::Contradiction(part, other));
            }
        }
        self.check_status()?;
        self.check_body()?;
        self.check_headers()
    }

    fn check_without_keys(&self) -> Result<(), FaultError> {
        if self.keys.is_some() {
            return Err(FaultError::JwksOnly("keys"));
        }
        if self.stale.is_some() {
            return Err(FaultError::JwksOnly("stale"));
        }
        if self.body.is_some_and(Body::is_of_key_sets) { Err(FaultError::JwksOnly("body")) } else { Ok(()) }
    }

    fn check_status(&self) -> Result<(), FaultError> {
        let Some(status) = self.status else { return Ok(()) };
        if !(200..=599).contains(&status) {
            return Err(FaultError::Status(status));
        }
        if self.redirect.is_some() && !(300..=399).contains(&status) {
            return Err(FaultError::NoRedirect(status));
        }
        let of_the_body = ["body", "keys", "stale", "drop"].into_iter().find(|part| self.names(part));
        match of_the_body {
            Some(part) if [204, 304].contains(&status) => Err(FaultError::Bodiless(status, part)),
            _ if self.drop && !self.has_body() => Err(FaultError::NothingToCut),
            _ => Ok(()),
        }
    }

    fn check_body(&self) -> Result<(), FaultError> {
        let Some(body) = self.body else { return Ok(()) };
        let idle = ["keys", "stale"].into_iter().find(|part| body.replaces() && self.names(part));
        if let Some(part) = idle {
            return Err(FaultError::Contradiction("body", part));
        }
        if body == Body::Empty && self.drop { Err(FaultError::Contradiction("body", "drop")) } else { Ok(()) }
    }

    /// A header is changed by its own part or by `headers`, not by both.
    fn check_headers(&self) -> Result<(), FaultError> {
        let parts = [("retry_after", header::RETRY_AFTER), ("redirect", header::LOCATION)];
        let twice = parts.into_iter().find(|(part, name)| self.names(part) && self.headers.names(name));
        twice.map_or(Ok(()), |(part, _)| Err(FaultError::Contradiction(part, "headers")))
    }

    /// What remains of these parts under those of a later fault.
    pub(super) fn lay_over(&mut self, later: &Self) {
        let ends = later.hang || later.reset || later.drop || later.redirect.is_some();
        if ends {
            (self.hang, self.reset, self.drop) = (later.hang, later.reset, later.drop);
            self.redirect.clone_from(&later.redirect);
        }
        self.status = later.status.or(self.status);
        self.retry_after = later.retry_after.or(self.retry_after);
        self.headers.lay_over(&later.headers);
        self.body = later.body.or(self.body);
        self.keys = later.keys.clone().or_else(|| self.keys.take());
        self.stale = later.stale.or(self.stale);
        self.delay = later.delay.or(self.delay);
    }

    /// Whether a body is sent: a status or a redirect has none unless another part asks for it.
    fn has_body(&self) -> bool {
        let asked_for = self.body.is_some() || self.keys.is_some() || self.stale.is_some();
        asked_for || (self.status.is_none() && self.redirect.is_none())
    }

    /// Whether the whole document of a key set is sent, and can be read as one.
    pub(crate) fn delivers_set(&self) -> bool {
        !self.drop && self.has_body() && self.body.is_none_or(|body| body == Body::Bom)
    }

    /// Whether the endpoint's own document comes through, sooner or later.
    pub fn spares_document(&self) -> bool {
        let ends_otherwise = self.hang || self.reset || self.drop || self.redirect.is_some();
        !ends_otherwise && self.status.is_none() && self.body.is_none()
    }

    /// Whether a client that has the document already can be told so.
    pub(crate) fn is_conditional(&self) -> bool {
        self.status.is_none() && self.body.is_none() && !self.drop
    }

    pub(super) fn bend(&self, mut reply: Reply) -> Reply {
        if !self.has_body() {
            reply = Reply::empty(reply.status);
        }
        if self.status.is_some() {
            reply.headers.remove(header::CACHE_CONTROL);
            reply.headers.remove(header::ETAG);
        }
        if let Some(location) = &self.redirect {
            reply.status = StatusCode::FOUND;
            reply.headers.insert(header::LOCATION, location.value().clone());
        }
        if let Some(status) = self.status.and_then(|code| StatusCode::from_u16(code).ok()) {
            reply.status = status;
        }
        if let Some(body) = self.body {
            reply = body.bend(reply);
        }
        if let Some(span) = self.retry_after {
            let seconds = span.as_nanos().div_ceil(1_000_000_000);
            reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        self.headers.apply(&mut reply.headers);
        reply
    }
}
