//! Fetches that are counted rather than listed, by the second.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::measure::CountedFetches;
use crate::plan::Plan;

/// The most seconds that are told apart: eleven days of them. Longer runs have longer ones.
const MAX_SECONDS: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Counter {
    start: Time,
    width: Span,
    seconds: usize,
    by_status: BTreeMap<Option<u16>, Seconds>,
}

/// The fetches of one status.
#[derive(Debug)]
struct Seconds {
    /// Those whose moments were drawn.
    drawn: Vec<u64>,
    /// Of those whose moments were not: by how much more are expected in a second than in the one before, and by how
    /// much more their number varies.
    expected: Vec<f64>,
    variance: Vec<f64>,
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
        let seconds = self.of(status);
        for (number, sign, rest) in parts {
            for (changes, rate) in [(&mut seconds.expected, per_second), (&mut seconds.variance, variance)] {
                changes[number] += sign * rate * rest;
                changes[number + 1] += sign * rate * (width - rest);
            }
        }
    }

    fn number(&self, at: Time) -> usize {
        let number = usize::try_from(at.since(self.start).as_nanos() / self.width.as_nanos());
        number.unwrap_or(usize::MAX).min(self.seconds.saturating_sub(1))
    }

    fn of(&mut self, status: Option<u16>) -> &mut Seconds {
        let length = self.seconds;
        self.by_status.entry(status).or_insert_with(|| Seconds {
            drawn: vec![0; length],
            expected: vec![0.0; length + 1],
            variance: vec![0.0; length + 1],
        })
    }

    /// Draws how many of those that were spread fell into each second.
    pub(super) fn finish(self, rng: &mut ChaCha8Rng) -> CountedFetches {
        let by_status = self.by_status.into_iter().map(|(status, seconds)| (status, seconds.finish(rng)));
        CountedFetches { start: self.start, width: self.width, by_status: by_status.collect() }
    }
}

impl Seconds {
    fn finish(self, rng: &mut ChaCha8Rng) -> Vec<u64> {
        let (mut expected, mut variance, mut left) = (0.0, 0.0, 0.0);
        let changes = self.expected.iter().zip(&self.variance);
        self.drawn
            .iter()
            .zip(changes)
            .map(|(drawn, (more, varies))| {
                (expected, variance) = (expected + more, variance + varies);
                if expected <= NOTHING {
                    return *drawn;
                }
                let luck: f64 = StandardNormal.sample(rng);
                let came = expected + luck * f64::max(variance, 0.0).sqrt() + left;
                let count = came.round().max(0.0);
                // What rounding takes from one second it gives to the next.
                left = came - count;
                drawn + count as u64
            })
            .collect()
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
        let mut counted = counter.finish(&mut seed::generator(7, "", 0));
        assert_eq!((counted.start, counted.width), (at(-2_000), Span::from_secs(1)));
        counted.by_status.remove(&Some(200)).unwrap()
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
