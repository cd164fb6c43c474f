//! The cache by example: one behaviour a test.

mod libraries;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::key::Algorithm;
use crate::policy::*;

const SECOND: Span = Span::from_secs(1);

fn at(secs: i64) -> Time {
    Time::from_nanos(secs * 1_000_000_000)
}

fn class(kid: &str) -> Class {
    Class { kid: Some(kid.into()), algorithm: Algorithm::Rs256 }
}

const NAMELESS: Class = Class { kid: None, algorithm: Algorithm::Rs256 };

/// A set of keys written `kid` or `kid/version`.
fn set(keys: &[&str]) -> Arc<KeySet<()>> {
    let entry = |name: &&str| {
        let (kid, version) = name.split_once('/').unwrap_or((name, "0"));
        let version = KeyVersion(version.parse().unwrap());
        Arc::new(KeyEntry { kid: Some(kid.into()), algorithm: Algorithm::Rs256, version, key: () })
    };
    Arc::new(KeySet { keys: keys.iter().map(entry).collect(), unusable: 0 })
}

fn ok(keys: &[&str]) -> Response<()> {
    Response { status: Some(200), freshness: Freshness::UNSAID, keys: Some(set(keys)) }
}

/// A cache whose decisions are read as words.
struct Rig {
    cache: KeyCache<(), &'static str>,
    deadline: Option<Deadline>,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        Self { cache: KeyCache::new(policy, 1).unwrap(), deadline: None }
    }

    /// A cache that loaded these keys at second 0.
    fn loaded(policy: Policy, keys: &[&str]) -> Self {
        let mut rig = Self::new(policy);
        assert_eq!(rig.handle(0, Event::Preload(set(keys), Freshness::UNSAID, at(0))), Vec::<String>::new());
        rig
    }

    fn handle(&mut self, secs: i64, event: Event<(), &'static str>) -> Vec<String> {
        let mut out = Vec::new();
        self.deadline = self.cache.handle(event, at(secs), &mut out);
        out.into_iter().map(words).collect()
    }

    fn look_up(&mut self, secs: i64, kid: &str, ticket: &'static str) -> Vec<String> {
        self.handle(secs, Event::Lookup { class: class(kid), ticket })
    }

    fn bad_signature(&mut self, secs: i64, kid: &str, tried: u64, ticket: &'static str) -> Vec<String> {
        self.handle(secs, Event::BadSignature { class: class(kid), tried: KeyVersion(tried), ticket })
    }

    fn fetched(&mut self, secs: i64, fetch: u64, response: Response<()>) -> Vec<String> {
        self.handle(secs, Event::Fetched(FetchId(fetch), response))
    }
}

use std::format;
use std::string::String;

fn words(decision: Decision<(), &'static str>) -> String {
    match decision {
        Decision::Fetch(FetchId(id)) => format!("fetch {id}"),
        Decision::Cancel(FetchId(id)) => format!("cancel {id}"),
        Decision::Answer(ticket, Answer::Keys(keys)) => {
            let names =
                keys.iter().map(|entry| format!("{}/{}", entry.kid.as_ref().unwrap(), entry.version.0));
            format!("{ticket}: {}", names.collect::<Vec<_>>().join(" "))
        }
        Decision::Answer(ticket, answer) => format!("{ticket}: {answer:?}"),
    }
}

fn base() -> Policy {
    Policy {
        ttl: Span::from_secs(100),
        limiter: LimiterKind::None,
        failure_backoff: Span::ZERO,
        on_fetch_error: OnFetchError::Fail,
        ..Policy::default()
    }
}

#[test]
fn a_cold_cache_fetches_once_and_answers_all_who_wait() {
    let mut rig = Rig::new(base());
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(1, "b", "t2"), [""; 0]);
    assert_eq!(rig.fetched(2, 0, ok(&["a"])), ["t1: a/0", "t2: UnknownKid"]);
    assert_eq!(rig.look_up(3, "a", "t3"), ["t3: a/0"]);
}

