//! Fetches that are counted rather than listed, by the second.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::measure::{CountedFetches, Seconds};
use crate::plan::Plan;

/// The most seconds that are told apart: eleven days of them. Longer runs have longer ones.
const MAX_SECONDS: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Counter {
    start: Time,
    width: Span,
    seconds: usize,
    by_status: BTreeMap<Option<u16>, OfStatus>,
}

/// The fetches of one status.
#[derive(Debug)]
struct OfStatus {
    /// Those whose moments were drawn.
    drawn: Vec<u64>,
    /// Of those whose moments were not, if there are any: by how much more are expected in a second than in the one
    /// before, and by how much more their number varies.
    changes: Vec<(f64, f64)>,
}

impl Counter {
    /// Seconds begin with those of event time.
    pub(super) fn new(plan: &Plan) -> Self {
        let length = plan.warmup.saturating_add(plan.duration);
        let width = Span::from_secs(length.as_secs().div_ceil(MAX_SECONDS).max(1));
        let before = plan.warmup.as_nanos().div_ceil(width.as_nanos());
        let after = plan.duration.as_nanos().div_ceil(width.as_nanos());
        Self {
            start: Time::ZERO - Span::from_nanos(width.as_nanos().saturating_mul(before)),
            width,
            seconds: usize::try_from(before + after).unwrap_or(usize::MAX),
            by_status: BTreeMap::new(),
        }
    }

    /// Counts one.
    pub(super) fn add(&mut self, status: Option<u16>, at: Time) {
        let number = self.number(at);
        self.of(status).drawn[number] += 1;
    }

    /// Counts many between two moments, of which so many are expected each second, with such a variance.
    pub(super) fn spread(
        &mut self,
        status: Option<u16>,
        (from, until): (Time, Time),
        (per_second, variance): (f64, f64),
    ) {
        let width = self.width.as_secs_f64();
        let (first, last) = (self.number(from), self.number(until));
        let edges = [(first, from, 1.0), (last, until, -1.0)];
        let parts = edges.map(|(number, at, sign)| {
            let end = self.start + Span::from_nanos(self.width.as_nanos().saturating_mul(number as u64 + 1));
            (number, sign, end.since(at).as_secs_f64())
        });
        let length = self.seconds + 1;
        let changes = &mut self.of(status).changes;
        changes.resize(length, (0.0, 0.0));
        for (number, sign, rest) in parts {
            for (number, part) in [(number, rest), (number + 1, width - rest)] {
                let (expected, varies) = &mut changes[number];
                *expected += sign * per_second * part;
                *varies += sign * variance * part;
            }
        }
    }

    fn number(&self, at: Time) -> usize {
        let number = usize::try_from(at.since(self.start).as_nanos() / self.width.as_nanos());
        number.unwrap_or(usize::MAX).min(self.seconds.saturating_sub(1))
    }

    fn of(&mut self, status: Option<u16>) -> &mut OfStatus {
        let length = self.seconds;
        let new = || OfStatus { drawn: vec![0; length], changes: Vec::new() };
        self.by_status.entry(status).or_insert_with(new)
    }

    /// Draws how many of those that were spread fell into each second.
    pub(super) fn finish(self, rng: &mut ChaCha8Rng) -> CountedFetches {
        let mut all = vec![0; self.seconds];
        let mut by_status = BTreeMap::new();
        for (status, of_status) in self.by_status {
            let counts = of_status.finish(rng);
            all.iter_mut().zip(&counts).for_each(|(all, count)| *all += count);
            by_status.insert(status, with_any(&counts));
        }
        CountedFetches { start: self.start, width: self.width, all: with_any(&all), by_status }
    }
}

/// The seconds that have any.
fn with_any(counts: &[u64]) -> Seconds {
    (0..).zip(counts.iter().copied()).filter(|(_, count)| *count > 0).collect()
}

impl OfStatus {
    fn finish(mut self, rng: &mut ChaCha8Rng) -> Vec<u64> {
        let (mut expected, mut variance, mut left) = (0.0, 0.0, 0.0);
        for (count, (more, varies)) in self.drawn.iter_mut().zip(self.changes) {
            (expected, variance) = (expected + more, variance + varies);
            if expected <= NOTHING {
                continue;
            }
            let luck: f64 = StandardNormal.sample(rng);
            let came = expected + luck * f64::max(variance, 0.0).sqrt() + left;
            let more = came.round().max(0.0);
            // What rounding takes from one second it gives to the next.
            left = came - more;
            *count += more as u64;
        }
        self.drawn
    }
}

/// Less than this is what rounding leaves of sums.
const NOTHING: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::simulated;
    use crate::seed;

    fn at(millis: i64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn counted(count: impl Fn(&mut Counter)) -> Vec<u64> {
        let mut counter = Counter::new(&simulated("duration = \"6s\"\nwarmup = \"1500ms\""));
        count(&mut counter);
        let counted = counter.finish(&mut seed::generator(7, "", 0));
        assert_eq!((counted.start, counted.width), (at(-2_000), Span::from_secs(1)));
        assert_eq!(counted.all, counted.by_status[&Some(200)]);
        let mut seconds = vec![0; 8];
        counted.all.iter().for_each(|(number, count)| seconds[*number as usize] = *count);
        seconds
    }

    #[test]
    fn each_is_counted_in_its_second_and_many_in_theirs() {
        let one_each = counted(|counter| {
            [-500, 0, 999, 5_500].into_iter().for_each(|millis| counter.add(Some(200), at(millis)));
        });
        assert_eq!(one_each, [0, 1, 2, 0, 0, 0, 0, 1]);
        let many = counted(|counter| counter.spread(Some(200), (at(500), at(3_250)), (8.0, 0.0)));
        assert_eq!(many, [0, 0, 4, 8, 8, 2, 0, 0]);
        let within_one = counted(|counter| counter.spread(Some(200), (at(250), at(750)), (8.0, 0.0)));
        assert_eq!(within_one, [0, 0, 4, 0, 0, 0, 0, 0]);
        let slow = counted(|counter| counter.spread(Some(200), (at(0), at(6_000)), (0.5, 0.0)));
        assert_eq!(slow.iter().sum::<u64>(), 3, "{slow:?}");
    }
}
