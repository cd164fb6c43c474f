//! How a validator caches and refreshes keys, as data: written in scenarios, drawn at random by tests, printed
//! in reports and compared.
//!
//! Field names and values are the vocabulary of scenario files. A default is the reference policy's value.
//!
//! What no field says, by the name of who does it, and why. What that changes is listed with each client
//! (`keyquake profiles NAME`).
//!
//! Another authority than the key set:
//! - introspection, where the IdP is asked about the token itself (Quarkus): its answer follows from no keys, so neither a
//!   cache of keys nor an oracle over keys can say whether it is right;
//! - the discovery document read again with each refresh (.NET, fastapi-azure-auth, express-oauth2-jwt-bearer): the URL of
//!   the key set is a setting here. Its requests double, and its failure is one of the whole fetch;
//! - a question for one key, `?kid=` or `?alg=` (jwt-authorizer, OPA): the IdP here answers with the whole set, as one does
//!   that does not know the question;
//! - a control plane that fetches for a mesh and pushes (Istio): how long that takes is not the validator's.
//!
//! How a fetch fails:
//! - time-outs of connecting, of each read and of silence (Nimbus, jose4j, aws-jwt-verify, jwks-rsa), and the largest body
//!   (Nimbus, jose4j, jwx, go-jwt-middleware): faults delay, hang or spoil a whole fetch, and `fetch_timeout` ends it as
//!   those would. A body has a bound, but it is the service's and as large as sets ever are;
//! - pauses between attempts (jose4j, SmallRye, axum-jwt-auth, Istio): `attempts` follow at once, which is the worst case
//!   of a short fault; a pause would be one more timer for a second;
//! - failures told apart (.NET tries again after a 408 or 503 alone), and headers of an error page that set the next
//!   refresh (jwx v3): one client each;
//! - conditional requests (aliri): they save bytes and decide nothing.
//!
//! Who waits for it:
//! - a lookup that gives up before its fetch does (Nimbus after 15 s, Oathkeeper after 1 s): clients' own time-outs show
//!   the first; the second serves stale keys to whoever is slow alone, and to nobody else that was read;
//! - a fetch that ends with the client that caused it (zitadel/oidc): clients here do not leave before their time-out;
//! - a refresh put off until the limiter opens, for which nobody waits (keyfunc v2): `on_limited = "wait"` is the same
//!   fetch with somebody to tell.
//!
//! What counts, and as what:
//! - a limiter of lookups rather than of fetches, which refuses what the set underneath holds (jwks-rsa-java), and one
//!   that a failed expiry uses up (SmallRye): one client each, of which `limiter_interval` says how long it can refuse;
//! - the previous key served after a set without it (get-jwks, once in jwks_client_rs), a table that is empty while it is
//!   filled (the Keycloak adapter): accidents rather than settings, which a profile names;
//! - a key that fits another `kid` or no use (Apollo, Nimbus): a class of tokens has one way to its keys here;
//! - tokens remembered for a minute past their `exp` (Envoy), or until the keys are configured anew (PostgREST): here the
//!   first need their keys again, and the second has no JWKS.
//!
//! Elsewhere: the algorithms are a scenario's, as each key is pinned to its own; how many processes share a cache is said
//! by the workers and replicas of its fleet.

use serde::{Deserialize, Serialize};

use crate::cache::Freshness;
use crate::time::Span;

