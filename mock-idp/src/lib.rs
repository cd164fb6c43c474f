//! A mock identity provider that rotates its signing keys on a schedule and breaks its JWKS endpoint on demand.

mod chance;
mod clock;
mod decoy;
mod fault;
mod forgery;
mod grant;
mod http;
mod idp;
mod key;
mod rotation;
mod share;
#[cfg(test)]
mod testing;
mod timeline;
mod token;

pub use clock::{Clock, ClockError, Pace};
pub use fault::{
    Answer, Body, Ending, Endpoint, Extra, Fault, FaultError, FaultId, FaultWindow, HeaderChanges,
    HeaderText, Keys, Parts, Replicas, Reply, RequestFacts, Scope, Strike,
};
pub use forgery::Forgery;
pub use grant::{Grant, Login, TokenOrder, TokenRefusal, Tokens};
pub use http::{Guard, GuardError, Provider, Tls, TlsError, router, serve};
pub use idp::{
    AppliedEvent, Idp, IdpError, JwksAnswer, JwksLog, JwksLogEntry, JwksRequest, JwksTicket, RotateError,
    Settings, Standing, TokenCounts,
};
pub use key::{KeyError, KeyRing, Signer, SigningKey};
pub use rotation::{Rotation, RotationError, Style};
pub use share::{Share, ShareError};
pub use timeline::{Event, KeyId, KeyIdError, KeyState, Life, TimedEvent, Timeline, TimelineError};
pub use token::{Mint, Minted, TokenId, TokenIds, TokenKind, TokenRequest};
