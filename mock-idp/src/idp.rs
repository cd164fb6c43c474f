//! The provider itself: a state machine that is handed `now` and never waits.

mod key_set;
mod log;
mod standing;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{HeaderValue, InvalidHeaderValue};
use keyquake_core::{Algorithm, Span, Time, UnixTime};
use serde_json::json;

pub use self::log::{AppliedEvent, JwksLog, JwksLogEntry, JwksTicket, TokenCounts};
pub use self::standing::Standing;

use self::key_set::KeySet;
use crate::fault::{Answer, Endpoint, Fault, FaultId, FaultWindow, Parts, Reply, RequestFacts, Strike};
use crate::grant::{Grant, RefreshSeal, TokenOrder, TokenRefusal};
use crate::key::{KeyRing, Signer, SigningKey};
use crate::rotation::{Rotation, Style};
use crate::timeline::{Event, KeyId, Timeline, TimelineError};
use crate::token::{Mint, TokenIds};

/// What a provider is like, apart from what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name, which is the URL that it is reached under.
    pub issuer: String,
    /// For whom its tokens are.
    pub audience: String,
    /// What its keys sign with.
    pub algorithm: Algorithm,
    /// How long its tokens live; at least a second.
    pub token_lifetime: Span,
    /// The `Cache-Control` header of its JWKS (RFC 9111 section 5.2), as it is sent.
    pub cache_control: Option<String>,
    /// What the names of tokens and the refresh tokens follow from.
    pub seed: u64,
}

/// Why there can be no such provider.
#[derive(Debug, thiserror::Error)]
pub enum IdpError {
    /// The cache directive cannot be sent.
    #[error("`cache_control` is not the value of a header")]
    CacheControl(#[from] InvalidHeaderValue),
    /// Claims are whole seconds (RFC 7519 section 2).
    #[error("a token lifetime of `{0}` is less than a second")]
    TokenLifetime(Span),
    /// The timeline needs a key that was not generated.
    #[error("`{0}` is missing in the key ring")]
    KeyMissing(KeyId),
}

/// Why a rotation cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// It does not fit into the timeline.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// It brings a new key, and none was given.
    #[error("the rotation needs a new key")]
    KeyMissing,
}

/// A request for the key set.
#[derive(Clone, Copy, Debug, Default)]
pub struct JwksRequest<'a> {
    /// The cache that asks, if the URL tells.
    pub instance: Option<u32>,
    /// The sets that it has already (RFC 9110 section 13.1.2).
    pub if_none_match: Option<&'a str>,
}

/// The answer to such a request, and its place in the log.
#[derive(Debug)]
pub struct JwksAnswer {
    /// What to do.
    pub answer: Answer,
    /// What to hand to [`Idp::jwks_answered`] once it is sent, if it is.
    pub ticket: JwksTicket,
}

/// A provider in the course of its timeline.
///
/// Each operation first applies all events that are due, so that whoever looks sees the state of the planned
/// moment, whatever timers do. Moments that go back count as the last one seen.
#[derive(Debug)]
pub struct Idp {
    settings: Settings,
    cache_control: Option<HeaderValue>,
    mint: Arc<Mint>,
    refresh: RefreshSeal,
    token_ids: TokenIds,
    timeline: Timeline,
    keys: KeyRing,
    now: Time,
    /// How many of the timeline's events are in `standing`.
    applied: usize,
    standing: Standing,
    key_set: KeySet,
    faults: Vec<(FaultId, Fault)>,
    /// How many requests each endpoint has had.
    requests: BTreeMap<Endpoint, u64>,
    event_log: Vec<AppliedEvent>,
    jwks_log: JwksLog,
    token_counts: TokenCounts,
}

impl Idp {
    /// A provider at the moment `start` of its timeline. What happens until then is its past, and not logged.
    ///
    /// # Errors
    ///
    /// [`IdpError`] says what is missing or impossible.
    pub fn new(settings: Settings, timeline: Timeline, keys: KeyRing, start: Time) -> Result<Self, IdpError> {
        if settings.token_lifetime < Span::from_secs(1) {
            return Err(IdpError::TokenLifetime(settings.token_lifetime));
        }
        if let Some((id, _)) = timeline.keys().find(|(id, _)| keys.get(*id).is_none()) {
            return Err(IdpError::KeyMissing(id));
        }
        let mut idp = Self {
            cache_control: settings.cache_control.as_deref().map(HeaderValue::from_str).transpose()?,
            mint: Arc::new(Mint::new(&settings.issuer, &settings.audience, settings.token_lifetime)),
            refresh: RefreshSeal::new(settings.seed),
            token_ids: TokenIds::new(settings.seed, 0),
            settings,
            standing: Standing::since_ever(&timeline),
            timeline,
            keys,
            now: start,
            applied: 0,
            key_set: KeySet::default(),
            faults: Vec::new(),
            requests: BTreeMap::new(),
            event_log: Vec::new(),
            jwks_log: JwksLog::default(),
            token_counts: TokenCounts::default(),
        };
        idp.settle();
        idp.advance(start);
        idp.event_log.clear();
        Ok(idp)
    }

