//! What a lookup leads to, decided without changing anything.

use super::keys::{Keys, Selection};
use super::limiter;
use super::shelf::Lifetime;
use super::{Answer, Cause, FetchId, KeyCache};
use crate::cache::FetchFailure;
use crate::key::{Class, KeyVersion};
use crate::policy::{Coalescing, Init, OnExpiry, OnLimited, OnMiss, OnMissingKid, Store};
use crate::time::Time;

/// What a lookup leads to.
pub(super) enum Step<K> {
    Answer {
        answer: Answer<K>,
        until: Time,
    },
    /// Answer with these keys, which become the last to be evicted.
    Touch(Keys<K>),
    /// Answer with these keys, and keep them as an entry of their own.
    Promote(Keys<K>),
    /// Answer this, and start a fetch that nobody waits for.
    Behind(Answer<K>, Cause),
    Join(FetchId),
    /// Wait until the limiter opens, and look again.
    Hold {
        opens: Time,
        /// Until when that is what becomes of a lookup.
        until: Time,
    },
    Start(Cause),
}

impl<K, T> KeyCache<K, T> {
    /// What a lookup of this class leads to.
    pub(super) fn decide(&self, class: &Class, now: Time) -> Step<K> {
        let policy = &self.policy;
        if class.kid.is_none() && policy.on_missing_kid == OnMissingKid::Reject && !policy.missing_kid_refetch
        {
            return Step::Answer { answer: Answer::KidMissing, until: Time::NEVER };
        }
        if let Some(id) = self.flights.blocking(policy) {
            return self.wait_for(id);
        }
        let Some(held) = self.shelf.held(class, now) else { return self.without_any(class, now) };
        let fresh_until = held.lifetime.fresh_until;
        let expired = now >= fresh_until;
        match held.selection {
            Selection::Found(keys) if held.promotes => Step::Promote(keys),
            Selection::Found(keys) if expired => self.serve_expired(class, keys, held.lifetime, now),
            Selection::Found(keys) => self.serve(class, keys, held.lifetime, now),
            _ if expired && matches!(policy.on_expiry, OnExpiry::Block | OnExpiry::LeaderBlocks) => {
                self.seek(Cause::Expiry, class, now)
            }
            selection if expired => self.miss(class, &selection, Time::NEVER, now),
            selection if policy.on_expiry == OnExpiry::GateOnly => {
                let (answer, until) = self.without_key(class, &selection, now);
                Step::Answer { answer, until }.at_most_until(fresh_until)
            }
            selection => self.miss(class, &selection, fresh_until, now),
        }
    }

    /// What a token leads to whose signature the keys of that version did not verify.
    pub(super) fn decide_again(&self, class: &Class, tried: KeyVersion, now: Time) -> Step<K> {
        if let Some(id) = self.flights.blocking(&self.policy) {
            return self.wait_for(id);
        }
        if let Some((keys, until)) = self.shelf.other(class, tried, now) {
            return Step::Answer { answer: Answer::Keys(keys), until };
        }
        let (answer, until) = self.without_other(class, tried, now);
        let gate = self.shelf.held(class, now).map(|held| held.lifetime.fresh_until);
        if let (OnExpiry::GateOnly, Some(opens)) = (self.policy.on_expiry, gate.filter(|opens| now < *opens))
        {
            return Step::Answer { answer, until: until.min(opens) };
        }
        match self.policy.on_bad_signature {
            OnMiss::Reject => Step::Answer { answer, until },
            OnMiss::RefetchBackground => {
                self.behind(answer, Cause::BadSignature, class, now).at_most_until(until)
            }
            OnMiss::Refetch => match self.seek(Cause::BadSignature, class, now) {
                // The signature is bad under the key that is known; that no better one can be had now is no news.
                Step::Answer {
                    answer: Answer::Limited | Answer::Unavailable(_) | Answer::UnknownKid,
                    until: held_back,
                } => Step::Answer { answer, until: until.min(held_back) },
                Step::Hold { until: held_back, .. } if matches!(answer, Answer::Keys(_)) => {
                    Step::Answer { answer, until: until.min(held_back) }
                }
                step => step,
            },
        }
    }

    /// Keys are at hand and fresh.
    fn serve(&self, class: &Class, keys: Keys<K>, lifetime: Lifetime, now: Time) -> Step<K> {
        let Lifetime { refresh_from, fresh_until, .. } = lifetime;
        let step = if now < refresh_from {
            Step::Answer { answer: Answer::Keys(keys), until: refresh_from }
        } else {
            self.behind(Answer::Keys(keys), Cause::RefreshAhead, class, now).at_most_until(fresh_until)
        };
        self.or_touch(class, step)
    }

