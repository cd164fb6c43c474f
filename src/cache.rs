//! The JWKS cache as a pure state machine: events and the time go in, decisions and the next deadline come out.
//!
//! One door, [`KeyCache::handle`], serves every driver. [`KeyCache::standing`] says beforehand what a lookup would
//! meet, so that a driver need not ask for each one: both read the same private `decide`, so they cannot disagree.

mod flight;
mod keys;
mod limiter;
mod published;
mod response;
mod shelf;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use self::flight::{Flight, Flights, Waiter};
use self::keys::{Index, Selection};
use self::limiter::Limiter;
use self::shelf::{Lifetime, Shelf};
use crate::key::{Class, KeyVersion};
use crate::policy::{OnFetchError, OnMiss, OnMissingKid, Policy, PolicyError, Store};
use crate::time::{Span, Time};

pub use self::keys::{KeyEntry, KeySet, Keys};
pub use self::published::Published;
pub use self::response::{FetchFailure, Freshness, Response};

/// Names one fetch, so that the late answer of one that was given up does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(u64);

/// What happened. `T` is the caller's ticket for a lookup; `K` verifies a signature.
#[derive(Debug)]
pub enum Event<K, T> {
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
    /// Behave as if a fetch had delivered these keys at that moment, which may lie before the start.
    Preload(Arc<KeySet<K>>, Time),
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
}

/// Keys that a fetch brought, and when.
struct Delivery<K> {
    set: Arc<Index<K>>,
    freshness: Freshness,
    at: Time,
}

/// What a lookup leads to, decided without changing anything.
enum Step<K> {
    Answer {
        answer: Answer<K>,
        until: Time,
    },
    /// Answer with these keys, which become the last to be evicted.
    Touch(Keys<K>),
    /// Answer with these keys, and start a fetch that nobody waits for.
    Refresh(Keys<K>),
    Join(FetchId),
    Start(Cause),
}

