//! The laws of the cache, over random policies and random scripts, stated relative to the policy.
//!
//! The model here shares no code with the cache: it only watches what goes in and what comes out.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::key::{Algorithm, Kid};
use crate::policy::*;

const KIDS: [&str; 4] = ["a", "b", "c", "d"];

type Ticket = u32;
type Cache = KeyCache<(), Ticket>;

/// One step of a script. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Lookup { kid: Option<usize>, algorithm: Algorithm },
    BadSignature { kid: usize },
    Answered { fetch: usize, keys: Vec<(usize, u64)>, unusable: usize, status: u16, freshness: Freshness },
    Unanswered { fetch: usize },
    NotASet { fetch: usize },
    EarlyTimeout,
    Wake,
    Invalidate,
    Preload { keys: Vec<(usize, u64)>, freshness: Freshness, age: Span },
    Pass(Span),
    OthersWait(usize),
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![9 => Just(Algorithm::Rs256), 1 => Just(Algorithm::Es256)]
}

fn keys() -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec((0..KIDS.len(), 0..3_u64), 0..5)
}

/// Odd nanoseconds, so that no two deadlines fall together by accident.
fn span(seconds: std::ops::Range<u64>) -> impl Strategy<Value = Span> {
    (seconds, 1..1_000_u64).prop_map(|(secs, extra)| Span::from_nanos(secs * 1_000_000_000 + extra))
}

fn freshness() -> impl Strategy<Value = Freshness> {
    (prop::option::of(span(0..60)), span(0..20), prop::bool::weighted(0.1))
        .prop_map(|(max_age, age, no_cache)| Freshness { max_age, age, no_cache })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (prop::option::weighted(0.9, 0..KIDS.len()), algorithm())
            .prop_map(|(kid, algorithm)| Op::Lookup { kid, algorithm }),
        2 => (0..KIDS.len()).prop_map(|kid| Op::BadSignature { kid }),
        6 => (any::<usize>(), keys(), prop_oneof![8 => Just(0_usize), 1 => Just(1_usize)],
              prop_oneof![8 => Just(200_u16), 1 => Just(503_u16)], freshness())
            .prop_map(|(fetch, keys, unusable, status, freshness)|
                Op::Answered { fetch, keys, unusable, status, freshness }),
        1 => any::<usize>().prop_map(|fetch| Op::Unanswered { fetch }),
        1 => any::<usize>().prop_map(|fetch| Op::NotASet { fetch }),
        2 => Just(Op::EarlyTimeout),
        2 => Just(Op::Wake),
        1 => Just(Op::Invalidate),
        1 => (keys(), freshness(), span(0..60))
            .prop_map(|(keys, freshness, age)| Op::Preload { keys, freshness, age }),
        6 => span(0..20).prop_map(Op::Pass),
        1 => (0..4_usize).prop_map(Op::OthersWait),
    ]
}

prop_compose! {
    fn lifetimes()(
        store in prop_oneof![
            4 => Just(Store::Set), 4 => Just(Store::PerKid), 2 => Just(Store::PerKidOverSet), 1 => Just(Store::None)],
        inner_ttl in prop_oneof![span(1..60), Just(Span::INFINITE)],
        max_entries in 1..4_u32,
        ttl in prop_oneof![8 => span(1..60), 1 => Just(Span::INFINITE)],
        ttl_source in prop_oneof![Just(TtlSource::Fixed), Just(TtlSource::Http)],
        ttl_jitter in prop_oneof![Just(0.0), 0.0..1.0],
        on_expiry in prop_oneof![
            4 => Just(OnExpiry::Block), 1 => Just(OnExpiry::LeaderBlocks), 1 => Just(OnExpiry::Background),
            1 => Just(OnExpiry::GateOnly), 1 => Just(OnExpiry::Never)],
        refresh_ahead in prop_oneof![Just(Span::ZERO), span(1..30)],
        refresh_ahead_share in prop_oneof![4 => Just(0.0), 1 => 0.0..1.0],
        on_fetch_error in prop_oneof![
            2 => Just(OnFetchError::Fail), 2 => Just(OnFetchError::Stale), 1 => Just(OnFetchError::Clear)],
        stale_for in span(0..60),
    ) -> Policy {
        let refresh_ahead = if refresh_ahead < ttl { refresh_ahead } else { Span::ZERO };
        Policy {
            on_expiry: if store == Store::PerKidOverSet { OnExpiry::Block } else { on_expiry },
            store, max_entries, inner_ttl, ttl, ttl_source, ttl_jitter, refresh_ahead, refresh_ahead_share,
            on_fetch_error, stale_for, http_max: Span::from_secs(100), ..Policy::default()
        }
    }
}

