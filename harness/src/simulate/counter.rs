//! Fetches that are counted rather than listed, in bins of a second or less.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::measure::{Bins, CountedFetches};
use crate::plan::Plan;

/// The lengths that bins may have: the first with which there are few enough, so that a worst second is found wherever it begins.
const WIDTHS_MS: [u64; 3] = [100, 200, 500];
const FEW_BINS: u64 = 100_000;
/// The most bins: eleven days of seconds. Longer runs have longer ones.
const MAX_BINS: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Counter {
    start: Time,
    width: Span,
    bins: usize,
    by_status: Vec<(Option<u16>, OfStatus)>,
}

/// The fetches of one status.
#[derive(Debug)]
struct OfStatus {
    /// Those whose moments were drawn, but for whole multiples of [`FULL`].
    drawn: Vec<u8>,
    /// How many of these multiples each bin has that has any.
    full: BTreeMap<usize, u64>,
    /// Of those whose moments were not, if there are any: by how much more are expected in a bin than in the one
    /// before, and by how much more their number varies.
    changes: Vec<(f64, f64)>,
}

impl Counter {
    /// Bins begin with the seconds of event time.
    pub(super) fn new(plan: &Plan) -> Self {
        let length = plan.warmup.saturating_add(plan.duration);
        let fine = WIDTHS_MS
            .map(Span::from_millis)
            .into_iter()
            .find(|width| length.as_nanos() / width.as_nanos() <= FEW_BINS);
        let width = fine.unwrap_or(Span::from_secs(length.as_secs().div_ceil(MAX_BINS).max(1)));
        let before = plan.warmup.as_nanos().div_ceil(width.as_nanos());
        let after = plan.duration.as_nanos().div_ceil(width.as_nanos());
        Self {
            start: Time::ZERO - Span::from_nanos(width.as_nanos().saturating_mul(before)),
            width,
            bins: usize::try_from(before + after).unwrap_or(usize::MAX),
            by_status: Vec::new(),
        }
    }

    /// Counts one, so many seconds after a moment.
    pub(super) fn add(&mut self, status: Option<u16>, at: Time, seconds: f64) {
        let (offset, width) = (at.since(self.start).as_secs_f64(), self.width.as_secs_f64());
        let number = (((offset + seconds) / width) as usize).min(self.bins.saturating_sub(1));
        let it = self.of(status);
        it.drawn[number] = it.drawn[number].wrapping_add(1);
        if it.drawn[number] == 0 {
            *it.full.entry(number).or_default() += 1;
        }
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
        let length = self.bins + 1;
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
        number.unwrap_or(usize::MAX).min(self.bins.saturating_sub(1))
    }

    fn of(&mut self, status: Option<u16>) -> &mut OfStatus {
        let place = self.by_status.iter().position(|(known, _)| *known == status).unwrap_or_else(|| {
            let drawn = vec![0; self.bins];
            self.by_status.push((status, OfStatus { drawn, full: BTreeMap::new(), changes: Vec::new() }));
            self.by_status.len() - 1
        });
        &mut self.by_status[place].1
    }

    /// Draws how many of those that were spread fell into each bin.
    pub(super) fn finish(mut self, rng: &mut ChaCha8Rng) -> CountedFetches {
        self.by_status.sort_by_key(|(status, _)| *status);
        let by_status: BTreeMap<Option<u16>, Bins> =
            self.by_status.into_iter().map(|(status, it)| (status, it.finish(rng))).collect();
        CountedFetches { start: self.start, width: self.width, all: together(by_status.values()), by_status }
    }
}

/// What each bin has in any of these.
fn together<'s>(all: impl ExactSizeIterator<Item = &'s Bins>) -> Bins {
    let only = all.len() == 1;
    let mut bins: Bins = all.flatten().copied().collect();
    if !only {
        bins.sort_unstable();
        bins.dedup_by(|(number, more), (kept, count)| {
            let is_same = number == kept;
            *count += if is_same { *more } else { 0 };
            is_same
        });
    }
    bins
}

impl OfStatus {
    /// The bins that have any.
    fn finish(self, rng: &mut ChaCha8Rng) -> Bins {
        let (mut expected, mut variance, mut left) = (0.0, 0.0, 0.0);
        let mut changes = self.changes.into_iter();
        let bins = self.drawn.iter().enumerate().map(|(number, drawn)| {
            let mut count = u64::from(*drawn);
            if let Some((more, varies)) = changes.next() {
                (expected, variance) = (expected + more, variance + varies);
                if expected > NOTHING {
                    let luck: f64 = StandardNormal.sample(rng);
                    let came = expected + luck * f64::max(variance, 0.0).sqrt() + left;
                    // What rounding takes from one bin it gives to the next.
                    count += came.round().max(0.0) as u64;
                    left = came - came.round().max(0.0);
                }
            }
            (number, count)
        });
        let full = |number: usize| self.full.get(&number).map_or(0, |times| times * FULL);
        let any = bins.filter(|(number, count)| *count > 0 || self.full.contains_key(number));
        any.map(|(number, count)| (number as u64, count + full(number))).collect()
    }
}

/// How many a number of eight bits cannot tell from none.
const FULL: u64 = 1 << u8::BITS;
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
        assert_eq!((counted.start, counted.width), (at(-1_500), Span::from_millis(100)));
        assert_eq!(counted.all, counted.by_status[&Some(200)]);
        let mut seconds = vec![0; 8];
        // Of the seconds of event time; the first begins before the warm-up.
        counted.all.iter().for_each(|(number, count)| seconds[(*number as usize + 5) / 10] += *count);
        seconds
    }

    #[test]
    fn each_is_counted_in_its_second_and_many_in_theirs() {
        let one_each = counted(|counter| {
            [-500, 0, 999, 5_500]
                .into_iter()
                .for_each(|millis| counter.add(Some(200), at(-1_000), (millis + 1_000) as f64 / 1e3));
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