/// One cache of one validator. A copy goes its own way: what it decides to fetch is its own.
#[derive(Clone, Debug)]
pub struct KeyCache<K, T> {
    policy: Policy,
    jitter_seed: u64,
    shelf: Shelf<K>,
    limiter: Limiter,
    flights: Flights<T>,
    failed: Option<(Time, FetchFailure)>,
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
            failed: None,
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
            Event::Lookup { class, ticket } => {
                let step = self.decide(&class, now);
                self.carry_out(step, Waiter { class, tried: None, ticket }, now, out);
            }
            Event::BadSignature { class, tried, ticket } => {
                let step = self.decide_again(&class, tried, now);
                self.carry_out(step, Waiter { class, tried: Some(tried), ticket }, now, out);
            }
            Event::Fetched(id, response) => self.finish(id, response, now, out),
            Event::Timeout => self.give_up_overdue(now, out),
            Event::Invalidate => {
                self.generation += 1;
                self.shelf.clear();
            }
            Event::Preload(set, at) => {
                let set = Arc::new(Index::of(set));
                let wanted = set.classes().take(self.policy.max_entries as usize).collect();
                self.keep(&Delivery { set, freshness: Freshness::UNSAID, at }, &wanted);
            }
        }
        self.flights.next_deadline().map(|at| Deadline { at, wake: Wake::FetchTimeout })
    }

    /// What a lookup of this class would meet at `now`.
    pub fn standing(&self, class: &Class, now: Time) -> Standing<K> {
        self.standing_of(self.decide(class, now))
    }

    /// What a token of this class would meet at `now` whose signature the keys of that version did not verify.
    pub fn standing_after(&self, class: &Class, tried: KeyVersion, now: Time) -> Standing<K> {
        self.standing_of(self.decide_again(class, tried, now))
    }

    fn standing_of(&self, step: Step<K>) -> Standing<K> {
        match step {
            Step::Answer { answer, until } => Standing::Fixed { answer, until },
            Step::Join(fetch) => Standing::Joins {
                fetch,
                room: self.flights.room_to_wait(&self.policy),
                until: self.flights.deadline(fetch),
            },
            Step::Touch(_) | Step::Refresh(_) | Step::Start(_) => Standing::Acts,
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

    /// Does what was decided for a lookup.
    fn carry_out(&mut self, step: Step<K>, waiter: Waiter<T>, now: Time, out: &mut Vec<Decision<K, T>>) {
        match step {
            Step::Answer { answer, .. } => out.push(Decision::Answer(waiter.ticket, answer)),
            Step::Touch(keys) => {
                self.generation += 1;
                self.shelf.hit(&waiter.class);
                out.push(Decision::Answer(waiter.ticket, Answer::Keys(keys)));
            }
            Step::Refresh(keys) => {
                self.shelf.hit(&waiter.class);
                self.start(waiter.class, Cause::RefreshAhead, now, out);
                out.push(Decision::Answer(waiter.ticket, Answer::Keys(keys)));
            }
            Step::Join(id) => self.flights.join(id, waiter),
            Step::Start(cause) => {
                let id = self.start(waiter.class.clone(), cause, now, out);
                self.flights.join(id, waiter);
            }
        }
    }

    /// What a lookup of this class leads to.
    fn decide(&self, class: &Class, now: Time) -> Step<K> {
        if class.kid.is_none() && self.policy.on_missing_kid == OnMissingKid::Reject {
            return Step::Answer { answer: Answer::KidMissing, until: Time::NEVER };
        }
        let Some(held) = self.shelf.held(class) else {
            let cause = match self.policy.store {
                Store::Set => Cause::Expiry,
                Store::PerKid => Cause::Miss,
            };
            return self.seek(cause, class, now);
        };
        let Lifetime { fresh_until, stale_until } = held.lifetime;
        if now >= fresh_until {
            return match held.selection {
                Selection::Found(keys) if now < stale_until => {
                    self.seek(Cause::Expiry, class, now).or_stale(keys, stale_until)
                }
                _ => self.seek(Cause::Expiry, class, now),
            };
        }
        match held.selection {
            Selection::Found(keys) => self.serve(class, keys, fresh_until, now),
            Selection::KidMissing => Step::Answer { answer: Answer::KidMissing, until: fresh_until },
            Selection::NotFound => match self.policy.on_unknown_kid {
                OnMiss::Reject => Step::Answer { answer: Answer::UnknownKid, until: fresh_until },
                OnMiss::Refetch => self.seek(Cause::Miss, class, now).at_most_until(fresh_until),
            },
        }
    }

    /// What a token leads to whose signature the keys of that version did not verify.
    fn decide_again(&self, class: &Class, tried: KeyVersion, now: Time) -> Step<K> {
        if let Some(held) = self.shelf.held(class)
            && now < held.lifetime.fresh_until
            && let Selection::Found(keys) = held.selection
            && keys.version() != tried
        {
            return Step::Answer { answer: Answer::Keys(keys), until: held.lifetime.fresh_until };
        }
        let step = match self.policy.on_bad_signature {
            OnMiss::Reject => Step::Answer { answer: Answer::NoOtherKey, until: Time::NEVER },
            OnMiss::Refetch => self.seek(Cause::BadSignature, class, now),
        };
        match step {
            // The signature is bad under the key that is known; that no better one can be had now is no news.
            Step::Answer { answer: Answer::Limited | Answer::Unavailable(_), until } => {
                Step::Answer { answer: Answer::NoOtherKey, until }
            }
            step => step,
        }
    }

    /// Keys are at hand and fresh.
    fn serve(&self, class: &Class, keys: Keys<K>, fresh_until: Time, now: Time) -> Step<K> {
        let refresh_from = fresh_until - self.policy.refresh_ahead;
        let may_refresh = !self.flights.refreshes(&self.policy, class) && self.flights.has_room(&self.policy);
        if now >= refresh_from && may_refresh {
            match self.held_back(Cause::RefreshAhead, now) {
                None => return Step::Refresh(keys),
                Some(_) if self.shelf.moves_on_hit(class) => return Step::Touch(keys),
                Some((_, until)) => {
                    return Step::Answer { answer: Answer::Keys(keys), until: until.min(fresh_until) };
                }
            }
        }
        if self.shelf.moves_on_hit(class) {
            return Step::Touch(keys);
        }
        let until = if now < refresh_from { refresh_from } else { fresh_until };
        Step::Answer { answer: Answer::Keys(keys), until }
    }

    /// Keys are wanted that only a fetch can bring.
    fn seek(&self, cause: Cause, class: &Class, now: Time) -> Step<K> {
        let shed = Step::Answer { answer: Answer::Shed, until: Time::NEVER };
        if self.flights.room_to_wait(&self.policy) == 0 {
            return shed;
        }
        if let Some(id) = self.flights.joinable(&self.policy, class) {
            return Step::Join(id);
        }
        if !self.flights.has_room(&self.policy) {
            return shed;
        }
        match self.held_back(cause, now) {
            Some((answer, until)) => Step::Answer { answer, until },
            None => Step::Start(cause),
        }
    }

    /// Why no fetch of this cause may start now, and until when.
    fn held_back(&self, cause: Cause, now: Time) -> Option<(Answer<K>, Time)> {
        if let Some((at, failure)) = self.failed
            && now < at + self.policy.failure_backoff
        {
            return Some((Answer::Unavailable(failure), at + self.policy.failure_backoff));
        }
        let until = self.limiter.closed_until(&self.policy, cause, now)?;
        Some((Answer::Limited, until))
    }

    fn start(&mut self, class: Class, cause: Cause, now: Time, out: &mut Vec<Decision<K, T>>) -> FetchId {
        self.generation += 1;
        self.limiter.started(&self.policy, cause, now);
        let id = self.flights.start(class, cause, now + self.policy.fetch_timeout);
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
        let wanted = flight.waiters.iter().map(|waiter| waiter.class.clone()).chain([flight.class]).collect();
        self.keep(delivery, &wanted);
        for waiter in flight.waiters {
            // From the set rather than the store, where one answer may already have evicted another.
            let answer = match delivery.set.select(&waiter.class, self.policy.on_missing_kid) {
                Selection::Found(keys) if waiter.tried == Some(keys.version()) => Answer::NoOtherKey,
                Selection::Found(keys) => Answer::Keys(keys),
                Selection::NotFound => Answer::UnknownKid,
                Selection::KidMissing => Answer::KidMissing,
            };
            if !matches!(answer, Answer::Keys(_)) {
                self.limiter.missed(&self.policy, delivery.at);
            }
            out.push(Decision::Answer(waiter.ticket, answer));
        }
    }

    fn fail(&mut self, flight: Flight<T>, failure: FetchFailure, now: Time, out: &mut Vec<Decision<K, T>>) {
        self.generation += 1;
        self.failed = Some((now, failure));
        for waiter in flight.waiters {
            let held = self.shelf.held(&waiter.class).filter(|held| now < held.lifetime.stale_until);
            let answer = match held.map(|held| held.selection) {
                _ if waiter.tried.is_some() => Answer::NoOtherKey,
                Some(Selection::Found(keys)) => Answer::Keys(keys),
                _ => Answer::Unavailable(failure),
            };
            out.push(Decision::Answer(waiter.ticket, answer));
        }
    }

    fn keep(&mut self, delivery: &Delivery<K>, wanted: &BTreeSet<Class>) {
        let Delivery { set, freshness, at } = delivery;
        self.generation += 1;
        self.deliveries += 1;
        let stretch = 1.0 + self.policy.ttl_jitter * fraction(self.jitter_seed, self.deliveries);
        let fresh_until = *at + self.policy.lifetime(*freshness).scale(stretch);
        let stale_for = match self.policy.on_fetch_error {
            OnFetchError::Fail => Span::ZERO,
            OnFetchError::Stale => self.policy.stale_for,
        };
        self.shelf.load(set, wanted, Lifetime { fresh_until, stale_until: fresh_until + stale_for });
        self.limiter.succeeded(&self.policy, *at);
        self.failed = self.failed.filter(|(failed, _)| failed > at);
    }
}

impl<K> Step<K> {
    /// While a fetch is held back, keys past their time serve instead of a refusal.
    fn or_stale(self, keys: Keys<K>, stale_until: Time) -> Self {
        match self {
            Self::Answer { answer: Answer::Limited | Answer::Unavailable(_), until } => {
                Self::Answer { answer: Answer::Keys(keys), until: until.min(stale_until) }
            }
            step => step,
        }
    }

    fn at_most_until(self, limit: Time) -> Self {
        match self {
            Self::Answer { answer, until } => Self::Answer { answer, until: until.min(limit) },
            step => step,
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