fn on_miss() -> impl Strategy<Value = OnMiss> {
    prop_oneof![1 => Just(OnMiss::Reject), 4 => Just(OnMiss::Refetch), 1 => Just(OnMiss::RefetchBackground)]
}

/// Zero as often as not.
fn perhaps(seconds: std::ops::Range<u64>) -> impl Strategy<Value = Span> {
    prop_oneof![Just(Span::ZERO), span(seconds)]
}

prop_compose! {
    /// What goes with the whole set alone.
    fn timers()(
        base in lifetimes(),
        init in prop_oneof![
            3 => Just(Init::Lazy), 1 => Just(Init::EagerFail), 1 => Just(Init::EagerTolerate), 1 => Just(Init::Async)],
        (poll_interval, poll_interval_on_failure, poll_backoff_max) in (perhaps(1..40), perhaps(1..40), perhaps(1..90)),
        last_known_good in perhaps(1..40),
    ) -> Policy {
        if base.store != Store::Set {
            return base;
        }
        Policy { init, poll_interval, poll_interval_on_failure, poll_backoff_max, last_known_good, ..base }
    }
}

prop_compose! {
    fn waiting()(
        base in timers(),
        coalescing in prop_oneof![
            1 => Just(Coalescing::None), 1 => Just(Coalescing::Kid), 3 => Just(Coalescing::Set),
            1 => Just(Coalescing::LockRecheck), 1 => Just(Coalescing::Serial), 1 => Just(Coalescing::LosersFail),
            1 => Just(Coalescing::LosersCached)],
        coalescing_max_age in prop_oneof![3 => Just(Span::INFINITE), 1 => span(0..10)],
        readers_during_fetch in prop_oneof![3 => Just(Readers::Pass), 1 => Just(Readers::Block)],
        (max_waiters, max_fetches) in (1..5_u32, 1..4_u32),
        fetch_timeout in span(1..20),
        attempts in prop_oneof![3 => Just(1_u32), 1 => 2..4_u32],
        failure_rearms_ttl in prop::bool::weighted(0.1),
    ) -> Policy {
        Policy {
            coalescing, coalescing_max_age, readers_during_fetch, max_waiters, max_fetches, fetch_timeout, attempts,
            // The laws cannot tell whose try a fetch is.
            poll_attempts: attempts,
            failure_rearms_ttl, ..base
        }
    }
}

prop_compose! {
    fn policy()(
        base in waiting(),
        (on_unknown_kid, on_bad_signature) in (on_miss(), on_miss()),
        on_missing_kid in prop_oneof![
            Just(OnMissingKid::Reject), Just(OnMissingKid::OnlyKey), Just(OnMissingKid::ByAlg)],
        (missing_kid_refetch, negative_ttl) in (any::<bool>(), perhaps(1..40)),
        limiter in prop_oneof![
            Just(LimiterKind::None), Just(LimiterKind::Cooldown), Just(LimiterKind::Window), Just(LimiterKind::Bucket)],
        (limiter_interval, limiter_burst) in (span(1..40), 1..4_u32),
        limiter_anchor in prop_oneof![
            Just(LimiterAnchor::Success), Just(LimiterAnchor::Attempt), Just(LimiterAnchor::Miss)],
        limiter_scope in prop_oneof![Just(LimiterScope::Miss), Just(LimiterScope::All)],
        failure_backoff in prop_oneof![Just(Span::ZERO), span(0..20)],
        (check_status, strict, accept_empty) in any::<(bool, bool, bool)>(),
        on_limited in prop_oneof![
            Just(OnLimited::Reject), Just(OnLimited::UseCached), Just(OnLimited::Wait)],
        limited_max_wait in span(1..60),
    ) -> Policy {
        let per_kid = matches!(base.store, Store::PerKid | Store::PerKidOverSet);
        let never_loads = per_kid && on_unknown_kid == OnMiss::Reject;
        Policy {
            on_unknown_kid: if never_loads { OnMiss::Refetch } else { on_unknown_kid },
            on_bad_signature, on_missing_kid, missing_kid_refetch, negative_ttl, limiter, limiter_interval,
            limiter_burst, limiter_anchor, limiter_scope, failure_backoff, check_status,
            on_limited, limited_max_wait,
            parse: if strict { Parse::Strict } else { Parse::Skip },
            on_empty_set: if accept_empty { OnEmptySet::Accept } else { OnEmptySet::Fail },
            ..base
        }
    }
}