    /// What the provider is like.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is planned to happen, with everything that was added while running.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// All keys of the timeline, past and future.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Mints tokens in the provider's name.
    pub fn mint(&self) -> &Mint {
        &self.mint
    }

    /// The events that were applied since the start, in that order, but for those of forgotten keys. The timeline
    /// bounds their number.
    pub fn event_log(&self) -> &[AppliedEvent] {
        &self.event_log
    }

    /// The requests for the key set.
    pub fn jwks_log(&self) -> &JwksLog {
        &self.jwks_log
    }

    /// The requests for tokens.
    pub fn token_counts(&self) -> &TokenCounts {
        &self.token_counts
    }

    /// When to call [`Idp::advance`] next, so that logs and counts are prompt.
    pub fn next_event(&self) -> Option<Time> {
        self.timeline.events().get(self.applied).map(|timed| timed.at)
    }

    /// Applies all events that are due, and swaps the whole state at once.
    pub fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
        let pending = self.timeline.events().get(self.applied..).unwrap_or_default();
        let due = pending.partition_point(|timed| timed.at <= self.now);
        if due == 0 {
            return;
        }
        for timed in &pending[..due] {
            self.standing.apply(timed.event);
            self.event_log.push(AppliedEvent { event: timed.event, planned: timed.at, applied: self.now });
        }
        self.applied += due;
        self.settle();
    }

    /// What is in force now.
    pub fn standing(&mut self, now: Time) -> &Standing {
        self.advance(now);
        &self.standing
    }

    /// What the faults in force do to a request that arrives now.
    pub fn strike(&mut self, now: Time, endpoint: Endpoint, instance: Option<u32>) -> Strike {
        self.advance(now);
        let count = self.requests.entry(endpoint).or_default();
        let request = RequestFacts { endpoint, instance, number: *count };
        *count += 1;
        Strike::of(self.settings.seed, &self.faults, request)
    }

    /// The faults in force when it was last looked.
    pub(crate) fn faults_in_force(&self) -> &BTreeSet<FaultId> {
        self.standing.faults()
    }

    /// Answers a request for the key set and logs it.
    pub fn jwks(&mut self, now: Time, request: JwksRequest<'_>) -> JwksAnswer {
        let strike = self.strike(now, Endpoint::Jwks, request.instance);
        let (answer, keys) = self.key_set_answer(now, &strike, request.if_none_match);
        let ticket = self.jwks_log.open(self.now, request.instance, answer.status(), keys);
        JwksAnswer { answer, ticket }
    }

    /// What a request for the key set is answered that is struck so, and which of the provider's keys it gets with it.
    /// It is not logged.
    pub fn key_set_answer(
        &mut self,
        now: Time,
        strike: &Strike,
        if_none_match: Option<&str>,
    ) -> (Answer, Arc<[KeyId]>) {
        self.advance(now);
        let parts = strike.parts();
        let key_set = self.key_set_under(parts);
        let if_none_match = if_none_match.filter(|_| parts.is_conditional());
        let answer = strike.bend(key_set.reply(self.cache_control.as_ref(), if_none_match));
        (answer, if parts.delivers_set() { key_set.keys() } else { Arc::default() })
    }

    /// The key set that is served under these parts of a fault.
    fn key_set_under(&self, parts: &Parts) -> Cow<'_, KeySet> {
        if parts.keys.is_none() && parts.stale.is_none() {
            return Cow::Borrowed(&self.key_set);
        }
        let at = (self.now - parts.stale.unwrap_or_default()).max(self.timeline.since());
        let published = self.timeline.keys().filter(|(_, life)| life.state(at).published);
        let signers = published.filter_map(|(id, _)| self.keys.get(id));
        Cow::Owned(match &parts.keys {
            Some(keys) => KeySet::bent(signers, keys, self.settings.algorithm, self.settings.seed),
            None => KeySet::of(signers),
        })
    }

    /// Notes when the answer of [`Idp::jwks`] was sent.
    pub fn jwks_answered(&mut self, ticket: JwksTicket, now: Time) {
        self.jwks_log.close(ticket, now);
    }

    /// Answers a request for the metadata (OpenID Connect Discovery 1.0 section 3). That of an instance leads to
    /// the instance's own JWKS URL.
    pub fn discovery(&mut self, now: Time, instance: Option<u32>) -> Answer {
        let strike = self.strike(now, Endpoint::Discovery, instance);
        let base = self.settings.issuer.trim_end_matches('/');
        let jwks_uri = match instance {
            Some(number) => format!("{base}/instances/{number}/.well-known/jwks.json"),
            None => format!("{base}/.well-known/jwks.json"),
        };
        let document = json!({
            "issuer": self.settings.issuer,
            "jwks_uri": jwks_uri,
            "token_endpoint": format!("{base}/token"),
            "grant_types_supported": ["client_credentials", "refresh_token"],
            // There is no authorization endpoint, and so no response type that means anything.
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "scopes_supported": ["openid"],
            "id_token_signing_alg_values_supported": [self.settings.algorithm.name()],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        });
        let healthy = Reply::new(StatusCode::OK, "application/json", document.to_string());
        strike.bend(healthy)
    }

    /// Prepares the tokens that a grant is good for. Signing them is up to the caller: it takes a thousand times as
    /// long as everything here and needs nothing of the provider.
    ///
    /// # Errors
    ///
    /// [`TokenRefusal`] if no key is active or the grant is not ours.
    pub fn order(&mut self, now: Time, issued: UnixTime, grant: &Grant) -> Result<TokenOrder, TokenRefusal> {
        self.advance(now);
        let (login, nonce) = self.refresh.open(grant)?;
        let signer = self.active_signer().ok_or(TokenRefusal::NoActiveKey)?;
        Ok(TokenOrder {
            signer,
            mint: Arc::clone(&self.mint),
            ids: [self.token_ids.draw(), self.token_ids.draw()],
            refresh_token: self.refresh.seal(&login),
            login,
            nonce,
            issued,
        })
    }

    /// Counts a token request; `grant` is the grant type, or what stands for an unknown one, and `status` that of the
    /// answer, if there is to be one.
    pub fn token_answered(&mut self, grant: &'static str, status: Option<u16>) {
        self.token_counts.count(grant, status);
    }

    /// Begins a rotation: its first event happens now, and its `at` follows from that. A key that takes over a name
    /// is renamed. When [`Timeline::MAX_KEYS`] are known, the oldest is forgotten if it is no longer published.
    ///
    /// # Errors
    ///
    /// [`RotateError`] if it contradicts itself or what is planned; nothing has changed then.
    pub fn rotate(
        &mut self,
        now: Time,
        rotation: Rotation,
        key: Option<SigningKey>,
    ) -> Result<Option<KeyId>, RotateError> {
        self.advance(now);
        let moment = self.free_moment();
        let at = if rotation.style == Style::Overlap { moment + rotation.lead } else { moment };
        let mut timeline = self.timeline.clone();
        let forgotten = if rotation.replace { timeline.make_room(self.now) } else { None };
        let timeline = timeline.with_rotation(Rotation { at, ..rotation })?;
        let new = if rotation.replace {
            let key = key.ok_or(RotateError::KeyMissing)?;
            Some(self.admit(&timeline, key))
        } else {
            None
        };
        if let Some(key) = forgotten {
            self.forget(key);
        }
        self.timeline = timeline;
        self.advance(moment);
        Ok(new)
    }

    /// Forgets a key of which all has happened.
    fn forget(&mut self, key: KeyId) {
        let of_key = |event: Event| event.key() == Some(key);
        self.applied -= self.timeline.events().iter().filter(|timed| of_key(timed.event)).count();
        self.event_log.retain(|done| !of_key(done.event));
        self.standing.forget(key);
        self.keys.remove(key);
    }

    /// Puts a fault in force now, for a while or for good ([`Span::INFINITE`]).
    ///
    /// # Errors
    ///
    /// [`TimelineError`] if the fault means nothing or there are too many.
    pub fn start_fault(&mut self, now: Time, fault: Fault, length: Span) -> Result<FaultId, TimelineError> {
        self.advance(now);
        let from = self.free_moment();
        let id = self.timeline.add_fault(FaultWindow { fault, from, until: from + length })?;
        self.advance(from);
        Ok(id)
    }

    /// Ends a fault now; `false` if it is not in force.
    pub fn end_fault(&mut self, now: Time, id: FaultId) -> bool {
        self.advance(now);
        let moment = self.free_moment();
        let ended = self.timeline.end_fault(id, moment);
        self.advance(moment);
        ended
    }

    /// The first moment from now on that comes after everything applied, so that what is added then changes nothing
    /// of the past. It is now, or a nanosecond later.
    fn free_moment(&self) -> Time {
        let last = self.applied.checked_sub(1).and_then(|index| self.timeline.events().get(index));
        last.map_or(self.now, |timed| self.now.max(timed.at + Span::from_nanos(1)))
    }

    /// Takes the key of a timeline's newest rotation into the ring.
    fn admit(&mut self, timeline: &Timeline, key: SigningKey) -> KeyId {
        let id = timeline.newest_key();
        let namesake = timeline.life(id).and_then(|life| life.same_kid_as);
        let key = match namesake.and_then(|old| self.keys.get(old)) {
            Some(old) => key.with_kid(old.key.kid().clone()),
            None => key,
        };
        self.keys.insert(id, key);
        id
    }

    fn active_signer(&self) -> Option<Signer> {
        self.standing.active_key().and_then(|id| self.keys.get(id)).cloned()
    }

    /// Rebuilds what is answered from what is in force.
    fn settle(&mut self) {
        let published = self.standing.published_keys().filter_map(|id| self.keys.get(id));
        self.key_set = KeySet::of(published);
        let in_force = self.standing.faults().iter();
        self.faults =
            in_force.filter_map(|id| Some((*id, self.timeline.fault(*id)?.fault.clone()))).collect();
    }
}

#[cfg(test)]
mod tests;
