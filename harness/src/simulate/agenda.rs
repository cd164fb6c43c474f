//! What will happen, in order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use keyquake_core::Time;

/// Appointments by their moments. Of two in one instant, the one that was made first comes first.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Reverse<Appointment<T>>>,
    made: u64,
}

#[derive(Debug)]
struct Appointment<T> {
    at: Time,
    number: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), made: 0 }
    }
}

impl<T> Agenda<T> {
    pub(super) fn add(&mut self, at: Time, what: T) {
        self.made += 1;
        self.heap.push(Reverse(Appointment { at, number: self.made, what }));
    }

    /// When the next thing happens.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(appointment)| appointment.at)
    }

    /// The next thing, if it happens by `now`.
    pub(super) fn due(&mut self, now: Time) -> Option<T> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(appointment)| appointment.what)
    }
}

impl<T> PartialEq for Appointment<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Appointment<T> {}

impl<T> PartialOrd for Appointment<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Appointment<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