fn class(kid: usize) -> Class {
    Class { kid: Some(KIDS[kid % KIDS.len()].into()), algorithm: Algorithm::Rs256 }
}

fn every_class() -> Vec<Class> {
    let nameless = [Algorithm::Rs256, Algorithm::Es256].map(|algorithm| Class { kid: None, algorithm });
    (0..KIDS.len()).map(class).chain(nameless).collect()
}

fn key_set(keys: &[(usize, u64)], unusable: usize) -> Arc<KeySet<()>> {
    let entry = |&(kid, version): &(usize, u64)| {
        let kid = KIDS[kid % KIDS.len()];
        Arc::new(KeyEntry {
            kid: Some(kid.into()),
            algorithm: Algorithm::Rs256,
            version: KeyVersion(version),
            key: (),
        })
    };
    Arc::new(KeySet { keys: keys.iter().map(entry).collect(), unusable })
}

/// Watches one cache and fails the test when a law is broken.
struct Watched {
    cache: Cache,
    policy: Policy,
    now: Time,
    next_ticket: Ticket,
    /// How many wait whom the cache was only told of.
    others: usize,
    /// Each open lookup, and the keys that it was tried with in vain.
    open: BTreeMap<Ticket, (Class, Option<KeyVersion>)>,
    /// When each was asked.
    asked: BTreeMap<Ticket, Time>,
    in_flight: Vec<FetchId>,
    ended: Vec<FetchId>,
    /// When each key was last delivered by a fetch that the policy takes for a success.
    delivered: BTreeMap<(Kid, KeyVersion), Time>,
    deadline: Option<Deadline>,
    started: Vec<Time>,
    /// The last failure, unless a success came after it.
    failed: Option<Time>,
    /// How often each fetch has been tried, those included that it goes on from.
    tries: BTreeMap<FetchId, u32>,
    /// A fetch has just failed that was tried so often, and will be again.
    tried: Option<u32>,
}

impl Watched {
    fn new(policy: Policy) -> Self {
        let cache = KeyCache::new(policy.clone(), 7).expect("the strategy makes consistent policies");
        Self {
            cache,
            policy,
            now: Time::ZERO,
            next_ticket: 0,
            others: 0,
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            in_flight: Vec::new(),
            ended: Vec::new(),
            delivered: BTreeMap::new(),
            deadline: None,
            started: Vec::new(),
            failed: None,
            tries: BTreeMap::new(),
            tried: None,
        }
    }

