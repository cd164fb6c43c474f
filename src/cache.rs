//! The JWKS cache as a pure state machine: events and the time go in, decisions and the next deadline come out.
//!
//! One door, [`KeyCache::handle`], serves every driver. [`KeyCache::standing`] says beforehand what a lookup would
//! meet, so that a driver need not ask for each one: both read the same private `decide`, so they cannot disagree.

mod decide;
mod flight;
mod keys;
mod limiter;
mod negatives;
mod published;
mod response;
mod rest;
mod shelf;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use self::decide::Step;
use self::flight::{Flight, Flights, Waiter};
use self::keys::{Index, Selection};
use self::limiter::Limiter;
use self::negatives::Negatives;
use self::shelf::{Lifetime, Shelf};
use crate::key::{Class, KeyVersion};
use crate::policy::{Coalescing, Init, OnExpiry, OnFetchError, Policy, PolicyError};
use crate::time::{Span, Time};

pub use self::keys::{KeyEntry, KeySet, Keys};
pub use self::published::Published;
pub use self::response::{FetchFailure, Freshness, Response};
pub use self::rest::Rest;

/// How long a service that does not start without keys is down before it tries again.
const RESTARTED_AFTER: Span = Span::from_secs(1);

/// Names one fetch, so that the late answer of one that was given up does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(u64);

/// What happened. `T` is the caller's ticket for a lookup; `K` verifies a signature.
#[derive(Debug)]
pub enum Event<K, T> {
    /// The service starts. Comes first, or after what is preloaded.
    Start,
    /// A token of this class asks for its keys.
    Lookup {
        /// What the token says about its key.
        class: Class,
        /// Comes back in the one [`Decision::Answer`].
        ticket: T,
    },
    /// A token's signature did not verify with the keys that a lookup answered.
    BadSignature {
        /// What the token says about its key.
        class: Class,
        /// The version of those keys.
        tried: KeyVersion,
        /// Comes back in the one [`Decision::Answer`].
        ticket: T,
    },
    /// A fetch ended. Late answers of fetches that were cancelled are welcome and ignored.
    Fetched(FetchId, Response<K>),
    /// The deadline has come. Too early does no harm.
    Timeout,
    /// Forget all keys.
    Invalidate,
    /// Behave as if a fetch had delivered these keys with such headers at that moment, which may lie before the start.
    Preload(Arc<KeySet<K>>, Freshness, Time),
}

/// What a driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<K, T> {
    /// Fetch the JWKS, and report with [`Event::Fetched`]. A driver has no time-out of its own.
    Fetch(FetchId),
    /// Give this fetch up.
    Cancel(FetchId),
    /// Answer this ticket.
    Answer(T, Answer<K>),
}

/// What a lookup is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<K> {
    /// These keys may verify the token.
    Keys(Keys<K>),
    /// The token names no key, and the policy does not guess.
    KidMissing,
    /// The token names a key that is not in the set.
    UnknownKid,
    /// The key is not at hand, and the limiter holds the fetch back.
    Limited,
    /// The key is not at hand, and fetching failed just now for this reason.
    Unavailable(FetchFailure),
    /// After a bad signature: there is no other key of that name.
    NoOtherKey,
    /// Too many lookups wait already.
    Shed,
}

impl<K> Clone for Answer<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Keys(keys) => Self::Keys(keys.clone()),
            Self::KidMissing => Self::KidMissing,
            Self::UnknownKid => Self::UnknownKid,
            Self::Limited => Self::Limited,
            Self::Unavailable(failure) => Self::Unavailable(*failure),
            Self::NoOtherKey => Self::NoOtherKey,
            Self::Shed => Self::Shed,
        }
    }
}

/// When the cache wants [`Event::Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment. Later is allowed and delays what it is for.
    pub at: Time,
    /// What it is for.
    pub wake: Wake,
}

/// Why a cache wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A fetch is to be given up.
    FetchTimeout,
    /// The limiter opens for those who wait for that.
    Limiter,
    /// The timer of the policy's `poll_interval` has run down.
    Poll,
}

