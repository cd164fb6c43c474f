//! A cache that waits for nothing, told apart from the moment at which it does.

use super::limiter::Limiter;
use super::negatives::Negatives;
use super::shelf::Shelf;
use super::{FetchFailure, KeyCache};
use crate::time::{Span, Time};

/// More failures in a row than this make no pause any longer.
const MANY_FAILURES: u32 = 32;

/// What a cache without a fetch under way knows, as seen from a moment.
///
/// Caches of one policy whose rests are equal do the same from then on: a driver of many need find out only once what
/// that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest<K> {
    next_poll: Option<Time>,
    failed: Option<(Time, FetchFailure)>,
    failures: u32,
    limiter: Limiter,
    negatives: Negatives,
    shelf: Shelf<K>,
}

impl<K: Clone, T> KeyCache<K, T> {
    /// What it knows, as seen from `now`, and until when that holds: what runs out of things that are past their time is
    /// left out, and said beside it. `None` where that is more than one moment, while anybody waits, and where
    /// the policy leaves lifetimes to chance.
    ///
    /// `now` may be any moment since something has changed.
    pub fn rest(&self, now: Time) -> Option<(Rest<K>, Time)> {
        if !self.flights.is_empty() || self.flights.holds_any() || self.policy.ttl_jitter > 0.0 {
            return None;
        }
        let counts_failures = self.policy.poll_interval > Span::ZERO;
        let backed_off = now - self.policy.failure_backoff;
        let (shelf, holds_until) = self.shelf.ahead(now)?;
        let mut rest = Rest {
            next_poll: self.next_poll,
            failed: self.failed.map(|(at, failure)| (at.max(backed_off), failure)),
            failures: if counts_failures { self.failures.min(MANY_FAILURES) } else { 0 },
            limiter: self.limiter.ahead(&self.policy, now),
            negatives: self.negatives.ahead(now),
            shelf,
        };
        rest.shift(&|at| at.seen_from(now, Time::ZERO));
        Some((rest, holds_until))
    }

    /// Goes on at `now` as a cache of the same policy did whose rest this was, and held until then. It must not have a
    /// fetch under way.
    pub fn resume(&mut self, (rest, holds_until): (&Rest<K>, Time), now: Time) {
        let mut rest = rest.clone();
        rest.shift(&|at| at.seen_from(Time::ZERO, now));
        rest.shelf.hold_until(now, holds_until);
        self.generation += 1;
        (self.shelf, self.limiter, self.negatives) = (rest.shelf, rest.limiter, rest.negatives);
        (self.failed, self.failures, self.next_poll) = (rest.failed, rest.failures, rest.next_poll);
    }
}

impl<K> Rest<K> {
    fn shift(&mut self, moved: &impl Fn(Time) -> Time) {
        self.next_poll = self.next_poll.map(moved);
        self.failed = self.failed.map(|(at, failure)| (moved(at), failure));
        self.limiter.shift(moved);
        self.negatives.shift(moved);
        self.shelf.shift(moved);
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use super::*;
    use crate::cache::{Answer, Decision, Event, Freshness, KeyEntry, KeySet, Response, Standing};
    use crate::key::{Algorithm, Class, KeyVersion};
    use crate::policy::{LimiterKind, Policy};

    fn at(secs: i64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    fn class(kid: &str) -> Class {
        Class { kid: Some(kid.into()), algorithm: Algorithm::Rs256 }
    }

    fn ok(kid: &str) -> Response<()> {
        let entry =
            KeyEntry { kid: Some(kid.into()), algorithm: Algorithm::Rs256, version: KeyVersion(0), key: () };
        let set = KeySet { keys: [Arc::new(entry)].into(), unusable: 0 };
        Response { status: Some(200), freshness: Freshness::UNSAID, keys: Some(Arc::new(set)) }
    }

    fn look_up(cache: &mut KeyCache<(), u8>, kid: &str, (asked, ended): (i64, i64)) {
        let mut out = Vec::new();
        cache.handle(Event::Lookup { class: class(kid), ticket: 0 }, at(asked), &mut out);
        if let Some(Decision::Fetch(id)) = out.pop() {
            assert_eq!(cache.rest(at(asked)), None, "a fetch is under way");
            cache.handle(Event::Fetched(id, ok("a")), at(ended), &mut out);
        }
    }

    #[test]
    fn rests_are_equal_whatever_lies_behind_and_whenever_they_are() {
        let policy = Policy {
            ttl: Span::from_secs(60),
            limiter: LimiterKind::Window,
            limiter_interval: Span::from_secs(20),
            ..Policy::default()
        };
        let mut young = KeyCache::new(policy.clone(), 1).unwrap();
        look_up(&mut young, "a", (10, 11));
        let mut old = KeyCache::new(policy, 2).unwrap();
        look_up(&mut old, "a", (10, 11));
        look_up(&mut old, "b", (40, 41));
        look_up(&mut old, "a", (200, 201));
        assert_eq!(young.rest(at(15)), old.rest(at(205)));
        assert_ne!(young.rest(at(15)), old.rest(at(206)), "the other is older");
        let (one, other) = (young.rest(at(75)).unwrap(), old.rest(at(271)).unwrap());
        assert_eq!((one.1, other.1), (at(3_671), at(3_861)), "they may serve on for an hour");
        assert_eq!(one.0, other.0, "their keys are past their time");
        look_up(&mut old, "b", (210, 211));
        look_up(&mut young, "a", (91, 92));
        assert_ne!(young.rest(at(95)), old.rest(at(214)), "its limiter has counted");
    }

    #[test]
    fn who_resumes_a_rest_is_as_old_as_it_was() {
        let policy = Policy { ttl: Span::from_secs(60), ..Policy::default() };
        let mut cache: KeyCache<(), u8> = KeyCache::new(policy.clone(), 1).unwrap();
        look_up(&mut cache, "a", (10, 11));
        let (rest, holds_until) = cache.rest(at(31)).unwrap();
        assert_eq!(holds_until, Time::NEVER);
        let mut other: KeyCache<(), u8> = KeyCache::new(policy, 2).unwrap();
        other.resume((&rest, holds_until), at(-500));
        assert_eq!(other.rest(at(-500)), Some((rest, Time::NEVER)));
        let Standing::Fixed { answer: Answer::Keys(_), until } = other.standing(&class("a"), at(-500)) else {
            panic!("it has the key");
        };
        assert_eq!(until, at(-460));
    }
}
