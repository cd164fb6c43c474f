//! A token as a validator meets it: nothing but what the checks would find.

use keyquake_core::{Class, KeyVersion, Keys, Kid, Rejection, Span, UnixTime};
use keyquake_idp::{Forgery, KeyId};

use super::world::World;
use crate::oracle::TokenFacts;

/// A token that was never written down.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) facts: TokenFacts,
    pub(super) name: Name,
    /// What it says about its key; `None` when it is refused before anyone looks for one.
    pub(super) class: Option<Class>,
    /// The key that made its signature; `None` for noise.
    version: Option<KeyVersion>,
    /// From when on it may be used.
    from: UnixTime,
}

/// Which of all tokens it is. The endpoint that it is for, and its nonce, follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// Made for one request; its number.
    Fresh(u64),
    /// Sent by a stream again and again, with this key.
    Repeated(usize, KeyId),
    /// The session's token of this number.
    Held(u32, u64),
}

impl Token {
    /// The token of these facts, made for one request. `number` tells such tokens from each other. `None` for a key that
    /// never was.
    pub(super) fn new(facts: TokenFacts, world: &World, number: u64) -> Option<Self> {
        let key = world.key(facts.key)?;
        let stray =
            || Class { kid: Some(Kid::from(format!("stray-{number}").as_str())), ..key.class.clone() };
        let (class, version) = match facts.forged {
            Some(Forgery::AlgNone) => (None, None),
            Some(Forgery::UnknownKid) => (Some(stray()), None),
            Some(Forgery::BadSignature) => (Some(key.class.clone()), None),
            _ => (Some(key.class.clone()), Some(key.version)),
        };
        let from = facts.expires - world.token_lifetime();
        Some(Self { facts, name: Name::Fresh(number), class, version, from })
    }

    /// The same, if it is this one.
    pub(super) fn named(self, name: Name) -> Self {
        Self { name, ..self }
    }

    /// Whether one of these keys made its signature.
    pub(super) fn is_signed_by(&self, keys: &Keys<()>) -> bool {
        keys.iter().any(|entry| Some(entry.version) == self.version)
    }

    /// Whether a cache and a signature check cannot tell it from another.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.class, self.version) == (&other.class, other.version)
    }

    /// The checks that come after the signature, in the core's order.
    pub(super) fn check(&self, date: UnixTime, leeway: Span) -> Result<(), Rejection> {
        match self.facts.forged {
            Some(Forgery::WrongIssuer) => Err(Rejection::Issuer),
            Some(Forgery::WrongAudience) => Err(Rejection::Audience),
            _ if date >= self.facts.expires + leeway => Err(Rejection::Expired),
            Some(Forgery::NotYetValid) if date + leeway < self.from => Err(Rejection::NotYetValid),
            _ => Ok(()),
        }
    }
}