    /// Keys are at hand and past their time.
    fn serve_expired(&self, class: &Class, keys: Keys<K>, lifetime: Lifetime, now: Time) -> Step<K> {
        let policy = &self.policy;
        // Whoever does not lead has the old keys as long as another fetches.
        let led_until = match (policy.on_expiry, policy.coalescing) {
            (OnExpiry::LeaderBlocks, _) => {
                let leader = self.flights.joinable(policy, class, now);
                leader.map(|id| self.flights.young_until(policy, id))
            }
            (_, Coalescing::LosersCached) => (!self.flights.is_empty()).then_some(Time::NEVER),
            _ => None,
        };
        let step = match (policy.on_expiry, led_until) {
            (OnExpiry::Background, _) => self.behind(Answer::Keys(keys), Cause::Expiry, class, now),
            (OnExpiry::Block | OnExpiry::LeaderBlocks, None) => {
                let step = self.seek(Cause::Expiry, class, now);
                return if now < lifetime.stale_until {
                    step.or_stale(keys, lifetime.stale_until)
                } else {
                    step
                };
            }
            (_, until) => Step::Answer { answer: Answer::Keys(keys), until: until.unwrap_or(Time::NEVER) },
        };
        self.or_touch(class, step)
    }

    /// A hit may change which entry is evicted next.
    fn or_touch(&self, class: &Class, step: Step<K>) -> Step<K> {
        match step {
            Step::Answer { answer: Answer::Keys(keys), .. } if self.shelf.moves_on_hit(class) => {
                Step::Touch(keys)
            }
            step => step,
        }
    }

    /// Nothing was ever stored that could answer.
    fn without_any(&self, class: &Class, now: Time) -> Step<K> {
        let unavailable = || {
            let failure = self.failed.map_or(FetchFailure::Unanswered, |(_, failure)| failure);
            Step::Answer { answer: Answer::Unavailable(failure), until: Time::NEVER }
        };
        match (self.policy.store, self.policy.init) {
            (Store::PerKid | Store::PerKidOverSet, _) => {
                self.miss(class, &Selection::NotFound, Time::NEVER, now)
            }
            (Store::None, _) | (Store::Set, Init::Lazy) => self.seek(Cause::Expiry, class, now),
            (Store::Set, Init::EagerFail) => unavailable(),
            (Store::Set, Init::Async) if !self.flights.is_empty() => unavailable(),
            (Store::Set, Init::EagerTolerate | Init::Async) => match self.flights.first() {
                Some(id) => self.wait_for(id),
                None => self.miss(class, &Selection::NotFound, Time::NEVER, now),
            },
        }
    }

    /// The token's key is not among those that are stored, and that is so until `limit`.
    fn miss(&self, class: &Class, selection: &Selection<K>, limit: Time, now: Time) -> Step<K> {
        let (refusal, lasts) = self.without_key(class, selection, now);
        let limit = limit.min(lasts);
        let refuse = |until| Step::Answer { answer: refusal.clone(), until: limit.min(until) };
        if matches!(selection, Selection::KidMissing) && !self.policy.missing_kid_refetch {
            return refuse(Time::NEVER);
        }
        if let Some(until) = self.negatives.until(class, now) {
            return refuse(until);
        }
        match self.policy.on_unknown_kid {
            OnMiss::Reject => refuse(Time::NEVER),
            OnMiss::RefetchBackground => self.behind(refusal, Cause::Miss, class, now).at_most_until(limit),
            OnMiss::Refetch => match self.seek(Cause::Miss, class, now) {
                Step::Answer { answer: Answer::Limited, until }
                    if self.policy.on_limited == OnLimited::UseCached =>
                {
                    refuse(until)
                }
                Step::Answer {
                    answer: Answer::Limited | Answer::Unavailable(_) | Answer::UnknownKid,
                    until,
                }
                | Step::Hold { until, .. }
                    if matches!(refusal, Answer::Keys(_)) =>
                {
                    refuse(until)
                }
                step => step.at_most_until(limit),
            },
        }
    }

    /// What a token gets that the stored set has no key for: one of the set before, if it may still be used.
    pub(super) fn without_key(
        &self,
        class: &Class,
        selection: &Selection<K>,
        now: Time,
    ) -> (Answer<K>, Time) {
        match (self.shelf.last_known_good(class, now), selection) {
            (Some((keys, until)), _) => (Answer::Keys(keys), until),
            (None, Selection::KidMissing) => (Answer::KidMissing, Time::NEVER),
            (None, _) => (Answer::UnknownKid, Time::NEVER),
        }
    }

