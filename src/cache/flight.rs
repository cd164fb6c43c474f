//! Fetches in flight, and the lookups that wait for them or for a limiter.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use super::FetchId;
use crate::key::{Class, KeyVersion};
use crate::policy::{Coalescing, Policy, Readers};
use crate::time::Time;

#[derive(Clone, Debug)]
pub(super) struct Waiter<T> {
    pub(super) class: Class,
    /// The keys that it was tried with in vain, if that is why it waits.
    pub(super) tried: Option<KeyVersion>,
    /// Whether it looks again when the fetch has ended, rather than to share what it brings.
    pub(super) looks_again: bool,
    /// Until when it waits for a limiter at the latest.
    pub(super) patience: Time,
    pub(super) ticket: T,
}

#[derive(Clone, Debug)]
pub(super) struct Flight<T> {
    /// For whom it was started; nobody, if by a timer.
    pub(super) class: Option<Class>,
    pub(super) started: Time,
    /// How often it may still be tried, this time included.
    pub(super) attempts: u32,
    pub(super) waiters: Vec<Waiter<T>>,
}

#[derive(Clone, Debug)]
pub(super) struct Flights<T> {
    /// Each with when it is given up.
    flights: BTreeMap<FetchId, (Time, Flight<T>)>,
    started: u64,
    /// Those who wait for the limiter, each with when it opens, in the order in which they came.
    held: Vec<(Time, Waiter<T>)>,
    /// All who wait.
    waiting: usize,
    /// How many others do that nobody has named.
    others: usize,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { flights: BTreeMap::new(), started: 0, held: Vec::new(), waiting: 0, others: 0 }
    }
}

impl<T> Flights<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn first(&self) -> Option<FetchId> {
        self.flights.keys().next().copied()
    }

    /// The flight that every lookup waits for, whatever is at hand.
    pub(super) fn blocking(&self, policy: &Policy) -> Option<FetchId> {
        self.first().filter(|_| policy.readers_during_fetch == Readers::Block)
    }

    /// The flight that a lookup of this class waits for instead of starting its own.
    pub(super) fn joinable(&self, policy: &Policy, class: &Class, now: Time) -> Option<FetchId> {
        let suits = |(_, flight): &(Time, Flight<T>)| match policy.coalescing {
            Coalescing::None => false,
            Coalescing::Kid => flight.class.as_ref() == Some(class),
            _ => true,
        };
        let is_young = |(_, flight): &(Time, Flight<T>)| now < flight.started + policy.coalescing_max_age;
        self.flights.iter().find(|(_, it)| suits(it) && is_young(it)).map(|(id, _)| *id)
    }

    /// Until when it is young enough for that.
    pub(super) fn young_until(&self, policy: &Policy, id: FetchId) -> Time {
        self.flights.get(&id).map_or(Time::NEVER, |(_, flight)| flight.started + policy.coalescing_max_age)
    }

    /// Until when a lookup that joins it waits at the latest, or until it is too old for the next.
    pub(super) fn joinable_until(&self, policy: &Policy, id: FetchId, now: Time) -> Time {
        let deadline = self.flights.get(&id).map_or(Time::NEVER, |(deadline, _)| *deadline);
        let young = Some(self.young_until(policy, id)).filter(|until| now < *until);
        deadline.min(young.unwrap_or(Time::NEVER))
    }

    /// Whether one is under way that brings this class what a fetch in the background would.
    pub(super) fn refreshes(&self, policy: &Policy, class: &Class, now: Time) -> bool {
        let unattended = |(_, flight): &(Time, Flight<T>)| {
            flight.waiters.is_empty() && flight.class.as_ref().is_none_or(|other| other == class)
        };
        self.joinable(policy, class, now).is_some() || self.flights.values().any(unattended)
    }

    pub(super) fn has_room(&self, policy: &Policy) -> bool {
        self.flights.len() < policy.max_concurrent_fetches()
    }

    /// How many more lookups may wait.
    pub(super) fn room_to_wait(&self, policy: &Policy) -> usize {
        (policy.max_waiters as usize).saturating_sub(self.waiting.saturating_add(self.others))
    }

    pub(super) const fn others_wait(&mut self, others: usize) {
        self.others = others;
    }

    pub(super) fn start(&mut self, flight: Flight<T>, deadline: Time) -> FetchId {
        let id = FetchId(self.started);
        self.started += 1;
        self.waiting += flight.waiters.len();
        self.flights.insert(id, (deadline, flight));
        id
    }

    pub(super) fn join(&mut self, id: FetchId, waiter: Waiter<T>) {
        if let Some((_, flight)) = self.flights.get_mut(&id) {
            self.waiting += 1;
            flight.waiters.push(waiter);
        }
    }

    pub(super) fn end(&mut self, id: FetchId) -> Option<Flight<T>> {
        let (_, flight) = self.flights.remove(&id)?;
        self.waiting -= flight.waiters.len();
        Some(flight)
    }

    pub(super) fn overdue(&self, now: Time) -> Vec<FetchId> {
        self.flights.iter().filter(|(_, (deadline, _))| *deadline <= now).map(|(id, _)| *id).collect()
    }

    /// Whether anybody waits for the limiter.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn hold(&mut self, opens: Time, waiter: Waiter<T>) {
        self.waiting += 1;
        self.held.push((opens, waiter));
    }

    /// Those for whom the limiter was to open by now.
    pub(super) fn wake(&mut self, now: Time) -> Vec<Waiter<T>> {
        let (woken, held): (Vec<_>, Vec<_>) =
            mem::take(&mut self.held).into_iter().partition(|(opens, _)| *opens <= now);
        self.held = held;
        self.waiting -= woken.len();
        woken.into_iter().map(|(_, waiter)| waiter).collect()
    }

    pub(super) fn next_opening(&self) -> Option<Time> {
        self.held.iter().map(|(opens, _)| *opens).min()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.flights.values().map(|(deadline, _)| *deadline).min()
    }
}
