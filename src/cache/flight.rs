//! Fetches in flight and the lookups that wait for them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Cause, FetchId};
use crate::key::{Class, KeyVersion};
use crate::policy::{Coalescing, Policy};
use crate::time::Time;

#[derive(Clone, Debug)]
pub(super) struct Waiter<T> {
    pub(super) class: Class,
    /// The keys that it was tried with in vain, if that is why it waits.
    pub(super) tried: Option<KeyVersion>,
    pub(super) ticket: T,
}

#[derive(Clone, Debug)]
pub(super) struct Flight<T> {
    pub(super) class: Class,
    pub(super) cause: Cause,
    pub(super) deadline: Time,
    pub(super) waiters: Vec<Waiter<T>>,
}

#[derive(Clone, Debug)]
pub(super) struct Flights<T> {
    flights: BTreeMap<FetchId, Flight<T>>,
    started: u64,
    waiting: usize,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { flights: BTreeMap::new(), started: 0, waiting: 0 }
    }
}

impl<T> Flights<T> {
    /// The flight that a lookup of this class waits for instead of starting its own.
    pub(super) fn joinable(&self, policy: &Policy, class: &Class) -> Option<FetchId> {
        self.flights
            .iter()
            .find(|(_, flight)| match policy.coalescing {
                Coalescing::None => false,
                Coalescing::Kid => flight.class == *class,
                Coalescing::Set => true,
            })
            .map(|(id, _)| *id)
    }

    /// Whether one is under way that refreshes this class ahead of its expiry.
    pub(super) fn refreshes(&self, policy: &Policy, class: &Class) -> bool {
        self.joinable(policy, class).is_some()
            || self
                .flights
                .values()
                .any(|flight| flight.cause == Cause::RefreshAhead && flight.class == *class)
    }

    pub(super) fn has_room(&self, policy: &Policy) -> bool {
        self.flights.len() < policy.max_concurrent_fetches()
    }

    /// How many more lookups may wait.
    pub(super) fn room_to_wait(&self, policy: &Policy) -> usize {
        (policy.max_waiters as usize).saturating_sub(self.waiting)
    }

    pub(super) fn start(&mut self, class: Class, cause: Cause, deadline: Time) -> FetchId {
        let id = FetchId(self.started);
        self.started += 1;
        self.flights.insert(id, Flight { class, cause, deadline, waiters: Vec::new() });
        id
    }

    pub(super) fn join(&mut self, id: FetchId, waiter: Waiter<T>) {
        if let Some(flight) = self.flights.get_mut(&id) {
            self.waiting += 1;
            flight.waiters.push(waiter);
        }
    }

    pub(super) fn end(&mut self, id: FetchId) -> Option<Flight<T>> {
        let flight = self.flights.remove(&id)?;
        self.waiting -= flight.waiters.len();
        Some(flight)
    }

    pub(super) fn overdue(&self, now: Time) -> Vec<FetchId> {
        self.flights.iter().filter(|(_, flight)| flight.deadline <= now).map(|(id, _)| *id).collect()
    }

    pub(super) fn deadline(&self, id: FetchId) -> Time {
        self.flights.get(&id).map_or(Time::NEVER, |flight| flight.deadline)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.flights.values().map(|flight| flight.deadline).min()
    }
}
