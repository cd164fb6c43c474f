//! Which tokens a stream's requests carry: what live and simulated runs must agree on before anything is signed.

use keyquake_core::{Span, Time, UnixTime};
use keyquake_idp::{Forgery, KeyId, Timeline};

use crate::oracle::TokenFacts;
use crate::plan::{Plan, Stream};
use crate::scenario::TokenSource;

/// Longer than anyone takes to set a run up.
const SET_UP: Span = Span::from_secs(60);

/// The key that signs a token for a request at this moment, or whose name is put on it. `None` for a login while no
/// key signs: there is no token to send.
pub(crate) fn signer(token: TokenSource, timeline: &Timeline, at: Time) -> Option<KeyId> {
    match token {
        TokenSource::Login => timeline.active_key(at),
        TokenSource::Key(key) => Some(key),
        TokenSource::Session | TokenSource::Forged(_) => Some(signing_key(timeline, at)),
    }
}

/// The key that signs at a moment; the first where none does.
pub(crate) fn signing_key(timeline: &Timeline, at: Time) -> KeyId {
    timeline.active_key(at).unwrap_or(KeyId::FIRST)
}

/// How long a stream's tokens live. Whoever holds a key chooses that for its tokens: those of pinned keys outlast the
/// run.
pub(crate) fn lifetime(plan: &Plan, token: TokenSource) -> Span {
    match token {
        TokenSource::Key(_) => {
            let run = plan.warmup.saturating_add(plan.duration).saturating_add(SET_UP);
            plan.token_lifetime.saturating_add(run)
        }
        TokenSource::Session | TokenSource::Login | TokenSource::Forged(_) => plan.token_lifetime,
    }
}

/// What is wrong with a stream's tokens. That a token has expired is seen by its date.
pub(crate) fn forgery(stream: &Stream) -> Option<Forgery> {
    match stream.token {
        TokenSource::Forged(forgery) => Some(forgery).filter(|forgery| *forgery != Forgery::Expired),
        _ => None,
    }
}

/// What is true of a stream's token that is made at this date.
pub(crate) fn facts(plan: &Plan, stream: &Stream, key: KeyId, issued: UnixTime) -> TokenFacts {
    let lifetime = lifetime(plan, stream.token);
    let expires = match stream.token {
        TokenSource::Forged(forgery) => forgery.expiry(issued, lifetime),
        _ => issued + lifetime,
    };
    TokenFacts { key, expires, forged: forgery(stream) }
}
