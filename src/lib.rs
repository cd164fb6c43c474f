//! The reference validator that keyquake rehearses with.
//!
//! Everything here is pure: `now` comes in, decisions and the next deadline go out. There is no clock, no
//! randomness and no IO, which is why the same code serves the simulator, the live service and the tests.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cache;
mod claims;
mod expectations;
mod json;
mod jwks;
mod key;
mod policy;
mod rejection;
mod time;
mod token;
mod token_cache;
mod validator;

pub use cache::{
    Answer, Deadline, Decision, Event, FetchFailure, FetchId, Freshness, KeyCache, KeyEntry, KeySet, Keys,
    Published, Response, Rest, Standing, Wake,
};
pub use claims::{Audience, Claims};
pub use expectations::{Expectations, TokenKind};
pub use json::JsonFault;
pub use jwks::{Jwk, Jwks, JwksError, Material, Unusable};
pub use key::{Algorithm, Class, KeyVersion, Kid};
pub use policy::{
    Coalescing, Init, LimiterAnchor, LimiterKind, LimiterScope, NoCache, OnEmptySet, OnExpiry, OnFetchError,
    OnLimited, OnMiss, OnMissingKid, OutOfRange, Parse, Policy, PolicyError, Readers, Store, TtlSource,
};
pub use rejection::{Malformed, Part, Rejection};
pub use time::{Span, SpanError, Time, UnixTime};
pub use token::{Scratch, Token};
pub use token_cache::TokenCache;
pub use validator::{BadSignature, Verified, Verify};
