//! Tokens that are made for requests rather than held by sessions, always a little ahead of time.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use axum::http::HeaderValue;
use keyquake_idp::{
    Clock, KeyId, KeyRing, Mint, Minted, Signer, Timeline, TokenIds, TokenKind, TokenRequest,
};

use super::AUDIENCE;
use super::credentials::{Credentials, bearer, facts};
use crate::arrivals::{Arrival, Arrivals};
use crate::plan::{Plan, Stream};
use crate::scenario::{Endpoint, TokenSource};
use crate::tokens::{self, signer};

/// How many requests go from thread to thread together: each time costs more than making one that needs no token.
pub(crate) const BATCH: usize = 64;
/// How many batches are ready before they are due, at the most.
const AHEAD: usize = 32;
/// The supply of names for these tokens; the first is the IdP's own.
const NAMES: u64 = 1;
/// What their logins were started with.
const NONCE: &str = "nobody";

/// A request and the token that was made for it, unless a session has one.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) arrival: Arrival,
    pub(crate) credentials: Option<Credentials>,
}

/// Some requests, in their order.
pub(crate) type Batch = Vec<Prepared>;

/// Makes tokens for requests. Signing takes longer than sending, so it has a thread of its own.
pub(crate) struct Minter {
    clock: Clock,
    timeline: Timeline,
    keys: KeyRing,
    mint: Mint,
    /// For tokens of pinned keys.
    long_lived: Mint,
    ids: TokenIds,
    streams: Vec<Stream>,
    /// Tokens that are sent again and again, by stream and key.
    repeated: BTreeMap<(usize, KeyId), Credentials>,
}

impl Minter {
    pub(crate) fn new(plan: &Plan, issuer: &str, keys: KeyRing, clock: Clock) -> Self {
        Self {
            clock,
            timeline: plan.timeline.clone(),
            keys,
            mint: Mint::new(issuer, AUDIENCE, plan.token_lifetime),
            long_lived: Mint::new(issuer, AUDIENCE, tokens::lifetime(plan, TokenSource::Key(KeyId::FIRST))),
            ids: TokenIds::new(plan.seed, NAMES),
            streams: plan.streams.clone(),
            repeated: BTreeMap::new(),
        }
    }

    /// Starts preparing requests, in their order. The receiver ends after the last.
    pub(crate) fn start(mut self, arrivals: Arrivals) -> std::io::Result<Receiver<Batch>> {
        let (sender, receiver) = sync_channel(AHEAD);
        thread::Builder::new().name("minter".to_owned()).spawn(move || {
            let mut prepared = arrivals.filter_map(|arrival| self.prepare(arrival));
            loop {
                let batch: Batch = prepared.by_ref().take(BATCH).collect();
                if batch.is_empty() || sender.send(batch).is_err() {
                    return;
                }
            }
        })?;
        Ok(receiver)
    }

    /// `None` for a login while no key signs: there is no token to send.
    fn prepare(&mut self, arrival: Arrival) -> Option<Prepared> {
        let stream = &self.streams[arrival.stream];
        if stream.token == TokenSource::Session {
            return Some(Prepared { arrival, credentials: None });
        }
        let fresh = stream.fresh;
        let key = signer(stream.token, &self.timeline, arrival.at)?;
        let known = self.repeated.get(&(arrival.stream, key)).filter(|_| !fresh).cloned();
        let credentials = match known {
            Some(credentials) => credentials,
            None => {
                let credentials = self.make(arrival, key)?;
                if !fresh {
                    self.repeated.insert((arrival.stream, key), credentials.clone());
                }
                credentials
            }
        };
        Some(Prepared { arrival, credentials: Some(credentials) })
    }

    fn make(&mut self, arrival: Arrival, key: KeyId) -> Option<Credentials> {
        let id = self.ids.draw();
        let stream = &self.streams[arrival.stream];
        let Stream { token, endpoint, name, .. } = stream;
        let request = TokenRequest {
            kind: match endpoint {
                Endpoint::Api => TokenKind::Access { scope: String::new() },
                Endpoint::Session => TokenKind::Id { nonce: Some(NONCE.to_owned()) },
            },
            subject: name.clone(),
            client: AUDIENCE.to_owned(),
            issued: self.clock.unix(arrival.at),
            id,
        };
        let signer = self.keys.get(key)?;
        let minted = self.sign(signer, &request, *token);
        Some(Credentials {
            authorization: bearer(&minted.token),
            nonce: (*endpoint == Endpoint::Session).then(|| HeaderValue::from_static(NONCE)),
            facts: facts(&minted, tokens::forgery(stream)),
        })
    }

    fn sign(&self, signer: &Signer, request: &TokenRequest, token: TokenSource) -> Minted {
        match token {
            TokenSource::Forged(forgery) => self.mint.forge(signer, request, forgery),
            TokenSource::Key(_) => self.long_lived.mint(signer, request),
            TokenSource::Login | TokenSource::Session => self.mint.mint(signer, request),
        }
    }
}
