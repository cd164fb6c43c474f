//! How a validator caches and refreshes keys, as data: written in scenarios, drawn at random by tests, printed
//! in reports and compared.
//!
//! Field names and values are the vocabulary of scenario files. A default is the reference policy's value.

use serde::{Deserialize, Serialize};

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

    /// How long a stored set or key stays fresh. Default: 10 minutes.
    pub ttl: Span,
    /// Whether `ttl` or the response's own headers decide. Default: `ttl`.
    pub ttl_source: TtlSource,
    /// The shortest lifetime that headers can give. Default: 0 s.
    pub http_min: Span,
    /// The longest lifetime that headers can give. Default: 1 day.
    pub http_max: Span,
    /// Lengthens each lifetime by a random share between 0 and this. Default: 0.
    pub ttl_jitter: f64,
    /// How long before expiry a lookup starts a refresh that nobody waits for; zero for never. Default: 0 s.
    pub refresh_ahead: Span,

    /// What a token with an unknown `kid` causes. Default: a refetch.
    pub on_unknown_kid: OnMiss,
    /// What a signature that does not verify under a known `kid` causes. Default: nothing but the rejection.
    pub on_bad_signature: OnMiss,
    /// Which keys a token without `kid` may be verified with. Default: the only one.
    pub on_missing_kid: OnMissingKid,

    /// What holds back fetches. Default: a window of 5 fetches per minute.
    pub limiter: LimiterKind,
    /// The length of the cooldown or of the window. Default: 1 minute.
    pub limiter_interval: Span,
    /// The fetches that a window admits. Default: 5.
    pub limiter_burst: u32,
    /// What starts a cooldown. Default: a successful fetch.
    pub limiter_anchor: LimiterAnchor,
    /// Which fetches are held back and counted. Default: those that tokens cause by a miss.
    pub limiter_scope: LimiterScope,
    /// After a failed fetch, how long no other is started. Default: 1 s.
    pub failure_backoff: Span,

    /// What becomes of stored keys that expire while the endpoint fails. Default: they serve on for `stale_for`.
    pub on_fetch_error: OnFetchError,
    /// How long after expiry a key may serve when fetching fails. Default: 1 hour.
    pub stale_for: Span,
    /// Whether a status other than 200 makes a fetch fail, whatever its body. Default: yes.
    pub check_status: bool,
    /// Whether one unusable key spoils its set. Default: it is skipped (RFC 7517 section 5).
    pub parse: Parse,
    /// Whether a set without a usable key replaces what is stored. Default: no, the fetch failed.
    pub on_empty_set: OnEmptySet,

    /// Which lookups share one fetch. Default: all.
    pub coalescing: Coalescing,
    /// The most lookups that wait at a time, 1 to 1,000,000; further ones are shed. Default: 1,024.
    pub max_waiters: u32,
    /// The most fetches in flight at a time, 1 to 1,024; matters only without full coalescing. Default: 64.
    pub max_fetches: u32,
    /// When a fetch is given up. Default: 5 s.
    pub fetch_timeout: Span,

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
            ttl: Span::from_secs(600),
            ttl_source: TtlSource::Fixed,
            http_min: Span::ZERO,
            http_max: Span::from_secs(86_400),
            ttl_jitter: 0.0,
            refresh_ahead: Span::ZERO,
            on_unknown_kid: OnMiss::Refetch,
            on_bad_signature: OnMiss::Reject,
            on_missing_kid: OnMissingKid::OnlyKey,
            limiter: LimiterKind::Window,
            limiter_interval: Span::from_secs(60),
            limiter_burst: 5,
            limiter_anchor: LimiterAnchor::Success,
            limiter_scope: LimiterScope::Miss,
            failure_backoff: Span::from_secs(1),
            on_fetch_error: OnFetchError::Stale,
            stale_for: Span::from_secs(3_600),
            check_status: true,
            parse: Parse::Skip,
            on_empty_set: OnEmptySet::Fail,
            coalescing: Coalescing::Set,
            max_waiters: 1_024,
            max_fetches: 64,
            fetch_timeout: Span::from_secs(5),
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
    /// The whole set, replaced at once: a key that is gone from it is gone from the cache.
    Set,
    /// Only keys that were asked for, each with a lifetime of its own: a removed key lives until its entry expires.
    PerKid,
}

/// Where the lifetime of a stored unit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtlSource {
    /// From `ttl`.
    Fixed,
    /// From `Cache-Control: max-age` less `Age` (RFC 9111 section 4.2), held between `http_min` and `http_max`;
    /// `no-cache` and `no-store` count as zero. From `ttl` when the response says nothing.
    Http,
}

/// What a token causes whose key is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMiss {
    /// It is refused.
    Reject,
    /// The set is fetched again, if the limiter allows, and the token waits for it.
    Refetch,
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

/// What becomes of stored keys that expire while the endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFetchError {
    /// They are not used.
    Fail,
    /// They serve on for `stale_for`.
    Stale,
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
    /// All.
    Set,
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
        let per_kid = self.store == Store::PerKid;
        let limited = self.limiter != LimiterKind::None;
        let status = |code: u16| (400..=599).contains(&code);
        let rules = [
            ("max_entries", (1..=1_024).contains(&self.max_entries), "must lie between 1 and 1,024"),
            ("ttl", self.ttl > Span::ZERO, "must be longer than zero"),
            ("http_max", self.http_max >= self.http_min, "must not be below `http_min`"),
            ("ttl_jitter", (0.0..=1.0).contains(&self.ttl_jitter), "must lie between 0 and 1"),
            ("refresh_ahead", self.refresh_ahead < self.ttl, "must be shorter than `ttl`"),
            (
                "on_unknown_kid",
                !per_kid || self.on_unknown_kid == OnMiss::Refetch,
                "must be `refetch`: with `store = \"per_kid\"` nothing else ever loads a key",
            ),
            (
                "limiter_interval",
                !limited || self.limiter_interval > Span::ZERO,
                "must be longer than zero; `limiter = \"none\"` switches the limiter off",
            ),
            ("limiter_burst", self.limiter_burst >= 1, "must be at least 1"),
            ("max_waiters", (1..=1_000_000).contains(&self.max_waiters), "must lie between 1 and 1,000,000"),
            ("max_fetches", (1..=1_024).contains(&self.max_fetches), "must lie between 1 and 1,024"),
            (
                "fetch_timeout",
                self.fetch_timeout > Span::ZERO && !self.fetch_timeout.is_infinite(),
                "must be longer than zero and finite",
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
        let fresh = match self.ttl_source {
            TtlSource::Fixed => self.ttl,
            TtlSource::Http => self.ttl.max(self.http_max),
        };
        let stale = match self.on_fetch_error {
            OnFetchError::Fail => Span::ZERO,
            OnFetchError::Stale => self.stale_for,
        };
        fresh.scale(1.0 + self.ttl_jitter).saturating_add(stale)
    }

    /// The most fetches that can be in flight at a time.
    pub fn max_concurrent_fetches(&self) -> usize {
        match self.coalescing {
            Coalescing::Set => 1,
            Coalescing::Kid | Coalescing::None => self.max_fetches as usize,
        }
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