/// What lookups of one class meet until something happens.
///
/// While it is [`Standing::Fixed`] or [`Standing::Joins`], any number of such lookups (as many as there is room for,
/// when they join) meets the same and leaves the standing of every class as it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing<K> {
    /// They are all answered this, until that moment, unless an event comes first.
    Fixed {
        /// The answer.
        answer: Answer<K>,
        /// The first moment at which it may be another.
        until: Time,
    },
    /// They wait for this fetch.
    Joins {
        /// The fetch.
        fetch: FetchId,
        /// How many more may wait for it.
        room: usize,
        /// When the fetch is given up at the latest.
        until: Time,
    },
    /// The next one changes the cache, so each must be handled.
    Acts,
}

/// Why a fetch is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Nothing is stored, or what is has expired.
    Expiry,
    RefreshAhead,
    Miss,
    BadSignature,
    /// The service starts, or its timer has run down.
    Timer,
}

/// Keys that a fetch brought, and when.
struct Delivery<K> {
    set: Arc<Index<K>>,
    freshness: Freshness,
    at: Time,
}

/// One cache of one validator. A copy goes its own way: what it decides to fetch is its own.
#[derive(Clone, Debug)]
pub struct KeyCache<K, T> {
    policy: Policy,
    jitter_seed: u64,
    shelf: Shelf<K>,
    limiter: Limiter,
    flights: Flights<T>,
    negatives: Negatives,
    /// The last failure, unless a success came after it.
    failed: Option<(Time, FetchFailure)>,
    /// How many fetches have failed since the last that did not.
    failures: u32,
    next_poll: Option<Time>,
    deliveries: u64,
    generation: u64,
}

impl<K, T> KeyCache<K, T> {
    /// A cold cache. `jitter_seed` decides the lengths that the policy leaves to chance, and nothing else does.
    ///
    /// # Errors
    ///
    /// When the policy contradicts itself.
    pub fn new(policy: Policy, jitter_seed: u64) -> Result<Self, PolicyError> {
        policy.check()?;
        Ok(Self {
            shelf: Shelf::new(&policy),
            policy,
            jitter_seed,
            limiter: Limiter::default(),
            flights: Flights::default(),
            negatives: Negatives::default(),
            failed: None,
            failures: 0,
            next_poll: None,
            deliveries: 0,
            generation: 0,
        })
    }

    /// The policy that it follows.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes one event, appends what is to be done to `out`, and returns when to come back with
    /// [`Event::Timeout`]. `now` never decreases from call to call.
    pub fn handle(
        &mut self,
        event: Event<K, T>,
        now: Time,
        out: &mut Vec<Decision<K, T>>,
    ) -> Option<Deadline> {
        match event {
            Event::Start => self.start_up(now, out),
            Event::Lookup { class, ticket } => {
                let waiter = self.waiter(class, None, ticket, now);
                self.look(waiter, now, out);
            }
            Event::BadSignature { class, tried, ticket } => {
                let waiter = self.waiter(class, Some(tried), ticket, now);
                self.look(waiter, now, out);
            }
            Event::Fetched(id, response) => self.finish(id, response, now, out),
            Event::Timeout => {
                self.give_up_overdue(now, out);
                self.wake_held(now, out);
                self.poll_if_due(now, out);
            }
            Event::Invalidate => {
                self.generation += 1;
                self.shelf.clear();
            }
            Event::Preload(set, freshness, at) => {
                let set = Arc::new(Index::of(set));
                let wanted = set.classes().take(self.policy.max_entries as usize).collect();
                self.keep(&Delivery { set, freshness, at }, &wanted);
            }
        }
        self.deadline()
    }

    /// From now on so many others wait as well, for whom the driver answers: that leaves less room for those who ask. A driver
    /// that has one lookup stand for many which it knows to end alike need not ask for each.
    pub const fn others_wait(&mut self, others: usize) {
        self.flights.others_wait(others);
    }