/// The cache and refresh behaviour of one validator.
///
/// Build one with struct update syntax over [`Policy::default`] and hand it to [`crate::KeyCache::new`], which
/// refuses a policy that contradicts itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What is kept after a fetch. Default: the whole set.
    pub store: Store,
    /// The most entries of a [`Store::PerKid`] store, 1 to 1,024; the least recently used goes first. Default: 16.
    pub max_entries: u32,
    /// How long the set under the entries of a [`Store::PerKidOverSet`] stays fresh. Default: for ever.
    pub inner_ttl: Span,

    /// How long a stored set or key stays fresh. Default: 10 minutes.
    pub ttl: Span,
    /// Whether `ttl` or the response's own headers decide. Default: `ttl`.
    pub ttl_source: TtlSource,
    /// The shortest lifetime that headers can give. Default: 0 s.
    pub http_min: Span,
    /// The longest lifetime that headers can give. Default: 1 day.
    pub http_max: Span,
    /// What becomes of a lifetime outside of these. Default: it is clamped.
    pub http_out_of_range: OutOfRange,
    /// What `no-cache` and `no-store` mean. Default: `http_min`.
    pub http_no_cache: NoCache,
    /// Lengthens each lifetime by a random share between 0 and this. Default: 0.
    pub ttl_jitter: f64,
    /// What expiry does to keys that are at hand. Default: lookups wait for a fetch.
    pub on_expiry: OnExpiry,
    /// How long before expiry a lookup starts a refresh that nobody waits for; zero for never. Default: 0 s.
    pub refresh_ahead: Span,
    /// The same as a share of the lifetime, between 0 and 1; the earlier of both counts. Default: 0.
    pub refresh_ahead_share: f64,

    /// When the first fetch starts. Default: with the first lookup.
    pub init: Init,
    /// How long after the last fetch a timer starts the next, whoever asks; zero for no timer. Default: 0 s.
    pub poll_interval: Span,
    /// The same after a fetch that failed; zero for `poll_interval`. Default: 0 s.
    pub poll_interval_on_failure: Span,
    /// With each failure in a row that interval doubles up to this; zero for never. Default: 0 s.
    pub poll_backoff_max: Span,
    /// How often in a row a timer's fetch is tried until it succeeds, 1 to 16. Default: 1.
    pub poll_attempts: u32,

    /// What a token with an unknown `kid` causes. Default: a refetch.
    pub on_unknown_kid: OnMiss,
    /// What a signature that does not verify under a known `kid` causes. Default: nothing but the rejection.
    pub on_bad_signature: OnMiss,
    /// Which keys a token without `kid` may be verified with. Default: the only one.
    pub on_missing_kid: OnMissingKid,
    /// Whether a token without `kid` that none of them is for counts as one with an unknown `kid`. Default: no.
    pub missing_kid_refetch: bool,
    /// How long a `kid` that a fetch did not bring is refused without another; at most 1,024 are remembered.
    /// Default: 0 s.
    pub negative_ttl: Span,
    /// How long the set before the last is used for tokens that the last has no key for. Default: 0 s.
    pub last_known_good: Span,

    /// What holds back fetches. Default: a window of 5 fetches per minute.
    pub limiter: LimiterKind,
    /// The length of the cooldown or of the window, or how long a bucket takes to refill by one. Default: 1 minute.
    pub limiter_interval: Span,
    /// The fetches that a window admits, or a bucket holds. Default: 5.
    pub limiter_burst: u32,
    /// What starts a cooldown. Default: a successful fetch.
    pub limiter_anchor: LimiterAnchor,
    /// Which fetches are held back and counted. Default: those that tokens cause by a miss.
    pub limiter_scope: LimiterScope,
    /// What a token gets whose fetch is held back. Default: `http_limited`.
    pub on_limited: OnLimited,
    /// How long a token may wait for the limiter with `on_limited = "wait"`. Default: 1 minute.
    pub limited_max_wait: Span,
    /// After a failed fetch, how long no other is started. Default: 1 s.
    pub failure_backoff: Span,

    /// What becomes of stored keys when a fetch fails. Default: they serve on for `stale_for`.
    pub on_fetch_error: OnFetchError,
    /// How long after expiry a key may serve when fetching fails. Default: 1 hour.
    pub stale_for: Span,
    /// Whether a failed fetch makes what is stored as fresh as a successful one would. Default: no.
    pub failure_rearms_ttl: bool,
    /// How often a fetch is tried until it succeeds, 1 to 16: at once, and counted once by the limiter. Default: 1.
    pub attempts: u32,
    /// Whether a status other than 200 makes a fetch fail, whatever its body. Default: yes.
    pub check_status: bool,
    /// Whether one unusable key spoils its set. Default: it is skipped (RFC 7517 section 5).
    pub parse: Parse,
    /// Whether a set without a usable key replaces what is stored. Default: no, the fetch failed.
    pub on_empty_set: OnEmptySet,

    /// Which lookups share one fetch. Default: all.
    pub coalescing: Coalescing,
    /// How long after its start a fetch is shared. Default: as long as it lasts.
    pub coalescing_max_age: Span,
    /// Whether lookups whose keys are at hand wait for a fetch under way all the same. Default: no.
    pub readers_during_fetch: Readers,
    /// The most lookups that wait at a time, 1 to 1,000,000; further ones are shed. Default: 1,024.
    pub max_waiters: u32,
    /// The most fetches in flight at a time, 1 to 1,024; matters only without full coalescing. Default: 64.
    pub max_fetches: u32,
    /// When a fetch is given up. Default: 5 s.
    pub fetch_timeout: Span,

    /// How long a token that has passed every check passes again without them, unless it expires before; zero for not at
    /// all. What becomes of its key meanwhile does not count. Default: 0 s.
    pub token_cache_ttl: Span,
    /// The most tokens that are remembered so, 1 to 100,000; the least recently used goes first. Default: 1,024.
    pub token_cache_max: u32,

    /// The tolerance in comparing `exp`, `nbf` and `iat` with the clock. Default: 5 minutes.
    pub leeway: Span,
    /// The status that a client sees for an unknown key. Default: 401.
    pub http_unknown_kid: u16,
    /// The status that a client sees when keys cannot be had. Default: 503.
    pub http_fetch_error: u16,
    /// The status that a client sees when the limiter held the fetch back. Default: 401.
    pub http_limited: u16,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            store: Store::Set,
            max_entries: 16,
            inner_ttl: Span::INFINITE,
            ttl: Span::from_secs(600),
            ttl_source: TtlSource::Fixed,
            http_min: Span::ZERO,
            http_max: Span::from_secs(86_400),
            http_out_of_range: OutOfRange::Clamp,
            http_no_cache: NoCache::ExpireNow,
            ttl_jitter: 0.0,
            on_expiry: OnExpiry::Block,
            refresh_ahead: Span::ZERO,
            refresh_ahead_share: 0.0,
            init: Init::Lazy,
            poll_interval: Span::ZERO,
            poll_interval_on_failure: Span::ZERO,
            poll_backoff_max: Span::ZERO,
            poll_attempts: 1,
            on_unknown_kid: OnMiss::Refetch,
            on_bad_signature: OnMiss::Reject,
            on_missing_kid: OnMissingKid::OnlyKey,
            missing_kid_refetch: false,
            negative_ttl: Span::ZERO,
            last_known_good: Span::ZERO,
            limiter: LimiterKind::Window,
            limiter_interval: Span::from_secs(60),
            limiter_burst: 5,
            limiter_anchor: LimiterAnchor::Success,
            limiter_scope: LimiterScope::Miss,
            on_limited: OnLimited::Reject,
            limited_max_wait: Span::from_secs(60),
            failure_backoff: Span::from_secs(1),
            on_fetch_error: OnFetchError::Stale,
            stale_for: Span::from_secs(3_600),
            failure_rearms_ttl: false,
            attempts: 1,
            check_status: true,
            parse: Parse::Skip,
            on_empty_set: OnEmptySet::Fail,
            coalescing: Coalescing::Set,
            coalescing_max_age: Span::INFINITE,
            readers_during_fetch: Readers::Pass,
            max_waiters: 1_024,
            max_fetches: 64,
            fetch_timeout: Span::from_secs(5),
            token_cache_ttl: Span::ZERO,
            token_cache_max: 1_024,
            leeway: Span::from_secs(300),
            http_unknown_kid: 401,
            http_fetch_error: 503,
            http_limited: 401,
        }
    }
}