    fn handle(&mut self, event: Event<(), Ticket>) -> Result<Vec<Decision<(), Ticket>>, TestCaseError> {
        let mut out = Vec::new();
        self.deadline = self.cache.handle(event, self.now, &mut out);
        for decision in &out {
            match decision {
                Decision::Fetch(id) => {
                    prop_assert!(
                        !self.in_flight.contains(id) && !self.ended.contains(id),
                        "fetch ids are new"
                    );
                    self.in_flight.push(*id);
                    let tried = self.tried.take();
                    self.tries.insert(*id, 1 + tried.unwrap_or(0));
                    if tried.is_none() {
                        self.check_held_back()?;
                    }
                }
                Decision::Cancel(id) => {
                    prop_assert_eq!(self.tried, None, "a try is missing");
                    self.failed_at(*id);
                    self.land(*id)?;
                }
                Decision::Answer(ticket, answer) => {
                    let asked = self.open.remove(ticket);
                    prop_assert!(asked.is_some(), "ticket {ticket} answered twice, or never asked");
                    self.check_served(&asked.unwrap(), answer)?;
                }
            }
        }
        prop_assert_eq!(self.tried, None, "a try is missing");
        prop_assert!(self.in_flight.len() <= self.policy.max_concurrent_fetches(), "fetches in flight");
        prop_assert!(self.open.len() <= self.policy.max_waiters as usize, "waiters");
        let waits_for = |wake| self.deadline.is_some_and(|deadline| deadline.wake == wake);
        prop_assert!(!waits_for(Wake::Limiter) || self.policy.on_limited == OnLimited::Wait);
        prop_assert!(
            self.open.is_empty() || !self.in_flight.is_empty() || self.may_hold(),
            "nobody waits for nothing"
        );
        prop_assert!(
            waits_for(Wake::Poll)
                || waits_for(Wake::Limiter)
                || self.deadline.is_some() != self.in_flight.is_empty(),
            "every fetch has its deadline"
        );
        self.check_published()?;
        Ok(out)
    }

    /// Whether somebody may wait for the limiter, and will be woken for it.
    fn may_hold(&self) -> bool {
        self.policy.on_limited == OnLimited::Wait && self.deadline.is_some()
    }

    /// A key is served only if a fetch delivered it, and no longer ago than the policy allows.
    fn check_served(
        &self,
        (class, tried): &(Class, Option<KeyVersion>),
        answer: &Answer<()>,
    ) -> Result<(), TestCaseError> {
        if *answer == Answer::Shed {
            let crowded = self.open.len() + self.others >= self.policy.max_waiters as usize;
            let busy = self.in_flight.len() >= self.policy.max_concurrent_fetches();
            let may_not_join = matches!(self.policy.coalescing, Coalescing::None | Coalescing::Kid)
                || !self.policy.coalescing_max_age.is_infinite();
            prop_assert!(crowded || (busy && may_not_join), "shed although there was room");
        }
        let Answer::Keys(keys) = answer else { return Ok(()) };
        prop_assert_ne!(Some(keys.version()), *tried, "answered with the keys that had failed");
        for entry in keys.iter() {
            prop_assert_eq!(entry.algorithm, class.algorithm);
            prop_assert!(class.kid.is_none() || class.kid == entry.kid);
            let at = self.delivered.get(&(entry.kid.clone().unwrap(), entry.version));
            prop_assert!(at.is_some(), "{:?} was never delivered", entry);
            let age = self.now.since(*at.unwrap());
            prop_assert!(age <= self.policy.max_service_age(), "{:?} served at the age of {age}", entry);
        }
        Ok(())
    }

    /// A fetch starts only when neither the back-off nor the limiter forbids it.
    fn check_held_back(&mut self) -> Result<(), TestCaseError> {
        let policy = &self.policy;
        self.started.push(self.now);
        prop_assert!(self.failed.is_none_or(|at| self.now >= at + policy.failure_backoff), "backing off");
        if policy.limiter_scope == LimiterScope::Miss {
            return Ok(());
        }
        let apart = match (policy.limiter, policy.limiter_anchor) {
            (LimiterKind::Cooldown, LimiterAnchor::Attempt) => 1,
            // Windows do not overlap, so of three in a row the first and the last are an interval apart.
            (LimiterKind::Window, _) => 2 * policy.limiter_burst as usize,
            _ => return Ok(()),
        };
        if let Some(earlier) = self.started.len().checked_sub(apart + 1) {
            prop_assert!(
                self.now >= self.started[earlier] + policy.limiter_interval,
                "the limiter was closed"
            );
        }
        Ok(())
    }