    /// The same for one whose signature these keys did not verify.
    pub(super) fn without_other(&self, class: &Class, tried: KeyVersion, now: Time) -> (Answer<K>, Time) {
        match self.shelf.last_known_good(class, now) {
            Some((keys, until)) if keys.version() != tried => (Answer::Keys(keys), until),
            _ => (Answer::NoOtherKey, Time::NEVER),
        }
    }

    /// Keys are wanted that only a fetch can bring.
    fn seek(&self, cause: Cause, class: &Class, now: Time) -> Step<K> {
        let shed = Step::Answer { answer: Answer::Shed, until: Time::NEVER };
        let until_it_ends = |answer| Step::Answer { answer, until: Time::NEVER };
        if self.flights.room_to_wait(&self.policy) == 0 {
            return shed;
        }
        match self.policy.coalescing {
            Coalescing::LosersFail if !self.flights.is_empty() => return until_it_ends(Answer::Limited),
            Coalescing::LosersCached if !self.flights.is_empty() => return until_it_ends(Answer::UnknownKid),
            _ => {}
        }
        if let Some(id) = self.flights.joinable(&self.policy, class, now) {
            return Step::Join(id);
        }
        if !self.flights.has_room(&self.policy) {
            return shed;
        }
        match self.held_back(cause, now) {
            Some((Answer::Limited, opens)) => self.limited(opens, now),
            Some((answer, until)) => Step::Answer { answer, until },
            None => {
                // Those who waited for the limiter come first, also when their deadline comes late.
                let opened = self.flights.next_opening().filter(|opened| *opened <= now);
                let opened = opened.filter(|_| limiter::in_scope(&self.policy, cause));
                opened.map_or(Step::Start(cause), |opens| Step::Hold { opens, until: Time::NEVER })
            }
        }
    }

    /// Only a fetch can bring what is wanted, and the limiter opens for it then.
    fn limited(&self, opens: Time, now: Time) -> Step<K> {
        let refuse = |until| Step::Answer { answer: Answer::Limited, until };
        let worth_it_from = opens - self.policy.limited_max_wait;
        // Whoever waits for the limiter has the turn, as if its fetch were under way.
        let lost = self.policy.coalescing == Coalescing::LosersFail && self.flights.holds_any();
        match self.policy.on_limited {
            OnLimited::Wait if now < worth_it_from => refuse(worth_it_from),
            OnLimited::Wait if !lost => Step::Hold { opens, until: opens },
            OnLimited::Wait | OnLimited::Reject | OnLimited::UseCached => refuse(opens),
        }
    }

    /// Whoever waited for a fetch that has ended fetches in its turn.
    pub(super) fn seek_in_turn(&self, class: &Class, tried: Option<KeyVersion>, now: Time) -> Step<K> {
        let cause = if tried.is_some() { Cause::BadSignature } else { Cause::Miss };
        self.seek(cause, class, now)
    }

    /// The answer is known, and a fetch that nobody waits for shall bring better ones.
    fn behind(&self, answer: Answer<K>, cause: Cause, class: &Class, now: Time) -> Step<K> {
        if self.flights.refreshes(&self.policy, class, now) || !self.flights.has_room(&self.policy) {
            let shared = self.flights.joinable(&self.policy, class, now);
            let until = shared.map_or(Time::NEVER, |id| self.flights.young_until(&self.policy, id));
            return Step::Answer { answer, until };
        }
        match self.held_back(cause, now) {
            Some((_, until)) => Step::Answer { answer, until },
            None => Step::Behind(answer, cause),
        }
    }

    fn wait_for(&self, id: FetchId) -> Step<K> {
        if self.flights.room_to_wait(&self.policy) == 0 {
            return Step::Answer { answer: Answer::Shed, until: Time::NEVER };
        }
        Step::Join(id)
    }

    /// Why no fetch of this cause may start now, and until when.
    pub(super) fn held_back(&self, cause: Cause, now: Time) -> Option<(Answer<K>, Time)> {
        if let Some((at, failure)) = self.failed
            && now < at + self.policy.failure_backoff
        {
            return Some((Answer::Unavailable(failure), at + self.policy.failure_backoff));
        }
        let until = self.limiter.closed_until(&self.policy, cause, now)?;
        Some((Answer::Limited, until))
    }
}

impl<K> Step<K> {
    /// While a fetch is held back, keys past their time serve instead of a refusal.
    fn or_stale(self, keys: Keys<K>, stale_until: Time) -> Self {
        match self {
            Self::Answer { answer: Answer::Limited | Answer::Unavailable(_), until }
            | Self::Hold { until, .. } => {
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
