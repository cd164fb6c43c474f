//! Tokens that have passed, so that the same ones pass again and nobody looks at a key.

#[cfg(test)]
mod laws;

use alloc::collections::BTreeMap;

use crate::policy::Policy;
use crate::time::{Span, Time, UnixTime};

/// Remembers tokens that have passed every check, as the policy's `token_cache_ttl` and `token_cache_max` say.
///
/// It is asked before anything else, and never waits: what it does not know goes through all checks. What becomes of a key
/// is nothing to it, so that a token of a revoked one passes for as long as it is remembered.
///
/// `I` names a token, and equal names must mean the same token, or a forged one could pass for another: the token
/// itself, or a digest of it for which nobody finds a second token. A short hash will not do. What else a token was
/// checked against (the endpoint, the nonce of a login) belongs to the name.
#[derive(Clone, Debug)]
pub struct TokenCache<I> {
    ttl: Span,
    max: usize,
    passed: BTreeMap<I, Passed>,
    /// The same tokens by their last use.
    by_use: BTreeMap<u64, I>,
    uses: u64,
}

#[derive(Clone, Copy, Debug)]
struct Passed {
    until: Time,
    expires: UnixTime,
    used: u64,
}

impl<I: Ord + Clone> TokenCache<I> {
    /// An empty one; `None` for a policy that remembers no tokens.
    pub fn new(policy: &Policy) -> Option<Self> {
        (policy.token_cache_ttl > Span::ZERO).then(|| Self {
            ttl: policy.token_cache_ttl,
            max: policy.token_cache_max as usize,
            passed: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        })
    }

    /// Whether this token passes without another look. `date` is that of `now`.
    ///
    /// It does until it is forgotten: `token_cache_ttl` after the checks that it passed last, when it expires, and when it
    /// is the least recently used and room is needed. A hit prolongs neither of the first two.
    pub fn knows(&mut self, token: &I, now: Time, date: UnixTime) -> bool {
        let Some(passed) = self.passed.get(token).copied() else { return false };
        if now < passed.until && date < passed.expires {
            self.put(token.clone(), passed.until, passed.expires);
            return true;
        }
        self.passed.remove(token);
        self.by_use.remove(&passed.used);
        false
    }

    /// This token has passed every check just now, and expires then. The leeway is no part of that: whoever is past `exp`
    /// is checked each time.
    pub fn remember(&mut self, token: I, expires: UnixTime, now: Time) {
        if self.passed.len() >= self.max && !self.passed.contains_key(&token) {
            self.by_use.pop_first().and_then(|(_, oldest)| self.passed.remove(&oldest));
        }
        self.put(token, now + self.ttl, expires);
    }

    /// Keeps a token as the last to go.
    fn put(&mut self, token: I, until: Time, expires: UnixTime) {
        self.uses += 1;
        self.by_use.insert(self.uses, token.clone());
        if let Some(old) = self.passed.insert(token, Passed { until, expires, used: self.uses }) {
            self.by_use.remove(&old.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(ttl: Span, max: u32) -> TokenCache<&'static str> {
        let policy = Policy { token_cache_ttl: ttl, token_cache_max: max, ..Policy::default() };
        TokenCache::new(&policy).unwrap()
    }

    fn at(secs: i64) -> (Time, UnixTime) {
        (Time::from_nanos(secs * 1_000_000_000), UnixTime(1_000 + secs))
    }

    fn remember(cache: &mut TokenCache<&'static str>, secs: i64, token: &'static str, expires: i64) {
        cache.remember(token, at(expires).1, at(secs).0);
    }

    fn knows(cache: &mut TokenCache<&'static str>, secs: i64, token: &'static str) -> bool {
        cache.knows(&token, at(secs).0, at(secs).1)
    }

    #[test]
    fn the_reference_policy_remembers_no_token() {
        assert!(TokenCache::<u8>::new(&Policy::default()).is_none());
    }

    #[test]
    fn a_token_is_forgotten_when_its_time_in_the_cache_is_over() {
        let mut cache = cache(Span::from_secs(60), 10);
        assert!(!knows(&mut cache, 0, "a"));
        remember(&mut cache, 0, "a", 3_600);
        assert!(knows(&mut cache, 59, "a"), "the hit does not prolong it");
        assert!(!knows(&mut cache, 60, "a"));
        assert!(!knows(&mut cache, 59, "b"));
    }

    #[test]
    fn a_token_is_forgotten_when_it_expires() {
        let mut cache = cache(Span::INFINITE, 10);
        remember(&mut cache, 0, "a", 100);
        assert!(knows(&mut cache, 99, "a"));
        assert!(!knows(&mut cache, 100, "a"));
        remember(&mut cache, 101, "a", 100);
        assert!(!knows(&mut cache, 101, "a"), "what the leeway let pass is not remembered");
    }

    #[test]
    fn checks_that_are_passed_again_count_anew() {
        let mut cache = cache(Span::from_secs(60), 10);
        remember(&mut cache, 0, "a", 3_600);
        remember(&mut cache, 50, "a", 3_600);
        assert!(knows(&mut cache, 109, "a"));
        assert!(!knows(&mut cache, 110, "a"));
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut cache = cache(Span::INFINITE, 2);
        remember(&mut cache, 0, "a", 100);
        remember(&mut cache, 1, "b", 100);
        assert!(knows(&mut cache, 2, "a"));
        remember(&mut cache, 3, "a", 100);
        remember(&mut cache, 4, "c", 100);
        assert_eq!(["a", "b", "c"].map(|token| knows(&mut cache, 5, token)), [true, false, true]);
    }
}