    /// A fetch did not succeed: it is tried again, or that was all.
    fn failed_at(&mut self, id: FetchId) {
        let tries = self.tries[&id];
        if tries < self.policy.attempts {
            self.tried = Some(tries);
            return;
        }
        self.failed = Some(self.now);
        if self.policy.on_fetch_error == OnFetchError::Clear {
            self.delivered.clear();
        }
    }

    /// What readers see without a lock is what the cache would say.
    fn check_published(&self) -> Result<(), TestCaseError> {
        let published = self.cache.publish(self.now);
        for class in every_class() {
            let seen =
                published.keys(class.kid.as_ref().map(Kid::as_str), class.algorithm, self.now).cloned();
            let said = match self.cache.standing(&class, self.now) {
                Standing::Fixed { answer: Answer::Keys(keys), .. } => Some(keys),
                _ => None,
            };
            prop_assert_eq!(seen, said);
        }
        Ok(())
    }

    fn land(&mut self, id: FetchId) -> Result<(), TestCaseError> {
        prop_assert!(self.in_flight.contains(&id), "{id:?} is not in flight");
        self.in_flight.retain(|other| *other != id);
        self.ended.push(id);
        Ok(())
    }

    fn ask(&mut self, class: &Class) -> Ticket {
        self.next_ticket += 1;
        self.open.insert(self.next_ticket, (class.clone(), None));
        self.asked.insert(self.next_ticket, self.now);
        self.next_ticket
    }

    fn standings(&self) -> Vec<Standing<()>> {
        every_class().iter().map(|class| self.cache.standing(class, self.now)).collect()
    }

    fn look_up(&mut self, class: Class) -> Result<(), TestCaseError> {
        let standing = self.cache.standing(&class, self.now);
        let ticket = self.ask(&class);
        self.agrees(standing, ticket, Event::Lookup { class, ticket })
    }

    /// What was said of an event agrees with what `handle` does.
    fn agrees(
        &mut self,
        standing: Standing<()>,
        ticket: Ticket,
        event: Event<(), Ticket>,
    ) -> Result<(), TestCaseError> {
        let (before, generation) = (self.standings(), self.cache.generation());
        let out = self.handle(event)?;
        match standing {
            Standing::Fixed { answer, until } => {
                prop_assert!(until > self.now, "a standing that has run out");
                prop_assert_eq!(out, vec![Decision::Answer(ticket, answer)]);
                prop_assert_eq!(before, self.standings(), "an answer that was fixed changed a standing");
                prop_assert_eq!(generation, self.cache.generation());
            }
            Standing::Joins { fetch, room, .. } => {
                prop_assert!(out.is_empty() && self.open.contains_key(&ticket) && room > 0);
                prop_assert!(self.in_flight.contains(&fetch));
                let waiting = self.open.len() + self.others;
                prop_assert!(waiting <= self.policy.max_waiters as usize, "others leave room for nobody");
                let after = self.standings();
                prop_assert!(
                    before.iter().zip(&after).all(|(old, new)| same_but_for_room(old, new, room == 1)),
                    "{before:?} became {after:?}"
                );
            }
            Standing::Acts => prop_assert!(generation < self.cache.generation()),
        }
        Ok(())
    }

    /// A standing holds until the moment that it names, if nothing happens.
    fn check_until(&self, span: Span) -> Result<(), TestCaseError> {
        let later = self.now + span;
        let published = self.cache.publish(self.now);
        for class in every_class() {
            let now = self.cache.standing(&class, self.now);
            if let Standing::Fixed { until, .. } | Standing::Joins { until, .. } = now
                && later < until
            {
                prop_assert_eq!(now, self.cache.standing(&class, later));
            }
            let tried = KeyVersion(0);
            let again = self.cache.standing_after(&class, tried, self.now);
            if let Standing::Fixed { until, .. } | Standing::Joins { until, .. } = again
                && later < until
            {
                prop_assert_eq!(again, self.cache.standing_after(&class, tried, later));
            }
            if let Some(keys) = published.keys(class.kid.as_ref().map(Kid::as_str), class.algorithm, later) {
                let answer = Answer::Keys(keys.clone());
                let standing = self.cache.standing(&class, later);
                let agrees = matches!(standing, Standing::Fixed { answer: fixed, .. } if fixed == answer);
                prop_assert!(agrees, "what was published has changed without an event");
            }
        }
        Ok(())
    }