/// What is kept after a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Nothing: each lookup fetches.
    None,
    /// The whole set, replaced at once: a key that is gone from it is gone from the cache.
    Set,
    /// Only keys that were asked for, each with a lifetime of its own: a removed key lives until its entry expires.
    PerKid,
    /// Such keys, taken from a whole set under them that lives for `inner_ttl`: the lifetimes of both follow each other.
    PerKidOverSet,
}

/// Where the lifetime of a stored unit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtlSource {
    /// From `ttl`.
    Fixed,
    /// From `Cache-Control: max-age` less `Age` (RFC 9111 section 4.2), held between `http_min` and `http_max`. From `ttl`
    /// when the response says nothing.
    Http,
}

/// What becomes of a lifetime in headers that lies outside of `http_min` and `http_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfRange {
    /// The nearer of both counts.
    Clamp,
    /// `ttl` counts.
    Ignore,
}

/// What `Cache-Control: no-cache` and `no-store` mean for a stored set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoCache {
    /// Nothing: the other headers decide.
    Ignore,
    /// It is fresh for no longer than `http_min`.
    ExpireNow,
}

/// What expiry does to keys that are at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// Lookups wait for a fetch.
    Block,
    /// The first lookup waits for a fetch; others get the old keys meanwhile.
    LeaderBlocks,
    /// Lookups get the old keys, and the first starts a fetch that nobody waits for.
    Background,
    /// Nothing. Only a miss after expiry may fetch; before, it is refused.
    GateOnly,
    /// Nothing: what is stored never expires.
    Never,
}

