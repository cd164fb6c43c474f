//! What came back from the JWKS endpoint, and whether a policy takes it for an answer.

use alloc::sync::Arc;

use super::keys::KeySet;
use crate::policy::{NoCache, OnEmptySet, OutOfRange, Parse, Policy, TtlSource};
use crate::time::Span;

/// What a driver says about a fetch that ended.
///
/// The driver only reports: whether a 503 with a key set in its body counts as success is the policy's decision.
#[derive(Debug)]
pub struct Response<K> {
    /// The HTTP status; `None` when no answer came.
    pub status: Option<u16>,
    /// What the headers say about its lifetime.
    pub freshness: Freshness,
    /// The keys; `None` when the body is not a JWK set, or was cut off.
    pub keys: Option<Arc<KeySet<K>>>,
}

impl<K> Response<K> {
    /// A fetch without an answer: refused, reset or cut off before its headers.
    pub const fn unanswered() -> Self {
        Self { status: None, freshness: Freshness::UNSAID, keys: None }
    }
}

/// What the headers of a response say about its lifetime (RFC 9111 sections 4.2 and 5.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// `Cache-Control: max-age`, or `Expires` less `Date`.
    pub max_age: Option<Span>,
    /// `Age`.
    pub age: Span,
    /// `Cache-Control: no-cache` or `no-store`.
    pub no_cache: bool,
}

impl Freshness {
    /// A response without any such header.
    pub const UNSAID: Self = Self { max_age: None, age: Span::ZERO, no_cache: false };
}

/// Why a fetch did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchFailure {
    /// No answer came.
    Unanswered,
    /// The policy's `fetch_timeout` ran out.
    TimedOut,
    /// The status was not 200.
    Status(u16),
    /// The body was not a JWK set.
    NotAKeySet,
    /// The set held a key that cannot be used, and the policy is strict.
    UnusableKey,
    /// The set held no usable key.
    EmptySet,
}

impl Policy {
    /// The keys of a response that this policy takes for an answer.
    pub(super) fn accept<K>(&self, response: Response<K>) -> Result<Arc<KeySet<K>>, FetchFailure> {
        let status = response.status.ok_or(FetchFailure::Unanswered)?;
        if self.check_status && status != 200 {
            return Err(FetchFailure::Status(status));
        }
        let keys = response.keys.ok_or(FetchFailure::NotAKeySet)?;
        if self.parse == Parse::Strict && keys.unusable > 0 {
            return Err(FetchFailure::UnusableKey);
        }
        if self.on_empty_set == OnEmptySet::Fail && keys.keys.is_empty() {
            return Err(FetchFailure::EmptySet);
        }
        Ok(keys)
    }

    /// How long what such a response delivers stays fresh, jitter aside.
    pub fn lifetime(&self, freshness: Freshness) -> Span {
        let said = freshness.max_age.map(|max_age| max_age.saturating_sub(freshness.age));
        let in_range = |said: &Span| (self.http_min..=self.http_max).contains(said);
        match (self.ttl_source, said) {
            (TtlSource::Fixed, _) => self.ttl,
            (TtlSource::Http, _) if freshness.no_cache && self.http_no_cache == NoCache::ExpireNow => {
                self.http_min
            }
            (TtlSource::Http, Some(said)) if in_range(&said) => said,
            (TtlSource::Http, Some(said)) if self.http_out_of_range == OutOfRange::Clamp => {
                said.clamp(self.http_min, self.http_max)
            }
            (TtlSource::Http, _) => self.ttl,
        }
    }
}
