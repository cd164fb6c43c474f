//! Faults of an endpoint, as values: what a request is answered with while they are in force.
//!
//! The provider computes a [`Reply`]; [`bend`] bends it, purely; the HTTP face carries it out.

use std::fmt;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use keyquake_core::{Span, Time};
use serde::{Deserialize, Serialize};

/// Something that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// The provider's metadata (OpenID Connect Discovery 1.0 section 4).
    Discovery,
    /// The key set (RFC 7517 section 5).
    Jwks,
    /// Where tokens are issued (RFC 6749 section 3.2).
    Token,
}

/// What goes wrong at an endpoint: a table of independent parts, each of them absent unless named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub endpoint: Endpoint,
    /// Answers with this status and no body, whatever was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Sends `Retry-After` (RFC 9110 section 10.2.3), in whole seconds, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}

/// Why a fault means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No part of the table is filled in.
    #[error("the fault changes nothing: name a `status` or a `retry_after`")]
    Nothing,
    /// Not a status that ends a response.
    #[error("status `{0}` is not between 200 and 599")]
    Status(u16),
    /// `Retry-After` has no word for it.
    #[error("`retry_after` cannot be `inf`")]
    RetryAfter,
    /// It would end before it begins, or as it begins.
    #[error("the fault ends before it begins")]
    Empty,
}

impl Fault {
    /// An endpoint that answers with nothing but a status.
    pub const fn status(endpoint: Endpoint, status: u16) -> Self {
        Self { endpoint, status: Some(status), retry_after: None }
    }

    /// Checks that the parts mean something.
    ///
    /// # Errors
    ///
    /// [`FaultError`] says what is wrong.
    pub fn check(&self) -> Result<(), FaultError> {
        match self.status {
            Some(status) if !(200..=599).contains(&status) => return Err(FaultError::Status(status)),
            None if self.retry_after.is_none() => return Err(FaultError::Nothing),
            _ => {}
        }
        if self.retry_after.is_some_and(Span::is_infinite) { Err(FaultError::RetryAfter) } else { Ok(()) }
    }
}

/// A fault's place in the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(u16);

impl FaultId {
    pub(crate) fn at(index: usize) -> Self {
        // The timeline holds no more faults than fit.
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A fault and the time for which it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultWindow {
    /// What goes wrong.
    pub fault: Fault,
    /// Its first moment.
    pub from: Time,
    /// The first moment without it; [`Time::NEVER`] if it stays.
    pub until: Time,
}

impl FaultWindow {
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        self.fault.check()?;
        if self.from < self.until { Ok(()) } else { Err(FaultError::Empty) }
    }
}

/// An answer of the provider, before anyone has sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The headers, without those that belong to the connection.
    pub headers: HeaderMap,
    /// The body, shared with the provider's state.
    pub body: Bytes,
}

impl Reply {
    /// A reply of this media type.
    pub fn new(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let media_type = HeaderValue::from_static(media_type);
        Self {
            status,
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]),
            body: body.into(),
        }
    }

    /// A reply that consists of its status.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// What becomes of a reply under the faults in force. Where several faults name the same part, the last one holds.
pub fn bend(endpoint: Endpoint, faults: &[Fault], reply: Reply) -> Reply {
    faults.iter().filter(|fault| fault.endpoint == endpoint).fold(reply, |reply, fault| fault.bend(reply))
}

impl Fault {
    fn bend(&self, mut reply: Reply) -> Reply {
        if let Some(status) = self.status.and_then(|code| StatusCode::from_u16(code).ok()) {
            reply = Reply::empty(status);
        }
        if let Some(span) = self.retry_after {
            let seconds = span.as_nanos().div_ceil(1_000_000_000);
            reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Reply {
        Reply::new(StatusCode::OK, "text/plain", "fine")
    }

    #[test]
    fn only_faults_of_the_endpoint_bend_a_reply() {
        let faults = [Fault::status(Endpoint::Token, 500)];
        assert_eq!(bend(Endpoint::Jwks, &faults, healthy()), healthy());
        assert_eq!(
            bend(Endpoint::Token, &faults, healthy()),
            Reply::empty(StatusCode::INTERNAL_SERVER_ERROR)
        );
    }

    #[test]
    fn the_last_fault_holds_where_two_name_one_part() {
        let late =
            Fault { retry_after: Some(Span::from_millis(1_500)), ..Fault::status(Endpoint::Jwks, 429) };
        let bent = bend(Endpoint::Jwks, &[Fault::status(Endpoint::Jwks, 503), late], healthy());
        assert_eq!(bent.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(bent.headers[header::RETRY_AFTER], "2");
    }

    #[test]
    fn parts_are_independent() {
        let retry = Fault { endpoint: Endpoint::Jwks, status: None, retry_after: Some(Span::from_secs(3)) };
        let bent = bend(Endpoint::Jwks, &[retry], healthy());
        assert_eq!((bent.status, bent.body), (StatusCode::OK, healthy().body));
        assert_eq!(bent.headers[header::RETRY_AFTER], "3");
    }

    #[test]
    fn a_fault_without_meaning_is_refused() {
        let fault = Fault::status(Endpoint::Jwks, 503);
        let table = [
            (Fault { status: None, ..fault.clone() }, FaultError::Nothing),
            (Fault { status: Some(101), ..fault.clone() }, FaultError::Status(101)),
            (Fault { status: Some(600), ..fault.clone() }, FaultError::Status(600)),
            (Fault { retry_after: Some(Span::INFINITE), ..fault.clone() }, FaultError::RetryAfter),
        ];
        for (broken, error) in table {
            assert_eq!(broken.check(), Err(error));
        }
        assert_eq!(fault.check(), Ok(()));
        let window = FaultWindow { fault, from: Time::ZERO, until: Time::ZERO };
        assert_eq!(window.check(), Err(FaultError::Empty));
    }
}
