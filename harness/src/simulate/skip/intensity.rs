//! Random moments of a rate that changes as time goes on, without drawing anything anew when it does.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use keyquake_core::{Span, Time};

/// A rate, what it has come to, and those who wait for it to come to more: each for an exponential amount, which is when
/// the next event of a Poisson process of this rate happens.
#[derive(Debug)]
pub(super) struct Intensity<T> {
    per_second: f64,
    /// What the rate had come to at `at`.
    mass: f64,
    at: Time,
    waiting: BinaryHeap<Reverse<Waiter<T>>>,
    made: u64,
    /// When the first of them has waited long enough, if the rate stays as it is.
    next: Time,
}

#[derive(Debug)]
struct Waiter<T> {
    mass: f64,
    number: u64,
    what: T,
}

impl<T> Intensity<T> {
    pub(super) fn new(start: Time) -> Self {
        Self { per_second: 0.0, mass: 0.0, at: start, waiting: BinaryHeap::new(), made: 0, next: Time::NEVER }
    }

    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Since when it is this.
    pub(super) fn since(&self) -> Time {
        self.at
    }

    /// What the rate has come to. `now` is no earlier than its last change.
    pub(super) fn mass(&self, now: Time) -> f64 {
        self.mass + self.per_second * now.since(self.at).as_secs_f64()
    }

    /// From now on it is this.
    pub(super) fn set(&mut self, now: Time, per_second: f64) {
        self.mass = self.mass(now);
        self.at = now;
        self.per_second = per_second;
        self.look_ahead();
    }

    /// Waits until the rate has come to so much more.
    pub(super) fn wait(&mut self, now: Time, amount: f64, what: T) {
        self.made += 1;
        let mass = self.mass(now) + amount;
        self.waiting.push(Reverse(Waiter { mass, number: self.made, what }));
        self.look_ahead();
    }

    /// When the first has waited long enough, if the rate stays as it is; [`Time::NEVER`] when none does.
    pub(super) fn next(&self) -> Time {
        self.next
    }

    /// The first, if it has waited long enough.
    pub(super) fn due(&mut self, now: Time) -> Option<T> {
        if self.next > now {
            return None;
        }
        let first = self.waiting.pop().map(|Reverse(first)| first.what);
        self.look_ahead();
        first
    }

    fn look_ahead(&mut self) {
        self.next = match self.waiting.peek() {
            Some(Reverse(first)) if self.per_second > 0.0 => {
                let seconds = ((first.mass - self.mass) / self.per_second).max(0.0);
                self.at + Span::from_secs(1).scale(seconds)
            }
            _ => Time::NEVER,
        };
    }
}

impl<T> PartialEq for Waiter<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Waiter<T> {}

impl<T> PartialOrd for Waiter<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiter<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.mass.total_cmp(&other.mass).then(self.number.cmp(&other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn a_wait_ends_when_the_rate_has_come_to_enough_whatever_its_course() {
        let mut intensity = Intensity::new(at(0));
        intensity.set(at(0), 2.0);
        intensity.wait(at(1), 10.0, "ten");
        intensity.wait(at(1), 3.0, "three");
        assert_eq!(intensity.next(), Time::from_nanos(2_500_000_000));
        intensity.set(at(2), 0.0);
        assert_eq!((intensity.next(), intensity.due(at(5))), (Time::NEVER, None));
        intensity.set(at(6), 1.0);
        assert_eq!((intensity.due(at(6)), intensity.due(at(7))), (None, Some("three")));
        assert_eq!((intensity.next(), intensity.mass(at(14))), (at(14), 12.0));
    }
}