    fn fetched(&mut self, fetch: usize, response: Response<()>) -> Result<(), TestCaseError> {
        // One in eight answers comes late, for a fetch that has ended already.
        let late = fetch.is_multiple_of(8) && !self.ended.is_empty();
        let ids = if late { &self.ended } else { &self.in_flight };
        let Some(id) = ids.get(fetch % ids.len().max(1)).copied() else { return Ok(()) };
        if late {
            let before = self.standings();
            let out = self.handle(Event::Fetched(id, response))?;
            prop_assert!(out.is_empty(), "a late answer did something");
            prop_assert_eq!(before, self.standings());
            return Ok(());
        }
        if self.takes(&response) {
            self.failed = None;
            self.deliver(response.keys.as_deref().unwrap(), self.now);
        } else {
            self.failed_at(id);
        }
        self.land(id)?;
        self.handle(Event::Fetched(id, response))?;
        Ok(())
    }

    /// The policy's idea of success, said again.
    fn takes(&self, response: &Response<()>) -> bool {
        let Some(keys) = &response.keys else { return false };
        response.status.is_some_and(|status| status == 200 || !self.policy.check_status)
            && (keys.unusable == 0 || self.policy.parse == Parse::Skip)
            && (!keys.keys.is_empty() || self.policy.on_empty_set == OnEmptySet::Accept)
    }

    fn deliver(&mut self, set: &KeySet<()>, at: Time) {
        for entry in &set.keys {
            let last = self.delivered.entry((entry.kid.clone().unwrap(), entry.version)).or_insert(at);
            *last = at.max(*last);
        }
    }

    fn early_timeout(&mut self) -> Result<(), TestCaseError> {
        if self.deadline.is_some_and(|deadline| deadline.at <= self.now) {
            return Ok(());
        }
        let before = (self.standings(), self.deadline, self.cache.generation());
        let out = self.handle(Event::Timeout)?;
        prop_assert!(out.is_empty(), "a timeout that came early did {out:?}");
        prop_assert_eq!(before, (self.standings(), self.deadline, self.cache.generation()));
        Ok(())
    }

    fn wake(&mut self) -> Result<(), TestCaseError> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        self.now = self.now.max(deadline.at);
        let out = self.handle(Event::Timeout)?;
        let overdue = matches!(out.first(), Some(Decision::Cancel(_)));
        prop_assert!(overdue || deadline.wake != Wake::FetchTimeout, "a deadline without a reason");
        let limit = self.policy.limited_max_wait;
        let waited_long = |ticket: &Ticket| self.asked[ticket] + limit <= self.now;
        prop_assert!(
            !self.in_flight.is_empty() || !self.open.keys().any(waited_long),
            "somebody waits for the limiter for longer than the policy lets"
        );
        prop_assert!(self.deadline.is_none_or(|next| next.at > self.now), "deadlines move on");
        Ok(())
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Lookup { kid, algorithm } => {
                self.look_up(Class { kid: kid.map(|kid| KIDS[kid].into()), algorithm })
            }
            Op::BadSignature { kid } => self.bad_signature(class(kid)),
            Op::Answered { fetch, keys, unusable, status, freshness } => {
                let keys = Some(key_set(&keys, unusable));
                self.fetched(fetch, Response { status: Some(status), freshness, keys })
            }
            Op::Unanswered { fetch } => self.fetched(fetch, Response::unanswered()),
            Op::NotASet { fetch } => {
                self.fetched(fetch, Response { status: Some(200), freshness: Freshness::UNSAID, keys: None })
            }
            Op::EarlyTimeout => self.early_timeout(),
            Op::Wake => self.wake(),
            Op::Invalidate => self.handle(Event::Invalidate).map(drop),
            Op::Preload { keys, freshness, age } => {
                let set = key_set(&keys, 0);
                self.deliver(&set, self.now - age);
                self.failed = self.failed.filter(|failed| *failed > self.now - age);
                self.handle(Event::Preload(set, freshness, self.now - age)).map(drop)
            }
            Op::Pass(span) => {
                self.check_until(span)?;
                self.now = self.now + span;
                Ok(())
            }
            Op::OthersWait(others) => {
                self.others = others;
                self.cache.others_wait(others);
                Ok(())
            }
        }
    }

    /// After a bad signature, only other keys are an answer.
    fn bad_signature(&mut self, class: Class) -> Result<(), TestCaseError> {
        let Standing::Fixed { answer: Answer::Keys(keys), .. } = self.cache.standing(&class, self.now) else {
            return Ok(());
        };
        let tried = keys.version();
        let ticket = self.ask(&class);
        self.open.insert(ticket, (class.clone(), Some(tried)));
        let may_bring_others = self.policy.on_bad_signature != OnMiss::Reject
            || self.policy.last_known_good > Span::ZERO
            || self.policy.store == Store::PerKidOverSet;
        let standing = self.cache.standing_after(&class, tried, self.now);
        let at_once = matches!(standing, Standing::Fixed { answer: Answer::NoOtherKey | Answer::Shed, .. });
        prop_assert!(at_once || may_bring_others, "{standing:?}");
        self.agrees(standing, ticket, Event::BadSignature { class, tried, ticket })
    }
}