#[test]
fn a_set_expires_and_is_fetched_again() {
    let mut rig = Rig::loaded(base(), &["a"]);
    assert_eq!(rig.look_up(99, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(100, "a", "t2"), ["fetch 0"]);
    assert_eq!(rig.fetched(100, 0, ok(&["b"])), ["t2: UnknownKid"], "a key gone from the set is gone");
}

#[test]
fn without_refetch_an_unknown_kid_waits_for_expiry() {
    let mut rig = Rig::loaded(Policy { on_unknown_kid: OnMiss::Reject, ..base() }, &["a"]);
    assert_eq!(rig.look_up(99, "b", "t1"), ["t1: UnknownKid"]);
    assert_eq!(rig.look_up(100, "b", "t2"), ["fetch 0"]);
}

#[test]
fn a_cooldown_after_success_refuses_what_comes_too_soon() {
    let policy = Policy { limiter: LimiterKind::Cooldown, limiter_interval: SECOND.scale(30.0), ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(29, "b", "t1"), ["t1: Limited"]);
    assert_eq!(rig.look_up(30, "b", "t2"), ["fetch 0"]);
    assert_eq!(rig.fetched(30, 0, Response::unanswered()), ["t2: Unavailable(Unanswered)"]);
    assert_eq!(rig.look_up(31, "b", "t3"), ["fetch 1"], "a failure starts no cooldown");
    assert_eq!(rig.fetched(31, 1, ok(&["a", "b"])), ["t3: b/0"]);
    assert_eq!(rig.look_up(32, "c", "t4"), ["t4: Limited"]);
}

#[test]
fn a_cooldown_after_an_attempt_counts_failures_too() {
    let policy = Policy {
        limiter: LimiterKind::Cooldown,
        limiter_interval: SECOND.scale(30.0),
        limiter_anchor: LimiterAnchor::Attempt,
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"], "the load at start was no attempt in scope");
    assert_eq!(rig.fetched(2, 0, Response::unanswered()), ["t1: Unavailable(Unanswered)"]);
    assert_eq!(rig.look_up(30, "b", "t2"), ["t2: Limited"]);
    assert_eq!(rig.look_up(31, "b", "t3"), ["fetch 1"]);
}

#[test]
fn a_cooldown_after_a_miss_starts_with_a_stray_kid() {
    let policy = Policy {
        limiter: LimiterKind::Cooldown,
        limiter_interval: SECOND.scale(10.0),
        limiter_anchor: LimiterAnchor::Miss,
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(1, 0, ok(&["a", "b"])), ["t1: b/0"]);
    assert_eq!(rig.look_up(2, "stray", "t2"), ["fetch 1"], "a fetch that brought its key is free");
    assert_eq!(rig.fetched(2, 1, ok(&["a", "b"])), ["t2: UnknownKid"]);
    assert_eq!(rig.look_up(11, "c", "t3"), ["t3: Limited"]);
    assert_eq!(rig.look_up(12, "c", "t4"), ["fetch 2"]);
}

#[test]
fn a_window_opens_at_the_first_counted_fetch() {
    let policy = Policy {
        limiter: LimiterKind::Window,
        limiter_interval: SECOND.scale(60.0),
        limiter_burst: 2,
        ..base()
    };
    let mut rig = Rig::loaded(Policy { ttl: Span::INFINITE, ..policy }, &["a"]);
    assert_eq!(rig.look_up(50, "x", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(50, 0, ok(&["a"])), ["t1: UnknownKid"]);
    assert_eq!(rig.look_up(70, "x", "t2"), ["fetch 1"]);
    assert_eq!(rig.fetched(70, 1, ok(&["a"])), ["t2: UnknownKid"]);
    assert_eq!(rig.look_up(109, "x", "t3"), ["t3: Limited"]);
    assert_eq!(
        rig.look_up(110, "x", "t4"),
        ["fetch 2"],
        "60 s after the window opened, not after the last fetch"
    );
}

#[test]
fn a_limiter_for_misses_lets_expiry_pass_and_one_for_all_does_not() {
    let policy = Policy {
        ttl: SECOND.scale(10.0),
        limiter: LimiterKind::Cooldown,
        limiter_interval: SECOND.scale(60.0),
        ..base()
    };
    let mut rig = Rig::loaded(policy.clone(), &["a"]);
    assert_eq!(rig.look_up(10, "a", "t1"), ["fetch 0"]);
    let mut rig = Rig::loaded(Policy { limiter_scope: LimiterScope::All, ..policy }, &["a"]);
    assert_eq!(rig.look_up(10, "a", "t1"), ["t1: Limited"]);
}

#[test]
fn a_refresh_ahead_makes_nobody_wait() {
    let mut rig = Rig::loaded(Policy { refresh_ahead: SECOND.scale(20.0), ..base() }, &["a"]);
    assert_eq!(rig.look_up(79, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(80, "a", "t2"), ["fetch 0", "t2: a/0"]);
    assert_eq!(rig.look_up(81, "a", "t3"), ["t3: a/0"], "one is enough");
    assert_eq!(rig.fetched(82, 0, ok(&["a/1"])), [""; 0]);
    assert_eq!(rig.look_up(161, "a", "t4"), ["t4: a/1"], "the new lifetime counts from the refresh");
}

#[test]
fn stale_keys_serve_only_when_fetching_fails_and_only_for_a_while() {
    let policy = Policy { on_fetch_error: OnFetchError::Stale, stale_for: SECOND.scale(50.0), ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(120, "a", "t1"), ["fetch 0"]);
    let down = Response { status: Some(503), freshness: Freshness::UNSAID, keys: None };
    assert_eq!(rig.fetched(121, 0, down), ["t1: a/0"]);
    assert_eq!(rig.look_up(149, "a", "t2"), ["fetch 1"]);
    assert_eq!(rig.fetched(150, 1, Response::unanswered()), ["t2: Unavailable(Unanswered)"]);
}

#[test]
fn a_back_off_spares_the_endpoint_until_a_success_forgives() {
    let policy = Policy {
        failure_backoff: SECOND.scale(10.0),
        on_fetch_error: OnFetchError::Stale,
        stale_for: Span::INFINITE,
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(1, 0, Response::unanswered()), ["t1: Unavailable(Unanswered)"]);
    assert_eq!(rig.look_up(10, "b", "t2"), ["t2: Unavailable(Unanswered)"]);
    assert_eq!(rig.handle(10, Event::Preload(set(&["a", "b"]), Freshness::UNSAID, at(10))), [""; 0]);
    assert_eq!(rig.look_up(10, "c", "t3"), ["fetch 1"], "a success ends the back-off");
    assert_eq!(rig.fetched(105, 1, Response::unanswered()), ["t3: Unavailable(Unanswered)"]);
    assert_eq!(rig.look_up(111, "a", "t4"), ["t4: a/0"], "expired, and stale serves through the back-off");
}

#[test]
fn a_fetch_is_given_up_in_time_and_its_late_answer_is_ignored() {
    let mut rig = Rig::new(Policy { fetch_timeout: SECOND.scale(5.0), ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.deadline, Some(Deadline { at: at(5), wake: Wake::FetchTimeout }));
    assert_eq!(rig.handle(4, Event::Timeout), [""; 0]);
    assert_eq!(rig.handle(5, Event::Timeout), ["cancel 0", "t1: Unavailable(TimedOut)"]);
    assert_eq!(rig.fetched(6, 0, ok(&["a"])), [""; 0]);
    assert_eq!(rig.look_up(7, "a", "t2"), ["fetch 1"]);
}

#[test]
fn the_waiting_room_is_bounded_and_empties() {
    let mut rig = Rig::new(Policy { max_waiters: 2, ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(0, "a", "t2"), [""; 0]);
    assert_eq!(rig.look_up(0, "a", "t3"), ["t3: Shed"]);
    assert_eq!(rig.fetched(1, 0, Response::unanswered()).len(), 2);
    assert_eq!(rig.look_up(2, "a", "t4"), ["fetch 1"]);
}

#[test]
fn others_who_wait_take_up_room() {
    let mut rig = Rig::new(Policy { max_waiters: 3, ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    rig.cache.others_wait(1);
    assert!(matches!(rig.cache.standing(&class("a"), at(0)), Standing::Joins { room: 1, .. }));
    assert_eq!(rig.look_up(0, "a", "t2"), [""; 0]);
    assert_eq!(rig.look_up(0, "a", "t3"), ["t3: Shed"]);
    rig.cache.others_wait(0);
    assert_eq!(rig.look_up(0, "a", "t4"), [""; 0]);
    rig.cache.others_wait(usize::MAX);
    assert_eq!(rig.look_up(0, "a", "t5"), ["t5: Shed"]);
    assert_eq!(rig.fetched(1, 0, ok(&["a"])), ["t1: a/0", "t2: a/0", "t4: a/0"]);
}

#[test]
fn coalescing_by_kid_fetches_once_per_kid() {
    let mut rig = Rig::loaded(Policy { coalescing: Coalescing::Kid, max_fetches: 2, ..base() }, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(1, "b", "t2"), [""; 0]);
    assert_eq!(rig.look_up(1, "c", "t3"), ["fetch 1"]);
    assert_eq!(rig.look_up(1, "d", "t4"), ["t4: Shed"]);
    assert_eq!(rig.fetched(2, 0, ok(&["b", "c"])), ["t1: b/0", "t2: b/0"]);
    assert_eq!(rig.look_up(2, "c", "t5"), ["t5: c/0"], "the set serves whoever asks");
}

#[test]
fn a_per_kid_store_keeps_a_removed_key_for_its_own_lifetime() {
    let mut rig = Rig::new(Policy { store: Store::PerKid, ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(0, 0, ok(&["a", "b"])), ["t1: a/0"]);
    assert_eq!(rig.look_up(50, "b", "t2"), ["fetch 1"], "only what was asked for is kept");
    assert_eq!(rig.fetched(50, 1, ok(&["b"])), ["t2: b/0"]);
    assert_eq!(rig.look_up(99, "a", "t3"), ["t3: a/0"], "although the last set no longer had it");
    assert_eq!(rig.look_up(100, "a", "t4"), ["fetch 2"]);
    assert_eq!(rig.fetched(100, 2, ok(&["b"])), ["t4: UnknownKid"]);
}

#[test]
fn a_full_per_kid_store_evicts_the_least_recently_used() {
    let policy = Policy { store: Store::PerKid, max_entries: 2, ..base() };
    let mut rig = Rig::loaded(policy, &["a", "b"]);
    assert_eq!(rig.cache.standing(&class("a"), at(1)), Standing::Acts, "a hit on the older entry moves it");
    assert!(matches!(rig.cache.standing(&class("b"), at(1)), Standing::Fixed { .. }));
    assert_eq!(rig.look_up(1, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(2, "c", "t2"), ["fetch 0"]);
    assert_eq!(rig.fetched(2, 0, ok(&["a", "b", "c"])), ["t2: c/0"]);
    assert_eq!(rig.look_up(3, "a", "t3"), ["t3: a/0"]);
    assert_eq!(rig.look_up(3, "b", "t4"), ["fetch 1"], "evicted");
}

#[test]
fn a_bad_signature_is_answered_with_other_keys_or_none() {
    let mut rig = Rig::loaded(Policy { on_bad_signature: OnMiss::Refetch, ..base() }, &["a/1"]);
    assert_eq!(rig.bad_signature(1, "a", 1, "t1"), ["fetch 0"]);
    assert_eq!(rig.bad_signature(1, "a", 1, "t2"), [""; 0]);
    assert_eq!(rig.fetched(2, 0, ok(&["a/2"])), ["t1: a/2", "t2: a/2"]);
    assert_eq!(rig.bad_signature(3, "a", 1, "t3"), ["t3: a/2"], "another version is at hand");
    assert_eq!(rig.bad_signature(4, "a", 2, "t4"), ["fetch 1"]);
    assert_eq!(rig.fetched(5, 1, ok(&["a/2"])), ["t4: NoOtherKey"]);
    assert_eq!(rig.bad_signature(6, "a", 2, "t5"), ["fetch 2"]);
    assert_eq!(rig.fetched(7, 2, Response::unanswered()), ["t5: NoOtherKey"]);

    let mut rig = Rig::loaded(base(), &["a/1"]);
    assert_eq!(rig.bad_signature(1, "a", 1, "t1"), ["t1: NoOtherKey"]);
}

#[test]
fn a_token_without_kid_gets_what_the_policy_lets_it_use() {
    let look_up = |on_missing_kid, keys: &[&str]| {
        let mut rig = Rig::loaded(Policy { on_missing_kid, ..base() }, keys);
        rig.handle(1, Event::Lookup { class: NAMELESS, ticket: "t" })
    };
    assert_eq!(look_up(OnMissingKid::Reject, &["a"]), ["t: KidMissing"]);
    assert_eq!(look_up(OnMissingKid::OnlyKey, &["a"]), ["t: a/0"]);
    assert_eq!(look_up(OnMissingKid::OnlyKey, &["a", "b"]), ["t: KidMissing"]);
    assert_eq!(look_up(OnMissingKid::ByAlg, &["a", "b"]), ["t: a/0 b/0"]);
}

#[test]
fn the_policy_decides_what_counts_as_a_success() {
    let strange = || Response { status: Some(503), ..ok(&["b"]) };
    let poisoned = || Response {
        keys: Some(Arc::new(KeySet { keys: set(&["b"]).keys.clone(), unusable: 1 })),
        ..ok(&[])
    };
    let answer = |policy: Policy, response: Response<()>| {
        let mut rig = Rig::loaded(policy, &["a"]);
        rig.look_up(1, "b", "t");
        rig.fetched(1, 0, response).remove(0)
    };
    assert_eq!(answer(base(), strange()), "t: Unavailable(Status(503))");
    assert_eq!(answer(Policy { check_status: false, ..base() }, strange()), "t: b/0");
    assert_eq!(answer(base(), poisoned()), "t: b/0");
    assert_eq!(answer(Policy { parse: Parse::Strict, ..base() }, poisoned()), "t: Unavailable(UnusableKey)");
    assert_eq!(answer(base(), ok(&[])), "t: Unavailable(EmptySet)");
    assert_eq!(answer(Policy { on_empty_set: OnEmptySet::Accept, ..base() }, ok(&[])), "t: UnknownKid");
    assert_eq!(answer(base(), Response { keys: None, ..ok(&[]) }), "t: Unavailable(NotAKeySet)");
}

#[test]
fn headers_set_the_lifetime_within_bounds() {
    let expires = |policy: Policy, freshness: Freshness| {
        let mut rig = Rig::new(policy);
        rig.look_up(0, "a", "t");
        rig.fetched(0, 0, Response { freshness, ..ok(&["a"]) });
        match rig.cache.standing(&class("a"), at(0)) {
            Standing::Fixed { until, .. } => until,
            standing => panic!("{standing:?}"),
        }
    };
    let http = Policy {
        ttl_source: TtlSource::Http,
        http_min: SECOND.scale(5.0),
        http_max: SECOND.scale(50.0),
        ..base()
    };
    let max_age = |secs| Freshness { max_age: Some(Span::from_secs(secs)), ..Freshness::UNSAID };
    assert_eq!(expires(http.clone(), max_age(20)), at(20));
    assert_eq!(expires(http.clone(), Freshness { age: SECOND.scale(8.0), ..max_age(20) }), at(12));
    assert_eq!(expires(http.clone(), max_age(3_600)), at(50));
    assert_eq!(expires(http.clone(), Freshness { no_cache: true, ..max_age(20) }), at(5));
    assert_eq!(expires(http, Freshness::UNSAID), at(100));
    assert_eq!(expires(base(), max_age(20)), at(100));
}

#[test]
fn jitter_spreads_lifetimes_and_repeats_with_its_seed() {
    let expiry = |seed| {
        let mut cache = KeyCache::<(), ()>::new(Policy { ttl_jitter: 0.5, ..base() }, seed).unwrap();
        cache.handle(Event::Preload(set(&["a"]), Freshness::UNSAID, at(0)), at(0), &mut vec![]);
        match cache.standing(&class("a"), at(0)) {
            Standing::Fixed { until, .. } => until,
            standing => panic!("{standing:?}"),
        }
    };
    let expiries: Vec<Time> = (0..20).map(expiry).collect();
    assert!(expiries.iter().all(|until| (at(100)..at(150)).contains(until)));
    let distinct: BTreeSet<_> = expiries.iter().collect();
    assert_eq!(distinct.len(), 20);
    assert_eq!(expiries, (0..20).map(expiry).collect::<Vec<_>>());
}

#[test]
fn forgetting_leaves_a_cold_cache() {
    let mut rig = Rig::loaded(base(), &["a"]);
    assert_eq!(rig.handle(1, Event::Invalidate), [""; 0]);
    assert_eq!(rig.look_up(1, "a", "t1"), ["fetch 0"]);
}
