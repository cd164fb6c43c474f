//! The reference service: a replica that validates tokens with the core's cache and checks, unchanged.

mod fetch;
mod freshness;
#[cfg(test)]
mod hostile;
mod http;
mod key;
mod keys;
mod places;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::http::HeaderValue;
use keyquake_core::{
    Algorithm, Answer, Expectations, Freshness, JwksError, KeyVersion, Keys as Candidates, Policy,
    PolicyError, Rejection, Scratch, Time, Token, TokenKind, UnixTime, Verified,
};
use keyquake_idp::Clock;
use reqwest::{Certificate, Url};

use self::fetch::{Fetch, over_http};
use self::key::PublicKey;
use self::keys::Keys;
use self::places::Places;
use self::tokens::{Name, Tokens};

pub(crate) use self::fetch::{FetchLog, TimedFetch};
pub(crate) use self::freshness::{freshness, freshness_of};
pub(crate) use self::http::status;
pub(crate) use self::key::key_set;
pub(crate) use self::places::Capacity;

/// What a replica is like.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Its number in the fleet.
    pub(crate) replica: u32,
    /// The issuer whose tokens it accepts.
    pub(crate) issuer: String,
    /// What it calls itself among those whom a token is for.
    pub(crate) audience: String,
    /// The only algorithm that it accepts.
    pub(crate) algorithm: Algorithm,
    /// Where the issuer publishes its keys.
    pub(crate) jwks_url: Url,
    /// Whom it trusts to vouch for that place over HTTPS.
    pub(crate) ca: Option<Certificate>,
    /// How it caches them.
    pub(crate) policy: Policy,
    /// How many requests it handles at a time; `None` for as many as come.
    pub(crate) capacity: Option<Capacity>,
    /// What the lengths that the policy leaves to chance follow from.
    pub(crate) jitter_seed: u64,
    /// What ages its cache and dates its claims.
    pub(crate) clock: Clock,
    /// Where its fetches are noted.
    pub(crate) fetch_log: FetchLog,
}

/// Why there is no replica.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplicaError {
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The system does not let an HTTP client be made.
    #[error("the client for the key set cannot be made")]
    Client(#[from] reqwest::Error),
}

/// One process of the service, with one cache of keys and at most one of tokens.
pub(crate) struct Replica {
    name: HeaderValue,
    api: Expectations,
    session: Expectations,
    policy: Policy,
    capacity: Option<Capacity>,
    jitter_seed: u64,
    clock: Clock,
    fetch: Fetch,
    keys: ArcSwap<Keys>,
    tokens: ArcSwapOption<Tokens>,
    /// Each process has places of its own, as it has caches.
    places: ArcSwapOption<Places>,
}

/// A token as it is presented.
#[derive(Clone, Copy)]
struct Presented<'a> {
    token: &'a [u8],
    /// The nonce of the login that it came from.
    nonce: Option<&'a str>,
    /// What the endpoint wants.
    expected: &'a Expectations,
}

/// What a first look at a token finds out.
enum Glance {
    /// With when the token expires.
    Accepted(UnixTime),
    /// Which keys it needs is not certain.
    KeysUnsure,
    /// It was tried in vain with the keys of this version.
    BadSignature(KeyVersion),
}