    /// When it wants [`Event::Timeout`] next.
    pub fn deadline(&self) -> Option<Deadline> {
        let timeout = self.flights.next_deadline().map(|at| Deadline { at, wake: Wake::FetchTimeout });
        let opening = self.flights.next_opening().map(|at| Deadline { at, wake: Wake::Limiter });
        let poll = self.next_poll.map(|at| Deadline { at, wake: Wake::Poll });
        [timeout, opening, poll].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    /// What a lookup of this class would meet at `now`.
    pub fn standing(&self, class: &Class, now: Time) -> Standing<K> {
        self.standing_of(self.decide(class, now), now)
    }

    /// What a token of this class would meet at `now` whose signature the keys of that version did not verify.
    pub fn standing_after(&self, class: &Class, tried: KeyVersion, now: Time) -> Standing<K> {
        self.standing_of(self.decide_again(class, tried, now), now)
    }

    fn standing_of(&self, step: Step<K>, now: Time) -> Standing<K> {
        match step {
            Step::Answer { answer, until } => Standing::Fixed { answer, until },
            Step::Join(fetch) => Standing::Joins {
                fetch,
                room: self.flights.room_to_wait(&self.policy),
                until: self.flights.joinable_until(&self.policy, fetch, now),
            },
            Step::Touch(_) | Step::Promote(_) | Step::Behind(..) | Step::Hold { .. } | Step::Start(_) => {
                Standing::Acts
            }
        }
    }

    /// Counts the changes that can change a standing: equal generations have equal [`Published`] tables.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The standings of all keys that lookups get without changing anything, for readers without a lock.
    pub fn publish(&self, now: Time) -> Published<K> {
        let fixed = self.shelf.classes().into_iter().filter_map(|class| match self.decide(&class, now) {
            Step::Answer { answer: Answer::Keys(keys), until } => Some((class, keys, until)),
            _ => None,
        });
        Published::new(fixed.collect())
    }

    fn waiter(&self, class: Class, tried: Option<KeyVersion>, ticket: T, now: Time) -> Waiter<T> {
        Waiter { class, tried, looks_again: false, patience: now + self.policy.limited_max_wait, ticket }
    }

    /// Looks for the keys of one who asks, and does what that leads to.
    fn look(&mut self, waiter: Waiter<T>, now: Time, out: &mut Vec<Decision<K, T>>) {
        let step = match waiter.tried {
            None => self.decide(&waiter.class, now),
            Some(tried) => self.decide_again(&waiter.class, tried, now),
        };
        self.carry_out(step, waiter, now, out);
    }

    /// Does what was decided for a lookup.
    fn carry_out(&mut self, step: Step<K>, waiter: Waiter<T>, now: Time, out: &mut Vec<Decision<K, T>>) {
        let waiter = Waiter { looks_again: self.looks_again(&step), ..waiter };
        match step {
            Step::Answer { answer, .. } => out.push(Decision::Answer(waiter.ticket, answer)),
            Step::Touch(keys) => {
                self.generation += 1;
                self.shelf.hit(&waiter.class);
                out.push(Decision::Answer(waiter.ticket, Answer::Keys(keys)));
            }
            Step::Promote(keys) => {
                self.generation += 1;
                let lifetime = self.lifetime(now, self.policy.ttl);
                self.shelf.promote(&waiter.class, keys.clone(), lifetime);
                out.push(Decision::Answer(waiter.ticket, Answer::Keys(keys)));
            }
            Step::Behind(answer, cause) => {
                self.shelf.hit(&waiter.class);
                self.start(Some(waiter.class), cause, now, out);
                out.push(Decision::Answer(waiter.ticket, answer));
            }
            Step::Join(id) => self.flights.join(id, waiter),
            Step::Hold { opens, .. } if opens <= waiter.patience => {
                self.generation += 1;
                self.flights.hold(opens, waiter);
            }
            Step::Hold { .. } => {
                let answer = match waiter.tried {
                    None => Answer::Limited,
                    Some(tried) => self.without_other(&waiter.class, tried, now).0,
                };
                out.push(Decision::Answer(waiter.ticket, answer));
            }
            Step::Start(cause) => {
                let id = self.start(Some(waiter.class.clone()), cause, now, out);
                self.flights.join(id, waiter);
            }
        }
    }

    /// Whether one that joins a fetch looks again when it has ended, rather than to share what it brings.
    fn looks_again(&self, step: &Step<K>) -> bool {
        let in_turn = matches!(self.policy.coalescing, Coalescing::LockRecheck | Coalescing::Serial);
        matches!(step, Step::Join(id) if in_turn || self.flights.blocking(&self.policy) == Some(*id))
    }

    fn start_up(&mut self, now: Time, out: &mut Vec<Decision<K, T>>) {
        if self.policy.init != Init::Lazy && !self.shelf.is_loaded() {
            self.start(None, Cause::Timer, now, out);
        } else if self.next_poll.is_none() && self.policy.poll_interval > Span::ZERO {
            self.next_poll = Some(now + self.policy.poll_interval);
        }
    }

    fn poll_if_due(&mut self, now: Time, out: &mut Vec<Decision<K, T>>) {
        if self.next_poll.is_none_or(|at| now < at) {
            return;
        }
        let held_back = self.held_back(Cause::Timer, now).map(|(_, until)| until);
        // The end of a fetch under way winds the timer up again.
        self.next_poll = held_back.filter(|_| self.flights.is_empty());
        if self.flights.is_empty() && held_back.is_none() {
            self.start(None, Cause::Timer, now, out);
        }
    }

    fn start(
        &mut self,
        class: Option<Class>,
        cause: Cause,
        now: Time,
        out: &mut Vec<Decision<K, T>>,
    ) -> FetchId {
        self.generation += 1;
        self.limiter.started(&self.policy, cause, now);
        let attempts = if cause == Cause::Timer { self.policy.poll_attempts } else { self.policy.attempts };
        let flight = Flight { class, started: now, attempts, waiters: Vec::new() };
        self.launch(flight, now, out)
    }

    fn launch(&mut self, flight: Flight<T>, now: Time, out: &mut Vec<Decision<K, T>>) -> FetchId {
        let id = self.flights.start(flight, now + self.policy.fetch_timeout);
        out.push(Decision::Fetch(id));
        id
    }

    fn finish(&mut self, id: FetchId, response: Response<K>, now: Time, out: &mut Vec<Decision<K, T>>) {
        let Some(flight) = self.flights.end(id) else { return };
        let freshness = response.freshness;
        match self.policy.accept(response) {
            Ok(set) => {
                let set = Arc::new(Index::of(set));
                self.deliver(flight, &Delivery { set, freshness, at: now }, out);
            }
            Err(failure) => self.fail(flight, failure, now, out),
        }
    }

    fn give_up_overdue(&mut self, now: Time, out: &mut Vec<Decision<K, T>>) {
        for id in self.flights.overdue(now) {
            out.push(Decision::Cancel(id));
            if let Some(flight) = self.flights.end(id) {
                self.fail(flight, FetchFailure::TimedOut, now, out);
            }
        }
    }

    fn deliver(&mut self, flight: Flight<T>, delivery: &Delivery<K>, out: &mut Vec<Decision<K, T>>) {
        let (later, waiters): (Vec<_>, Vec<_>) =
            flight.waiters.into_iter().partition(|waiter| waiter.looks_again);
        let wanted = waiters.iter().map(|waiter| waiter.class.clone()).chain(flight.class).collect();
        self.keep(delivery, &wanted);
        for class in &wanted {
            if !matches!(delivery.set.select(class, self.policy.on_missing_kid), Selection::Found(_)) {
                self.limiter.missed(&self.policy, delivery.at);
                self.negatives.remember(class, delivery.at, delivery.at + self.policy.negative_ttl);
            }
        }
        for waiter in waiters {
            // From the set rather than the store, where one answer may already have evicted another.
            let selection = delivery.set.select(&waiter.class, self.policy.on_missing_kid);
            let answer = match (selection, waiter.tried) {
                (Selection::Found(keys), Some(tried)) if keys.version() == tried => {
                    self.without_other(&waiter.class, tried, delivery.at).0
                }
                (Selection::Found(keys), _) => Answer::Keys(keys),
                (selection, tried) => match self.without_key(&waiter.class, &selection, delivery.at).0 {
                    Answer::Keys(keys) if Some(keys.version()) == tried => Answer::UnknownKid,
                    answer => answer,
                },
            };
            if matches!(answer, Answer::NoOtherKey) {
                self.limiter.missed(&self.policy, delivery.at);
            }
            out.push(Decision::Answer(waiter.ticket, answer));
        }
        self.look_again(later, delivery.at, out);
    }

    fn fail(&mut self, flight: Flight<T>, failure: FetchFailure, now: Time, out: &mut Vec<Decision<K, T>>) {
        self.generation += 1;
        if flight.attempts > 1 {
            self.launch(Flight { attempts: flight.attempts - 1, ..flight }, now, out);
            return;
        }
        self.failed = Some((now, failure));
        self.failures = self.failures.saturating_add(1);
        if self.policy.on_fetch_error == OnFetchError::Clear {
            self.shelf.clear();
        }
        if self.policy.failure_rearms_ttl {
            self.shelf.rearm(self.lifetime(now, self.policy.ttl));
        }
        self.next_poll = self.pause_after_failure().map(|pause| now + pause);
        let (later, waiters): (Vec<_>, Vec<_>) =
            flight.waiters.into_iter().partition(|waiter| waiter.looks_again);
        for waiter in waiters {
            let answer = self.after_failure(&waiter, failure, now);
            out.push(Decision::Answer(waiter.ticket, answer));
        }
        self.look_again(later, now, out);
    }

    /// What one gets that has waited for a fetch in vain.
    fn after_failure(&self, waiter: &Waiter<T>, failure: FetchFailure, now: Time) -> Answer<K> {
        if let Some(tried) = waiter.tried {
            return self.without_other(&waiter.class, tried, now).0;
        }
        let held = self.shelf.held(&waiter.class, now).filter(|held| now < held.lifetime.stale_until);
        match held.map(|held| held.selection) {
            Some(Selection::Found(keys)) => Answer::Keys(keys),
            _ => match self.shelf.last_known_good(&waiter.class, now) {
                Some((keys, _)) => Answer::Keys(keys),
                None => Answer::Unavailable(failure),
            },
        }
    }

    /// Those who waited for a lock have it, one after another.
    fn look_again(&mut self, waiters: Vec<Waiter<T>>, now: Time, out: &mut Vec<Decision<K, T>>) {
        for waiter in waiters {
            if self.policy.coalescing == Coalescing::Serial {
                let step = self.seek_in_turn(&waiter.class, waiter.tried, now);
                self.carry_out(step, waiter, now, out);
            } else {
                self.look(waiter, now, out);
            }
        }
    }

    /// Those who waited for the limiter look again, in the order in which they came: the first fetches, if it still has to.
    fn wake_held(&mut self, now: Time, out: &mut Vec<Decision<K, T>>) {
        for waiter in self.flights.wake(now) {
            self.generation += 1;
            self.look(waiter, now, out);
        }
    }

    /// How long the timer waits after a failure.
    fn pause_after_failure(&self) -> Option<Span> {
        let Policy { poll_interval, poll_interval_on_failure, poll_backoff_max, .. } = self.policy;
        if self.policy.init == Init::EagerFail && !self.shelf.is_loaded() {
            return Some(RESTARTED_AFTER.max(self.policy.failure_backoff));
        }
        let first =
            if poll_interval_on_failure > Span::ZERO { poll_interval_on_failure } else { poll_interval };
        let doubled = first.scale(f64::from(1_u32 << self.failures.saturating_sub(1).min(31)));
        let pause = if poll_backoff_max > first { doubled.min(poll_backoff_max) } else { first };
        (poll_interval > Span::ZERO).then_some(pause)
    }

    fn keep(&mut self, delivery: &Delivery<K>, wanted: &BTreeSet<Class>) {
        let Delivery { set, freshness, at } = delivery;
        self.generation += 1;
        self.deliveries += 1;
        let lifetime = self.lifetime(*at, self.policy.lifetime(*freshness));
        self.shelf.load(set, wanted, *at, lifetime);
        self.negatives
            .forget(|class| matches!(set.select(class, self.policy.on_missing_kid), Selection::Found(_)));
        self.limiter.succeeded(&self.policy, *at);
        self.failed = self.failed.filter(|(failed, _)| failed > at);
        self.failures = 0;
        self.next_poll = (self.policy.poll_interval > Span::ZERO).then(|| *at + self.policy.poll_interval);
    }

    /// How long what is stored at that moment may be used, with the chance of that delivery.
    fn lifetime(&self, at: Time, fresh: Span) -> Lifetime {
        let fresh = if self.policy.on_expiry == OnExpiry::Never { Span::INFINITE } else { fresh };
        let fresh = fresh.scale(1.0 + self.policy.ttl_jitter * fraction(self.jitter_seed, self.deliveries));
        let fresh_until = at + fresh;
        let ahead = self.policy.refresh_ahead.max(fresh.scale(self.policy.refresh_ahead_share));
        Lifetime {
            refresh_from: fresh_until - ahead,
            fresh_until,
            stale_until: fresh_until + self.policy.stale(),
        }
    }
}

/// A number in `0..1` that depends on nothing but its arguments (the finaliser of SplitMix64).
fn fraction(seed: u64, number: u64) -> f64 {
    let mut x = seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