/// When the first fetch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// With the first lookup.
    Lazy,
    /// With the service, which does not start without keys: until it has some, lookups are refused as when keys cannot be
    /// had, and a second after each failure it starts again.
    EagerFail,
    /// With the service, and lookups wait for it. If it fails, what is asked for counts as missing from the set.
    EagerTolerate,
    /// The same, but lookups do not wait: until it has ended they are refused as when keys cannot be had.
    Async,
}

/// What a token causes whose key is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMiss {
    /// It is refused.
    Reject,
    /// The set is fetched again, if the limiter allows, and the token waits for it.
    Refetch,
    /// The same, but the token is refused at once.
    RefetchBackground,
}

/// Which keys a token without `kid` may be verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissingKid {
    /// None.
    Reject,
    /// The set's only key for the token's algorithm; none when there are several.
    OnlyKey,
    /// Every key for the token's algorithm, in the order of the set.
    ByAlg,
}

/// What holds back fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimiterKind {
    /// Nothing.
    None,
    /// After the anchor, no fetch for `limiter_interval`.
    Cooldown,
    /// At most `limiter_burst` fetches in a window of `limiter_interval`, which opens at the first counted fetch.
    Window,
    /// A bucket of `limiter_burst` fetches, full at first, that gains one each `limiter_interval`.
    Bucket,
}

/// What starts a cooldown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimiterAnchor {
    /// The last fetch that succeeded, whatever caused it: failures are never held back.
    Success,
    /// The last fetch that was started within the limiter's scope, even if it failed.
    Attempt,
    /// The last fetch that did not bring the key that it was made for.
    Miss,
}

/// Which fetches a limiter holds back and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimiterScope {
    /// Those that an unknown `kid` or a bad signature causes.
    Miss,
    /// All.
    All,
}

/// What a token gets whose fetch is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLimited {
    /// The answer that it is limited.
    Reject,
    /// What a fetch without news would have brought: that its key is unknown.
    UseCached,
    /// It waits until the limiter opens and then looks again, unless that is longer than `limited_max_wait` from when it
    /// came: then the answer that it is limited. Nothing ends the wait earlier, not even a fetch that brings its key. Keys
    /// past their time that may still serve are served at once.
    Wait,
}

/// What becomes of stored keys when a fetch fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFetchError {
    /// Once expired, they are not used.
    Fail,
    /// Once expired, they serve on for `stale_for`.
    Stale,
    /// They are gone, expired or not.
    Clear,
}

/// Whether one unusable key spoils its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parse {
    /// It is skipped, as RFC 7517 section 5 asks.
    Skip,
    /// The fetch counts as failed.
    Strict,
}

/// What a set without a usable key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnEmptySet {
    /// The fetch counts as failed and what is stored stays.
    Fail,
    /// It replaces what is stored.
    Accept,
}