thread_local! {
    /// Room to decode the tokens of one thread into.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Replica {
    /// A replica with a cold cache.
    ///
    /// # Errors
    ///
    /// As [`ReplicaError`] says.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO and time.
    pub(crate) fn new(settings: Settings) -> Result<Arc<Self>, ReplicaError> {
        let fetch = over_http(settings.jwks_url.clone(), settings.ca.clone())?;
        let fetch = settings.fetch_log.clone().time(fetch, settings.replica, settings.clock);
        Ok(Self::with_fetch(settings, fetch)?)
    }

    fn with_fetch(settings: Settings, fetch: Fetch) -> Result<Arc<Self>, PolicyError> {
        let Settings { policy, capacity, clock, jitter_seed, .. } = settings;
        let expect = |token| Expectations {
            algorithms: vec![settings.algorithm],
            leeway: policy.leeway,
            ..Expectations::new(&settings.issuer, &settings.audience, token)
        };
        Ok(Arc::new(Self {
            name: settings.replica.into(),
            api: expect(TokenKind::AccessToken),
            session: expect(TokenKind::IdToken),
            keys: Keys::new(policy.clone(), jitter_seed, clock, Arc::clone(&fetch))?.into(),
            tokens: ArcSwapOption::from_pointee(Tokens::new(&policy, clock)),
            places: ArcSwapOption::from_pointee(capacity.map(Places::new)),
            policy,
            capacity,
            jitter_seed,
            clock,
            fetch,
        }))
    }

    /// Behaves as if a fetch had brought this key set with such headers at that moment, which may lie before the start.
    ///
    /// # Errors
    ///
    /// It is no key set.
    pub(crate) fn preload(&self, body: &[u8], freshness: Freshness, at: Time) -> Result<(), JwksError> {
        self.keys.load().preload(key_set(body)?, freshness, at);
        Ok(())
    }

    /// Starts anew with a cold cache, as a new process would. Who waits for the old one is still answered by it.
    ///
    /// # Errors
    ///
    /// As [`Replica::new`]: never, since the policy was followed before.
    pub(crate) fn restart(&self) -> Result<(), PolicyError> {
        let fetch = Arc::clone(&self.fetch);
        let keys = Keys::new(self.policy.clone(), self.jitter_seed, self.clock, fetch)?;
        keys.start();
        self.keys.store(keys);
        self.tokens.store(Tokens::new(&self.policy, self.clock).map(Arc::new));
        self.places.store(self.capacity.map(Places::new).map(Arc::new));
        Ok(())
    }

    /// Does what its policy does when a service starts. Comes after what is preloaded.
    pub(crate) fn start(&self) {
        self.keys.load().start();
    }

    /// Whether a token is accepted: because it was before, if that is remembered, or else by the eight checks.
    async fn judge(&self, presented: Presented<'_>) -> Result<(), Rejection> {
        let Some(tokens) = self.tokens.load_full() else { return self.examine(presented).await.map(drop) };
        let name = Name::of(presented);
        if !tokens.know(&name) {
            tokens.remember(name, self.examine(presented).await?);
        }
        Ok(())
    }

    /// The eight checks: at once if the published keys decide them, else when the cache has answered. Returns when the
    /// token expires.
    async fn examine(&self, presented: Presented<'_>) -> Result<UnixTime, Rejection> {
        match SCRATCH.with_borrow_mut(|scratch| self.glance(presented, scratch))? {
            Glance::Accepted(expires) => Ok(expires),
            Glance::KeysUnsure => self.ponder(presented, None).await,
            Glance::BadSignature(tried) => self.ponder(presented, Some(tried)).await,
        }
    }

    /// Looks at a token without waiting, locking or, once there is room in `scratch`, allocating.
    fn glance(&self, presented: Presented<'_>, scratch: &mut Scratch) -> Result<Glance, Rejection> {
        let token = Token::parse(presented.token, presented.expected, scratch)?;
        let now = self.clock.now();
        let keys = self.keys.load();
        let published = keys.published();
        let Some(candidates) = published.keys(token.kid(), token.algorithm(), now) else {
            return Ok(Glance::KeysUnsure);
        };
        match token.verify(in_order(candidates)) {
            Ok(verified) => self.check(verified, presented, now).map(Glance::Accepted),
            Err(_) => Ok(Glance::BadSignature(candidates.version())),
        }
    }

    /// Asks the cache for keys, and once for others if those, or the ones `tried` before, do not verify the token.
    ///
    /// The token is read again: what the first look decoded is no longer there when others use the thread.
    async fn ponder(
        &self,
        presented: Presented<'_>,
        tried: Option<KeyVersion>,
    ) -> Result<UnixTime, Rejection> {
        let keys = self.keys.load_full();
        let mut scratch = Scratch::default();
        let token = Token::parse(presented.token, presented.expected, &mut scratch)?;
        let tried = match tried {
            Some(tried) => tried,
            None => {
                let candidates = candidates(keys.find(token.class()).await)?;
                match token.verify(in_order(&candidates)) {
                    Ok(verified) => return self.check(verified, presented, self.clock.now()),
                    Err(_) => candidates.version(),
                }
            }
        };
        let others = candidates(keys.find_other(token.class(), tried).await)?;
        self.check(token.verify(in_order(&others))?, presented, self.clock.now())
    }

    /// The claims, and when they expire. An ID token without the nonce of its login could be anyone's (OpenID Connect Core 1.0 section
    /// 15.5.2).
    fn check(
        &self,
        verified: Verified<'_>,
        presented: Presented<'_>,
        now: Time,
    ) -> Result<UnixTime, Rejection> {
        let claims = verified.check(presented.nonce, self.clock.unix(now))?;
        if presented.expected.token == TokenKind::IdToken && presented.nonce.is_none() {
            return Err(Rejection::Nonce);
        }
        Ok(claims.exp)
    }
}

fn in_order(candidates: &Candidates<PublicKey>) -> impl Iterator<Item = (KeyVersion, &PublicKey)> {
    candidates.iter().map(|entry| (entry.version, &entry.key))
}

/// What an answer of the cache means for the token that asked.
pub(crate) fn candidates<K>(answer: Answer<K>) -> Result<Candidates<K>, Rejection> {
    match answer {
        Answer::Keys(keys) => Ok(keys),
        Answer::KidMissing => Err(Rejection::KidMissing),
        Answer::UnknownKid => Err(Rejection::KidUnknown),
        Answer::Limited => Err(Rejection::RefetchLimited),
        Answer::Unavailable(_) => Err(Rejection::JwksUnavailable),
        Answer::NoOtherKey => Err(Rejection::BadSignature),
        Answer::Shed => Err(Rejection::Overloaded),
    }
}
