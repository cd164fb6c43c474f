//! Faults of an endpoint, as values: what a request is answered with while they are in force.
//!
//! A fault is a table of independent [`Parts`] and a [`Scope`]. Those that strike a request are laid over each
//! other ([`Strike::of`]); the provider computes a [`Reply`], which the strike bends ([`Strike::bend`]); the HTTP
//! face carries the [`Answer`] out. Nothing here waits, draws from anything but its arguments, or sends.

mod body;
mod headers;
mod keys;
mod parts;
mod reply;
mod scope;

use std::fmt;

use keyquake_core::Time;
use serde::{Deserialize, Serialize};

pub use self::body::Body;
pub use self::headers::{HeaderChanges, HeaderText};
pub use self::keys::{Extra, Keys};
pub use self::parts::Parts;
pub use self::reply::{Answer, Ending, Reply};
pub use self::scope::{Replicas, RequestFacts, Scope};

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

/// What goes wrong at an endpoint, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub endpoint: Endpoint,
    /// What.
    pub parts: Parts,
    /// For which requests; by default for all.
    pub scope: Scope,
}

/// Why a fault means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No part of the table is filled in.
    #[error("the fault changes nothing: name a part like `status`, `body` or `hang`")]
    Nothing,
    /// One of the parts leaves nothing for the other to do.
    #[error("`{0}` and `{1}` contradict each other")]
    Contradiction(&'static str, &'static str),
    /// The endpoint has no keys.
    #[error("`{0}` breaks key sets: it goes with `jwks` only")]
    JwksOnly(&'static str),
    /// Not a status that ends a response.
    #[error("status `{0}` is not between 200 and 599")]
    Status(u16),
    /// A status whose responses have no body (RFC 9110 sections 15.3.5 and 15.4.5).
    #[error("status `{0}` comes without a body, and `{1}` is about the body")]
    Bodiless(u16, &'static str),
    /// Not a status that leads elsewhere (RFC 9110 section 15.4).
    #[error("`redirect` contradicts status `{0}`, which leads nowhere")]
    NoRedirect(u16),
    /// `drop` stands alone with a status, which has no body.
    #[error("`drop` cuts the body, and a `status` alone has none: name a `body`")]
    NothingToCut,
    /// `Retry-After` has no word for it.
    #[error("`retry_after` cannot be `inf`")]
    RetryAfter,
    /// No clock can measure it.
    #[error("`{0}` must be longer than zero and finite")]
    Length(&'static str),
    /// Nobody is struck.
    #[error("`{0}` leaves nobody to strike")]
    Nobody(&'static str),
    /// Token requests do not tell who asks.
    #[error("`replicas` cannot be told apart at the token endpoint")]
    TokenReplicas,
    /// It would end before it begins, or as it begins.
    #[error("the fault ends before it begins")]
    Empty,
}

impl FaultError {
    /// The part of the table that it is about; of two, the second.
    pub const fn part(self) -> Option<&'static str> {
        match self {
            Self::Contradiction(_, part) | Self::Bodiless(_, part) => Some(part),
            Self::JwksOnly(part) | Self::Length(part) | Self::Nobody(part) => Some(part),
            Self::Status(_) => Some("status"),
            Self::RetryAfter => Some("retry_after"),
            Self::NoRedirect(_) => Some("redirect"),
            Self::NothingToCut => Some("drop"),
            Self::TokenReplicas => Some("replicas"),
            Self::Nothing | Self::Empty => None,
        }
    }
}

impl Fault {
    /// A fault that strikes every request.
    pub fn new(endpoint: Endpoint, parts: Parts) -> Self {
        Self { endpoint, parts, scope: Scope::default() }
    }

    /// An endpoint that answers with nothing but a status.
    pub fn status(endpoint: Endpoint, status: u16) -> Self {
        Self::new(endpoint, Parts { status: Some(status), ..Parts::default() })
    }

    /// Checks that the parts mean something, and mean it together.
    ///
    /// # Errors
    ///
    /// [`FaultError`] says what is wrong.
    pub fn check(&self) -> Result<(), FaultError> {
        self.parts.check(self.endpoint)?;
        self.scope.check(self.endpoint)
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

/// What the faults in force do to one request, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strike {
    parts: Parts,
    /// The fault that a request waits for if it hangs.
    hung_by: Option<FaultId>,
}

impl Strike {
    /// Lays the faults that strike a request over each other: where several name the same part, the last one
    /// holds. What is drawn follows from the seed, the fault and the request's number.
    pub fn of<'f>(
        seed: u64,
        in_force: impl IntoIterator<Item = &'f (FaultId, Fault)>,
        request: RequestFacts,
    ) -> Self {
        let mut strike = Self::default();
        for (id, fault) in in_force {
            if fault.endpoint == request.endpoint && fault.scope.holds(seed, *id, request) {
                strike.parts.lay_over(&fault.parts);
                strike.hung_by = if fault.parts.hang { Some(*id) } else { strike.hung_by };
            }
        }
        strike
    }

    /// The parts of all faults that strike.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The fault that a request waits for, if it hangs.
    pub fn hung_by(&self) -> Option<FaultId> {
        self.hung_by.filter(|_| self.parts.hang)
    }

    /// What becomes of a reply.
    pub fn bend(&self, reply: Reply) -> Answer {
        let after = self.parts.delay.unwrap_or_default();
        let ending = match self.hung_by() {
            Some(fault) => Ending::Hang(fault),
            None if self.parts.reset => Ending::Reset,
            None => {
                let reply = self.parts.bend(reply);
                let at = reply.body.len() / 2;
                if self.parts.drop && !reply.body.is_empty() {
                    Ending::Cut { reply, at }
                } else {
                    Ending::Reply(reply)
                }
            }
        };
        Answer { after, ending }
    }
}

#[cfg(test)]
mod tests;
