//! What sets real libraries apart, one behaviour a test.

use super::*;

const NOTHING: [&str; 0] = [];

fn down() -> Response<()> {
    Response { status: Some(503), ..ok(&[]) }
}

#[test]
fn a_leader_blocks_and_others_have_the_old_keys() {
    let mut rig = Rig::loaded(Policy { on_expiry: OnExpiry::LeaderBlocks, ..base() }, &["a"]);
    assert_eq!(rig.look_up(100, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(101, "a", "t2"), ["t2: a/0"]);
    assert_eq!(rig.look_up(101, "b", "t3"), NOTHING);
    assert_eq!(rig.fetched(102, 0, ok(&["b"])), ["t1: UnknownKid", "t3: b/0"]);
}

#[test]
fn expired_keys_serve_while_they_are_refreshed_in_the_background() {
    let mut rig = Rig::loaded(Policy { on_expiry: OnExpiry::Background, ..base() }, &["a"]);
    assert_eq!(rig.look_up(5_000, "a", "t1"), ["fetch 0", "t1: a/0"]);
    assert_eq!(rig.look_up(5_001, "a", "t2"), ["t2: a/0"]);
    rig.fetched(5_002, 0, ok(&["b"]));
    assert_eq!(rig.look_up(5_003, "b", "t3"), ["t3: b/0"]);
}

#[test]
fn a_gate_lets_misses_fetch_only_after_expiry() {
    let policy = Policy { on_expiry: OnExpiry::GateOnly, on_bad_signature: OnMiss::Refetch, ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.bad_signature(98, "a", 0, "t0"), ["t0: NoOtherKey"]);
    assert_eq!(rig.look_up(99, "b", "t1"), ["t1: UnknownKid"]);
    assert_eq!(rig.look_up(5_000, "a", "t2"), ["t2: a/0"]);
    assert_eq!(rig.look_up(5_000, "b", "t3"), ["fetch 0"]);
}

#[test]
fn what_never_expires_serves_for_ever() {
    let policy = Policy { on_expiry: OnExpiry::Never, on_unknown_kid: OnMiss::Reject, ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1_000_000, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(1_000_000, "b", "t2"), ["t2: UnknownKid"]);
}

#[test]
fn a_refresh_may_come_at_a_share_of_the_lifetime() {
    let mut rig = Rig::loaded(Policy { refresh_ahead_share: 0.2, ..base() }, &["a"]);
    assert_eq!(rig.look_up(79, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(80, "a", "t2"), ["fetch 0", "t2: a/0"]);
}

#[test]
fn a_miss_in_the_background_refuses_this_token_and_serves_the_next() {
    let policy = Policy { on_unknown_kid: OnMiss::RefetchBackground, ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0", "t1: UnknownKid"]);
    assert_eq!(rig.look_up(1, "b", "t2"), ["t2: UnknownKid"]);
    rig.fetched(2, 0, ok(&["a", "b"]));
    assert_eq!(rig.look_up(3, "b", "t3"), ["t3: b/0"]);
}

#[test]
fn a_bad_signature_in_the_background_does_the_same() {
    let policy = Policy { on_bad_signature: OnMiss::RefetchBackground, ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.bad_signature(1, "a", 0, "t1"), ["fetch 0", "t1: NoOtherKey"]);
    rig.fetched(2, 0, ok(&["a/1"]));
    assert_eq!(rig.look_up(3, "a", "t2"), ["t2: a/1"]);
}

#[test]
fn a_token_without_kid_may_cause_a_fetch() {
    let policy = Policy { on_missing_kid: OnMissingKid::Reject, missing_kid_refetch: true, ..base() };
    let mut rig = Rig::loaded(policy.clone(), &["a"]);
    assert_eq!(rig.handle(1, Event::Lookup { class: NAMELESS, ticket: "t1" }), ["fetch 0"]);
    assert_eq!(rig.fetched(2, 0, ok(&["a"])), ["t1: KidMissing"]);
    let mut rig = Rig::loaded(Policy { missing_kid_refetch: false, ..policy }, &["a"]);
    assert_eq!(rig.handle(1, Event::Lookup { class: NAMELESS, ticket: "t1" }), ["t1: KidMissing"]);
}

#[test]
fn a_bucket_refills_by_one_each_interval() {
    let policy = Policy {
        limiter: LimiterKind::Bucket,
        limiter_interval: Span::from_secs(10),
        limiter_burst: 2,
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    for (second, fetch) in [(1, 0), (2, 1)] {
        assert_eq!(rig.look_up(second, "b", "t"), [format!("fetch {fetch}")]);
        assert_eq!(rig.fetched(second, fetch, ok(&["a"])), ["t: UnknownKid"]);
    }
    // Full at second 1, so it gains one at 11, not at 12.
    assert_eq!(rig.look_up(10, "b", "t"), ["t: Limited"]);
    assert_eq!(rig.look_up(11, "b", "t"), ["fetch 2"]);
    assert_eq!(rig.fetched(11, 2, ok(&["a"])), ["t: UnknownKid"]);
    assert_eq!(rig.look_up(20, "b", "t"), ["t: Limited"]);
    assert_eq!(rig.look_up(21, "b", "t"), ["fetch 3"]);
}

#[test]
fn a_limited_token_may_be_told_that_its_key_is_unknown() {
    let policy = Policy {
        limiter: LimiterKind::Cooldown,
        limiter_anchor: LimiterAnchor::Success,
        on_limited: OnLimited::UseCached,
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["t1: UnknownKid"]);
    assert_eq!(rig.look_up(60, "b", "t2"), ["fetch 0"]);
}

#[test]
fn a_kid_that_was_not_brought_is_remembered_for_a_while() {
    let policy = Policy { negative_ttl: Span::from_secs(30), ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(2, 0, ok(&["a"])), ["t1: UnknownKid"]);
    assert_eq!(rig.look_up(31, "b", "t2"), ["t2: UnknownKid"]);
    assert_eq!(rig.look_up(31, "c", "t3"), ["fetch 1"]);
    assert_eq!(rig.fetched(31, 1, ok(&["a", "c"])), ["t3: c/0"]);
    assert_eq!(rig.look_up(32, "b", "t4"), ["fetch 2"]);
}

#[test]
fn what_a_fetch_brings_is_not_refused_because_it_was_missing_before() {
    let policy = Policy { store: Store::PerKid, negative_ttl: Span::from_secs(1_000), ..base() };
    let mut rig = Rig::new(policy);
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.bad_signature(0, "b", 7, "t2"), ["t2: NoOtherKey"]);
    assert_eq!(rig.fetched(1, 0, ok(&["b"])), ["t1: UnknownKid"]);
    assert_eq!(rig.look_up(2, "b", "t3"), ["fetch 1"]);
    assert_eq!(rig.look_up(2, "a", "t4"), ["t4: UnknownKid"]);
    assert_eq!(rig.fetched(3, 1, ok(&["a", "b"])), ["t3: b/0"]);
    assert_eq!(rig.look_up(4, "a", "t5"), ["fetch 2"]);
}

#[test]
fn the_set_before_the_last_serves_on_for_a_while() {
    let policy =
        Policy { last_known_good: Span::from_secs(30), on_unknown_kid: OnMiss::RefetchBackground, ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0", "t1: UnknownKid"]);
    rig.fetched(2, 0, ok(&["b"]));
    assert_eq!(rig.look_up(3, "a", "t2"), ["fetch 1", "t2: a/0"]);
    assert_eq!(rig.fetched(5, 1, down()), NOTHING);
    assert_eq!(rig.look_up(31, "a", "t3"), ["fetch 2", "t3: a/0"]);
    assert_eq!(rig.look_up(32, "a", "t4"), ["t4: UnknownKid"]);
}

#[test]
fn a_failed_fetch_may_clear_what_is_stored() {
    let policy = Policy { on_fetch_error: OnFetchError::Clear, ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(1, "a", "t2"), ["t2: a/0"]);
    assert_eq!(rig.fetched(2, 0, down()), ["t1: Unavailable(Status(503))"]);
    assert_eq!(rig.look_up(3, "a", "t3"), ["fetch 1"]);
}

#[test]
fn a_failed_fetch_may_make_old_keys_as_good_as_new() {
    let policy = Policy {
        failure_rearms_ttl: true,
        on_fetch_error: OnFetchError::Stale,
        stale_for: Span::from_secs(10),
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    assert_eq!(rig.look_up(100, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(101, 0, down()), ["t1: a/0"]);
    assert_eq!(rig.look_up(200, "a", "t2"), ["t2: a/0"]);
    assert_eq!(rig.look_up(201, "a", "t3"), ["fetch 1"]);
}

#[test]
fn a_fetch_is_tried_again_at_once_for_all_who_wait() {
    let mut rig = Rig::new(Policy { attempts: 3, ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(0, "a", "t2"), NOTHING);
    assert_eq!(rig.fetched(1, 0, down()), ["fetch 1"]);
    assert_eq!(rig.handle(6, Event::Timeout), ["cancel 1", "fetch 2"]);
    assert_eq!(rig.fetched(7, 2, ok(&["a"])), ["t1: a/0", "t2: a/0"]);
}

#[test]
fn a_timer_fetches_whoever_asks_and_slows_down_after_failures() {
    let policy = Policy {
        ttl: Span::INFINITE,
        poll_interval: Span::from_secs(60),
        poll_interval_on_failure: Span::from_secs(10),
        poll_backoff_max: Span::from_secs(25),
        on_unknown_kid: OnMiss::Reject,
        ..base()
    };
    let mut rig = Rig::loaded(policy, &["a"]);
    rig.handle(5, Event::Start);
    assert_eq!(rig.deadline, Some(Deadline { at: at(60), wake: Wake::Poll }));
    assert_eq!(rig.handle(59, Event::Timeout), NOTHING);
    assert_eq!(rig.handle(60, Event::Timeout), ["fetch 0"]);
    rig.fetched(61, 0, down());
    for (fetch, [due, ended]) in (1..).zip([[71, 71], [91, 91], [116, 116]]) {
        assert_eq!(rig.deadline.map(|deadline| deadline.at), Some(at(due)));
        assert_eq!(rig.handle(due, Event::Timeout), [format!("fetch {fetch}")]);
        rig.fetched(ended, fetch, if fetch < 3 { down() } else { ok(&["b"]) });
    }
    assert_eq!(rig.deadline, Some(Deadline { at: at(176), wake: Wake::Poll }));
    assert_eq!(rig.look_up(120, "b", "t1"), ["t1: b/0"]);
}

#[test]
fn a_timer_waits_for_a_fetch_that_is_under_way() {
    let policy = Policy { poll_interval: Span::from_secs(60), ..base() };
    let mut rig = Rig::loaded(policy, &["a"]);
    rig.handle(0, Event::Start);
    assert_eq!(rig.look_up(58, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.handle(60, Event::Timeout), NOTHING);
    rig.fetched(62, 0, ok(&["b"]));
    assert_eq!(rig.deadline, Some(Deadline { at: at(122), wake: Wake::Poll }));
}

#[test]
fn services_start_in_four_ways() {
    let started = |init| {
        let mut rig = Rig::new(Policy { init, on_unknown_kid: OnMiss::Reject, ..base() });
        let first = rig.handle(0, Event::Start);
        (rig, first)
    };
    let (mut lazy, first) = started(Init::Lazy);
    assert_eq!((first, lazy.look_up(1, "a", "t1")), (vec![], vec!["fetch 0".into()]));

    let (mut fails, first) = started(Init::EagerFail);
    assert_eq!(
        (first, fails.look_up(1, "a", "t1")),
        (vec!["fetch 0".into()], vec!["t1: Unavailable(Unanswered)".into()])
    );
    assert_eq!(fails.fetched(2, 0, down()), NOTHING);
    assert_eq!(fails.look_up(2, "a", "t2"), ["t2: Unavailable(Status(503))"]);
    assert_eq!(fails.handle(3, Event::Timeout), ["fetch 1"]);

    let (mut tolerates, first) = started(Init::EagerTolerate);
    assert_eq!((first, tolerates.look_up(1, "a", "t1")), (vec!["fetch 0".into()], vec![]));
    assert_eq!(tolerates.fetched(2, 0, down()), ["t1: Unavailable(Status(503))"]);
    assert_eq!(tolerates.look_up(3, "a", "t2"), ["t2: UnknownKid"]);

    let (mut waits_for_nothing, first) = started(Init::Async);
    assert_eq!(first, ["fetch 0"]);
    assert_eq!(waits_for_nothing.look_up(1, "a", "t1"), ["t1: Unavailable(Unanswered)"]);
    waits_for_nothing.fetched(2, 0, ok(&["a"]));
    assert_eq!(waits_for_nothing.look_up(3, "a", "t2"), ["t2: a/0"]);
}

#[test]
fn those_who_wait_for_a_lock_look_again_and_try_in_turn() {
    let policy = Policy { coalescing: Coalescing::LockRecheck, ..base() };
    let mut rig = Rig::new(policy);
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(0, "a", "t2"), NOTHING);
    assert_eq!(rig.look_up(0, "b", "t3"), NOTHING);
    assert_eq!(rig.fetched(1, 0, down()), ["t1: Unavailable(Status(503))", "fetch 1"]);
    assert_eq!(rig.fetched(2, 1, ok(&["a"])), ["t2: a/0", "fetch 2"]);
    assert_eq!(rig.fetched(3, 2, ok(&["a"])), ["t3: UnknownKid"]);
}

#[test]
fn without_a_second_look_each_fetches_in_turn() {
    let mut rig = Rig::new(Policy { coalescing: Coalescing::Serial, ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(0, "a", "t2"), NOTHING);
    assert_eq!(rig.fetched(1, 0, ok(&["a"])), ["t1: a/0", "fetch 1"]);
    assert_eq!(rig.fetched(2, 1, ok(&["a"])), ["t2: a/0"]);
}

#[test]
fn losers_do_not_wait() {
    let while_another_fetches = |coalescing| {
        let mut rig = Rig::loaded(Policy { coalescing, ..base() }, &["a"]);
        rig.look_up(1, "b", "t1");
        [rig.look_up(1, "b", "t2"), rig.look_up(100, "a", "t3")].concat()
    };
    assert_eq!(while_another_fetches(Coalescing::LosersFail), ["t2: Limited", "t3: Limited"]);
    assert_eq!(while_another_fetches(Coalescing::LosersCached), ["t2: UnknownKid", "t3: a/0"]);
}

#[test]
fn an_old_fetch_is_not_shared() {
    let mut rig = Rig::new(Policy { coalescing_max_age: SECOND, ..base() });
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(0, "a", "t2"), NOTHING);
    assert_eq!(rig.look_up(1, "a", "t3"), ["fetch 1"]);
    assert_eq!(rig.fetched(2, 1, ok(&["a"])), ["t3: a/0"]);
}

#[test]
fn readers_wait_for_the_lock_of_a_fetch() {
    let mut rig = Rig::loaded(Policy { readers_during_fetch: Readers::Block, ..base() }, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), ["fetch 0"]);
    assert_eq!(rig.look_up(1, "a", "t2"), NOTHING);
    assert_eq!(rig.cache.publish(at(1)).keys(Some("a"), Algorithm::Rs256, at(1)), None);
    assert_eq!(rig.fetched(2, 0, down()), ["t1: Unavailable(Status(503))", "t2: a/0"]);
}

#[test]
fn a_cache_without_a_store_fetches_for_each_token() {
    let mut rig = Rig::new(Policy { store: Store::None, ..base() });
    for (second, fetch) in [(0, 0), (1, 1)] {
        assert_eq!(rig.look_up(second, "a", "t"), [format!("fetch {fetch}")]);
        assert_eq!(rig.fetched(second, fetch, ok(&["a"])), ["t: a/0"]);
    }
}

#[test]
fn entries_over_a_set_are_filled_from_it_and_outlive_it() {
    let policy = Policy { store: Store::PerKidOverSet, inner_ttl: Span::from_secs(150), ..base() };
    let mut rig = Rig::new(policy);
    assert_eq!(rig.look_up(0, "a", "t1"), ["fetch 0"]);
    assert_eq!(rig.fetched(0, 0, ok(&["a", "b"])), ["t1: a/0"]);
    // From the set, with a lifetime of its own; and so is the first, once more.
    assert_eq!(rig.look_up(90, "b", "t2"), ["t2: b/0"]);
    assert_eq!(rig.look_up(140, "a", "t3"), ["t3: a/0"]);
    assert_eq!(rig.look_up(189, "b", "t4"), ["t4: b/0"]);
    assert_eq!(rig.look_up(190, "b", "t5"), ["fetch 1"]);
    assert_eq!(rig.look_up(239, "a", "t6"), ["t6: a/0"]);
}

#[test]
fn headers_may_be_ignored_when_they_are_out_of_range() {
    let stored_for = |policy: Policy, freshness| {
        let policy = Policy {
            ttl_source: TtlSource::Http,
            http_min: Span::from_secs(5),
            http_max: Span::from_secs(50),
            ..policy
        };
        let mut rig = Rig::new(policy);
        rig.look_up(0, "a", "t");
        rig.fetched(0, 0, Response { freshness, ..ok(&["a"]) });
        (1..200).find(|second| rig.look_up(*second, "a", "t") != ["t: a/0"])
    };
    let long = Freshness { max_age: Some(Span::from_secs(80)), ..Freshness::UNSAID };
    assert_eq!(stored_for(base(), long), Some(50));
    assert_eq!(stored_for(Policy { http_out_of_range: OutOfRange::Ignore, ..base() }, long), Some(100));
    let no_cache = Freshness { max_age: Some(Span::from_secs(20)), no_cache: true, ..Freshness::UNSAID };
    assert_eq!(stored_for(base(), no_cache), Some(5));
    assert_eq!(stored_for(Policy { http_no_cache: NoCache::Ignore, ..base() }, no_cache), Some(20));
}

/// One fetch in 30 s for unknown kids, of which the first was started at second 0; who needs another waits for up to 20 s.
fn waiting(policy: Policy) -> Rig {
    let mut rig = Rig::loaded(
        Policy {
            limiter: LimiterKind::Bucket,
            limiter_interval: SECOND.scale(30.0),
            limiter_burst: 1,
            on_limited: OnLimited::Wait,
            limited_max_wait: SECOND.scale(20.0),
            ..policy
        },
        &["a"],
    );
    assert_eq!(rig.look_up(0, "stray", "t0"), ["fetch 0"]);
    assert_eq!(rig.fetched(0, 0, ok(&["a"])), ["t0: UnknownKid"]);
    rig
}

#[test]
fn who_is_held_back_waits_until_the_limiter_opens_and_fetches_then() {
    let mut rig = waiting(base());
    assert_eq!(rig.look_up(9, "b", "t1"), ["t1: Limited"], "that is too long");
    assert_eq!(rig.look_up(10, "b", "t2"), NOTHING);
    assert_eq!(rig.deadline, Some(Deadline { at: at(30), wake: Wake::Limiter }));
    assert_eq!(rig.look_up(12, "c", "t3"), NOTHING, "others wait with it");
    assert_eq!(rig.look_up(12, "a", "t4"), ["t4: a/0"], "and nobody whose key is at hand");
    assert_eq!(rig.handle(29, Event::Timeout), NOTHING);
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1"]);
    assert_eq!(rig.deadline, Some(Deadline { at: at(35), wake: Wake::FetchTimeout }));
    assert_eq!(rig.look_up(31, "b", "t5"), NOTHING, "which those join who come later");
    assert_eq!(rig.fetched(31, 1, ok(&["a", "b"])), ["t2: b/0", "t3: UnknownKid", "t5: b/0"]);
    assert_eq!(rig.deadline, None);
    assert_eq!(rig.look_up(31, "c", "t6"), ["t6: Limited"]);
}

#[test]
fn who_waits_for_the_limiter_takes_a_place_among_those_who_wait() {
    let mut rig = waiting(Policy { max_waiters: 2, ..base() });
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.look_up(10, "b", "t2"), NOTHING);
    assert_eq!(rig.look_up(10, "b", "t3"), ["t3: Shed"]);
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1"]);
    assert_eq!(rig.look_up(30, "b", "t4"), ["t4: Shed"]);
    assert_eq!(rig.fetched(31, 1, ok(&["b"])), ["t1: b/0", "t2: b/0"]);
}

#[test]
fn nobody_overtakes_those_who_wait_for_the_limiter_when_their_deadline_is_late() {
    let mut rig = waiting(Policy { coalescing: Coalescing::Kid, ..base() });
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.look_up(31, "c", "t2"), NOTHING, "the limiter has opened, but for another");
    assert_eq!(rig.handle(32, Event::Timeout), ["fetch 1", "t2: Limited"]);
    assert_eq!(rig.fetched(33, 1, ok(&["b"])), ["t1: b/0"]);
}

#[test]
fn one_waits_for_the_limiter_where_losers_fail() {
    let mut rig = waiting(Policy { coalescing: Coalescing::LosersFail, ..base() });
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.look_up(11, "b", "t2"), ["t2: Limited"]);
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1"]);
    assert_eq!(rig.look_up(31, "b", "t3"), ["t3: Limited"]);
    assert_eq!(rig.fetched(31, 1, ok(&["b"])), ["t1: b/0"]);
}

#[test]
fn without_sharing_each_waits_for_its_turn_as_long_as_it_may() {
    let mut rig = waiting(Policy { coalescing: Coalescing::None, ..base() });
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.look_up(29, "c", "t2"), NOTHING);
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1", "t2: Limited"], "its next turn comes at 60 s");
    assert_eq!(rig.fetched(31, 1, ok(&["b"])), ["t1: b/0"]);
}

#[test]
fn a_fetch_for_others_wakes_nobody_but_has_brought_what_they_find_when_they_wake() {
    let mut rig = waiting(Policy { ttl: SECOND.scale(15.0), ..base() });
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.look_up(16, "a", "t2"), ["fetch 1"], "an expiry is not held back");
    assert_eq!(rig.fetched(17, 1, ok(&["a", "b"])), ["t2: a/0"]);
    assert_eq!(rig.look_up(18, "b", "t3"), ["t3: b/0"]);
    assert_eq!(rig.handle(30, Event::Timeout), ["t1: b/0"]);
}

#[test]
fn a_failure_meanwhile_is_what_they_hear_if_it_is_recent() {
    let policy = Policy { ttl: SECOND.scale(15.0), failure_backoff: SECOND.scale(5.0), ..base() };
    for (failed_at, expected) in [(20, "fetch 2"), (26, "t1: Unavailable(Unanswered)")] {
        let mut rig = waiting(policy.clone());
        assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
        assert_eq!(rig.look_up(failed_at, "a", "t2"), ["fetch 1"]);
        assert_eq!(rig.fetched(failed_at, 1, Response::unanswered()), ["t2: Unavailable(Unanswered)"]);
        assert_eq!(rig.handle(30, Event::Timeout), [expected]);
    }
}

#[test]
fn the_fetch_that_they_waited_for_may_fail() {
    let mut rig = waiting(base());
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1"]);
    assert_eq!(rig.handle(35, Event::Timeout), ["cancel 1", "t1: Unavailable(TimedOut)"]);
}

#[test]
fn a_limiter_that_closes_again_is_waited_for_again_but_no_longer_than_that() {
    let cooldown = Policy {
        limiter: LimiterKind::Cooldown,
        limiter_interval: SECOND.scale(30.0),
        on_limited: OnLimited::Wait,
        limited_max_wait: SECOND.scale(40.0),
        ttl: SECOND.scale(20.0),
        ..base()
    };
    let mut rig = Rig::loaded(cooldown, &["a"]);
    assert_eq!(rig.look_up(1, "b", "t1"), NOTHING);
    assert_eq!(rig.look_up(15, "b", "t2"), NOTHING);
    assert_eq!(rig.look_up(20, "a", "t3"), ["fetch 0"]);
    assert_eq!(rig.fetched(20, 0, ok(&["a"])), ["t3: a/0"], "which begins another cooldown");
    assert_eq!(rig.handle(30, Event::Timeout), ["t1: Limited"], "50 s are too late for it");
    assert_eq!(rig.deadline, Some(Deadline { at: at(50), wake: Wake::Limiter }));
    assert_eq!(rig.handle(50, Event::Timeout), ["fetch 1"]);
    assert_eq!(rig.fetched(50, 1, ok(&["b"])), ["t2: b/0"]);
}

#[test]
fn who_waits_for_the_limiter_waits_through_a_start_and_a_flush() {
    let mut rig = waiting(Policy { limiter_scope: LimiterScope::All, ..base() });
    assert_eq!(rig.look_up(10, "b", "t1"), NOTHING);
    assert_eq!(rig.handle(11, Event::Invalidate), NOTHING);
    assert_eq!(rig.handle(12, Event::Start), NOTHING);
    assert_eq!(rig.look_up(13, "a", "t2"), NOTHING, "its key is gone, and the limiter is for all");
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1"]);
    assert_eq!(rig.fetched(31, 1, ok(&["a", "b"])), ["t1: b/0", "t2: a/0"]);
}

#[test]
fn keys_that_may_still_serve_are_not_waited_for() {
    let stale = Policy { on_fetch_error: OnFetchError::Stale, stale_for: SECOND.scale(10.0), ..base() };
    let mut rig = waiting(Policy { ttl: SECOND.scale(15.0), limiter_scope: LimiterScope::All, ..stale });
    assert_eq!(rig.look_up(20, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(25, "a", "t2"), NOTHING);
    let mut rig = waiting(Policy { last_known_good: SECOND.scale(60.0), ..base() });
    rig.handle(5, Event::Preload(set(&["b"]), Freshness::UNSAID, at(5)));
    assert_eq!(rig.look_up(15, "a", "t1"), ["t1: a/0"]);
    assert_eq!(rig.look_up(15, "c", "t2"), NOTHING);
}

#[test]
fn a_bad_signature_waits_for_the_limiter_too_and_is_bad_in_the_end() {
    let mut rig =
        waiting(Policy { on_bad_signature: OnMiss::Refetch, coalescing: Coalescing::None, ..base() });
    assert_eq!(rig.bad_signature(5, "a", 0, "t1"), ["t1: NoOtherKey"], "the turn is too far away");
    assert_eq!(rig.bad_signature(15, "a", 0, "t2"), NOTHING);
    assert_eq!(rig.bad_signature(16, "a", 0, "t3"), NOTHING);
    assert_eq!(rig.handle(30, Event::Timeout), ["fetch 1", "t3: NoOtherKey"]);
    assert_eq!(rig.fetched(31, 1, ok(&["a/1"])), ["t2: a/1"]);
}