/// Which lookups share one fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coalescing {
    /// None: each has its own.
    None,
    /// Those of one `kid` and algorithm.
    Kid,
    /// All, and its failure too.
    Set,
    /// All wait for one, and then look again: what it brought serves them, and after a failure they try in turn.
    LockRecheck,
    /// All wait for one, and then fetch in turn whatever it brought.
    Serial,
    /// None: while one is under way, or somebody waits for the limiter to start one, others are refused as if limited.
    LosersFail,
    /// None: while one is under way, others get what a fetch without news would have brought.
    LosersCached,
}

/// Whether lookups whose keys are at hand wait for a fetch under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readers {
    /// They do not.
    Pass,
    /// They do: the fetch holds the lock that they need.
    Block,
}

/// Why a policy cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyError {
    /// The field to change, by its name in scenarios.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
}

impl Policy {
    /// Refuses values out of range and fields that contradict each other.
    ///
    /// # Errors
    ///
    /// The first field found at fault.
    pub fn check(&self) -> Result<(), PolicyError> {
        let per_kid = matches!(self.store, Store::PerKid | Store::PerKidOverSet);
        let limited = self.limiter != LimiterKind::None;
        let status = |code: u16| (400..=599).contains(&code);
        let finite = |span: Span| span > Span::ZERO && !span.is_infinite();
        let times = |number: u32| (1..=16).contains(&number);
        let rules = [
            ("max_entries", (1..=1_024).contains(&self.max_entries), "must lie between 1 and 1,024"),
            ("ttl", self.ttl > Span::ZERO, "must be longer than zero"),
            ("http_max", self.http_max >= self.http_min, "must not be below `http_min`"),
            ("ttl_jitter", (0.0..=1.0).contains(&self.ttl_jitter), "must lie between 0 and 1"),
            ("refresh_ahead", self.refresh_ahead < self.ttl, "must be shorter than `ttl`"),
            (
                "refresh_ahead_share",
                (0.0..1.0).contains(&self.refresh_ahead_share),
                "must lie between 0 and 1, and below 1",
            ),
            (
                "on_expiry",
                self.on_expiry == OnExpiry::Block || self.store != Store::PerKidOverSet,
                "must be `block` with `store = \"per_kid_over_set\"`: what has expired above may be fresh below",
            ),
            ("inner_ttl", self.inner_ttl > Span::ZERO, "must be longer than zero"),
            (
                "init",
                self.init == Init::Lazy || self.store == Store::Set,
                "must be `lazy` unless `store = \"set\"`",
            ),
            (
                "poll_interval",
                self.poll_interval == Span::ZERO || self.store == Store::Set,
                "needs `store = \"set\"`: other stores keep only what was asked for",
            ),
            ("poll_attempts", times(self.poll_attempts), "must lie between 1 and 16"),
            ("attempts", times(self.attempts), "must lie between 1 and 16"),
            (
                "on_unknown_kid",
                !per_kid || self.on_unknown_kid != OnMiss::Reject,
                "must be `refetch`: with entries for each kid nothing else ever loads a key",
            ),
            (
                "limiter_interval",
                !limited || self.limiter_interval > Span::ZERO,
                "must be longer than zero; `limiter = \"none\"` switches the limiter off",
            ),
            ("limiter_burst", self.limiter_burst >= 1, "must be at least 1"),
            (
                "limited_max_wait",
                self.on_limited != OnLimited::Wait || finite(self.limited_max_wait),
                "must be longer than zero and finite with `on_limited = \"wait\"`",
            ),
            ("max_waiters", (1..=1_000_000).contains(&self.max_waiters), "must lie between 1 and 1,000,000"),
            ("max_fetches", (1..=1_024).contains(&self.max_fetches), "must lie between 1 and 1,024"),
            ("fetch_timeout", finite(self.fetch_timeout), "must be longer than zero and finite"),
            (
                "token_cache_max",
                (1..=100_000).contains(&self.token_cache_max),
                "must lie between 1 and 100,000",
            ),
            ("leeway", !self.leeway.is_infinite(), "must be finite"),
            ("http_unknown_kid", status(self.http_unknown_kid), "must be a status between 400 and 599"),
            ("http_fetch_error", status(self.http_fetch_error), "must be a status between 400 and 599"),
            ("http_limited", status(self.http_limited), "must be a status between 400 and 599"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, message)) => Err(PolicyError { field, message }),
            None => Ok(()),
        }
    }

    /// The longest time after its last delivery that a key can still be served.
    pub fn max_service_age(&self) -> Span {
        let lasts = !matches!(self.on_expiry, OnExpiry::Block)
            || self.coalescing == Coalescing::LosersCached
            || self.failure_rearms_ttl
            || self.last_known_good > Span::ZERO;
        let ttl = match self.ttl_source {
            TtlSource::Fixed => self.ttl,
            TtlSource::Http => self.ttl.max(self.http_max),
        };
        let fresh = match self.store {
            Store::None => return Span::ZERO,
            Store::PerKidOverSet => ttl.saturating_add(self.inner_ttl),
            Store::Set | Store::PerKid => ttl,
        };
        if lasts { Span::INFINITE } else { fresh.scale(1.0 + self.ttl_jitter).saturating_add(self.stale()) }
    }

    /// How long after expiry a key may serve when fetching fails.
    pub(crate) fn stale(&self) -> Span {
        match self.on_fetch_error {
            OnFetchError::Fail | OnFetchError::Clear => Span::ZERO,
            OnFetchError::Stale => self.stale_for,
        }
    }

    /// The most fetches that can be in flight at a time.
    pub fn max_concurrent_fetches(&self) -> usize {
        let is_shared = !matches!(self.coalescing, Coalescing::Kid | Coalescing::None);
        if is_shared && self.coalescing_max_age.is_infinite() { 1 } else { self.max_fetches as usize }
    }

    /// How long a cache goes without fetching while nothing but known keys is asked for, and the endpoint sends such
    /// headers: from timer to timer, or from fetch to expiry.
    pub fn period(&self, freshness: Freshness) -> Span {
        if self.poll_interval > Span::ZERO { self.poll_interval } else { self.lifetime(freshness) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_policy_is_consistent() {
        assert_eq!(Policy::default().check(), Ok(()));
    }

    #[test]
    fn contradictions_name_the_field() {
        let field = |policy: Policy| policy.check().unwrap_err().field;
        let base = Policy::default;
        assert_eq!(field(Policy { ttl: Span::ZERO, ..base() }), "ttl");
        assert_eq!(field(Policy { ttl_jitter: f64::NAN, ..base() }), "ttl_jitter");
        assert_eq!(field(Policy { refresh_ahead: Span::from_secs(600), ..base() }), "refresh_ahead");
        assert_eq!(field(Policy { fetch_timeout: Span::INFINITE, ..base() }), "fetch_timeout");
        assert_eq!(field(Policy { limiter_interval: Span::ZERO, ..base() }), "limiter_interval");
        assert_eq!(
            field(Policy { store: Store::PerKid, on_unknown_kid: OnMiss::Reject, ..base() }),
            "on_unknown_kid"
        );
        let waits = |limited_max_wait| Policy { on_limited: OnLimited::Wait, limited_max_wait, ..base() };
        assert_eq!(field(waits(Span::ZERO)), "limited_max_wait");
        assert_eq!(field(waits(Span::INFINITE)), "limited_max_wait");
        assert_eq!(field(Policy { token_cache_max: 0, ..base() }), "token_cache_max");
        assert_eq!(field(Policy { token_cache_max: 100_001, ..base() }), "token_cache_max");
        assert_eq!(field(Policy { http_limited: 200, ..base() }), "http_limited");
    }

    #[test]
    fn service_age_is_ttl_with_jitter_and_staleness() {
        let policy = Policy {
            ttl: Span::from_secs(100),
            ttl_jitter: 0.5,
            on_fetch_error: OnFetchError::Stale,
            stale_for: Span::from_secs(7),
            ..Policy::default()
        };
        assert_eq!(policy.max_service_age(), Span::from_secs(157));
        assert_eq!(
            Policy { on_fetch_error: OnFetchError::Fail, ..policy.clone() }.max_service_age(),
            Span::from_secs(150)
        );
        assert!(Policy { ttl: Span::INFINITE, ..policy }.max_service_age().is_infinite());
    }
}