/// Joining uses up room, and the last one to join leaves none: then lookups that would wait are shed.
fn same_but_for_room(old: &Standing<()>, new: &Standing<()>, last: bool) -> bool {
    match (old, new) {
        (Standing::Joins { fetch, room, until }, Standing::Joins { fetch: f, room: r, until: u }) => {
            fetch == f && until == u && room - 1 == *r
        }
        (Standing::Joins { .. } | Standing::Acts, Standing::Fixed { answer: Answer::Shed, .. }) => last,
        (Standing::Fixed { answer, .. }, Standing::Fixed { answer: Answer::Shed, .. })
            if last
                && matches!(
                    answer,
                    Answer::Limited
                        | Answer::Unavailable(_)
                        | Answer::Keys(_)
                        | Answer::UnknownKid
                        | Answer::KidMissing
                ) =>
        {
            true
        }
        _ => old == new,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn every_script_keeps_the_laws(policy in policy(), script in prop::collection::vec(op(), 1..80)) {
        let mut watched = Watched::new(policy);
        watched.handle(Event::Start)?;
        for op in script {
            watched.step(op)?;
        }
        // Let every fetch run into its time-out, in turn: then nobody waits any more.
        for _ in 0..500 {
            if watched.open.is_empty() {
                break;
            }
            watched.wake()?;
        }
        prop_assert!(watched.open.is_empty(), "{} tickets were never answered", watched.open.len());
    }
}

/// A cache that is only played, and whose fetches are named by their order.
struct Played {
    cache: Cache,
    now: Time,
    fetches: Vec<FetchId>,
    tickets: Ticket,
}

impl Played {
    fn new(policy: Policy, now: Time) -> Self {
        let cache = KeyCache::new(policy, 7).expect("the strategy makes consistent policies");
        Self { cache, now, fetches: Vec::new(), tickets: 0 }
    }

    /// Plays a step. Returns what was decided, when it wants to be woken, and what every class would meet.
    fn step(&mut self, op: &Op) -> (Vec<String>, Vec<String>) {
        let decided = self.event(op).map(|event| self.handle(event)).unwrap_or_default();
        let met = every_class().iter().map(|class| self.met(class)).collect();
        (decided, met)
    }

    fn event(&mut self, op: &Op) -> Option<Event<(), Ticket>> {
        let fetched = |fetch: &usize| {
            let last = self.fetches.len().checked_sub(1)?;
            Some(self.fetches[last - fetch % self.fetches.len().min(3)])
        };
        let unanswered = |fetch: &usize| Some(Event::Fetched(fetched(fetch)?, Response::unanswered()));
        let ticket = self.tickets;
        self.tickets += 1;
        match op {
            Op::Lookup { kid, algorithm } => {
                let class = Class { kid: kid.map(|kid| KIDS[kid].into()), algorithm: *algorithm };
                Some(Event::Lookup { class, ticket })
            }
            Op::BadSignature { kid } => {
                Some(Event::BadSignature { class: class(*kid), tried: KeyVersion(0), ticket })
            }
            Op::Answered { fetch, keys, unusable, status, freshness } => {
                let keys = Some(key_set(keys, *unusable));
                Some(Event::Fetched(
                    fetched(fetch)?,
                    Response { status: Some(*status), freshness: *freshness, keys },
                ))
            }
            Op::Unanswered { fetch } | Op::NotASet { fetch } => unanswered(fetch),
            Op::EarlyTimeout => Some(Event::Timeout),
            Op::Wake => {
                self.now = self.now.max(self.cache.deadline()?.at);
                Some(Event::Timeout)
            }
            Op::Invalidate => Some(Event::Invalidate),
            Op::Preload { keys, freshness, .. } => {
                Some(Event::Preload(key_set(keys, 0), *freshness, self.now))
            }
            Op::Pass(span) => {
                self.now = self.now + *span;
                None
            }
            // How a cache rests says nothing of those who wait.
            Op::OthersWait(_) => None,
        }
    }

    fn handle(&mut self, event: Event<(), Ticket>) -> Vec<String> {
        let mut out = Vec::new();
        let deadline = self.cache.handle(event, self.now, &mut out);
        let deadline = deadline.map(|deadline| (deadline.at.since(self.now), deadline.wake));
        let mut decided = vec![format!("{deadline:?}")];
        for decision in out {
            decided.push(match decision {
                Decision::Fetch(id) => {
                    self.fetches.push(id);
                    "fetch".into()
                }
                Decision::Cancel(id) => format!("cancel {:?}", self.place(id)),
                Decision::Answer(ticket, answer) => format!("{ticket}: {answer:?}"),
            });
        }
        decided
    }

    /// How many fetches began after this one.
    fn place(&self, id: FetchId) -> Option<usize> {
        self.fetches.iter().rev().position(|other| *other == id)
    }

    fn met(&self, class: &Class) -> String {
        let left = |until: Time| (until < Time::NEVER).then(|| until.since(self.now));
        let one = |standing| match standing {
            Standing::Fixed { answer, until } => format!("{answer:?} for {:?}", left(until)),
            Standing::Joins { fetch, room, until } => {
                format!("joins {:?} ({room}) for {:?}", self.place(fetch), left(until))
            }
            Standing::Acts => "acts".into(),
        };
        let again = self.cache.standing_after(class, KeyVersion(0), self.now);
        one(self.cache.standing(class, self.now)) + ", " + &one(again)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn who_resumes_a_rest_does_what_the_other_goes_on_to_do(
        policy in policy(),
        before in prop::collection::vec(op(), 1..40),
        after in prop::collection::vec(op(), 1..40),
        elsewhen in -1_000_000_i64..1_000_000,
    ) {
        let policy = Policy { ttl_jitter: 0.0, ..policy };
        let mut cache = Played::new(policy.clone(), Time::ZERO);
        cache.handle(Event::Start);
        for op in before {
            cache.step(&op);
        }
        for _ in 0..40 {
            if cache.cache.rest(cache.now).is_some() {
                break;
            }
            // Fetches under way run into their time-outs.
            cache.step(&Op::Wake);
        }
        let Some((rest, holds_until)) = cache.cache.rest(cache.now) else { return Ok(()) };
        let mut other = Played::new(policy, Time::from_nanos(elsewhen * 1_000_003));
        let holds_until = holds_until.seen_from(cache.now, other.now);
        other.cache.resume((&rest, holds_until), other.now);
        (other.tickets, cache.fetches) = (cache.tickets, Vec::new());
        for op in after {
            prop_assert_eq!(cache.step(&op), other.step(&op));
        }
        let seen = |played: &Played| {
            let (rest, holds_until) = played.cache.rest(played.now)?;
            Some((rest, holds_until.seen_from(played.now, Time::ZERO)))
        };
        prop_assert_eq!(seen(&cache), seen(&other));
    }
}
