//! Fetches that are counted rather than listed, in bins of a second or less.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

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

/// Counts fetches of one status.
pub(super) struct Counting<'c> {
    fetches: &'c mut OfStatus,
    /// The length of a bin, and how long after the first begins they are told of, in seconds.
    width: f64,
    offset: f64,
}

/// The fetches of one status.
#[derive(Debug)]
struct OfStatus {
    /// Those whose moments were drawn: none only where there are none.
    drawn: Vec<u8>,
    /// How many more there are in bins that have more than fit into eight bits.
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

    /// Where fetches of a status are counted, by how long after a moment they begin.
    pub(super) fn of(&mut self, status: Option<u16>, since: Time) -> Counting<'_> {
        let place = self.by_status.iter().position(|(known, _)| *known == status).unwrap_or_else(|| {
            let drawn = vec![0; self.bins.next_multiple_of(WORD)];
            self.by_status.push((status, OfStatus { drawn, full: BTreeMap::new(), changes: Vec::new() }));
            self.by_status.len() - 1
        });
        Counting {
            fetches: &mut self.by_status[place].1,
            width: self.width.as_secs_f64(),
            offset: since.since(self.start).as_secs_f64(),
        }
    }

    /// Draws how many of those that were spread fell into each bin.
    pub(super) fn finish(mut self, rng: &mut ChaCha8Rng) -> CountedFetches {
        self.by_status.sort_by_key(|(status, _)| *status);
        let by_status: BTreeMap<Option<u16>, Bins> =
            self.by_status.into_iter().map(|(status, it)| (status, it.finish(rng))).collect();
        let together = (by_status.len() > 1).then(|| together(by_status.values()));
        CountedFetches { start: self.start, width: self.width, by_status, together }
    }
}

impl Counting<'_> {
    /// Counts one.
    pub(super) fn add(&mut self, seconds: f64) {
        let number = self.number(self.offset + seconds);
        let Some(drawn) = self.fetches.drawn.get_mut(number) else { return };
        if *drawn == u8::MAX {
            *self.fetches.full.entry(number).or_default() += u64::from(*drawn);
            *drawn = 0;
        }
        *drawn += 1;
    }

    /// Counts many that begin between so many seconds, of which so many are expected each second, with such a variance.
    pub(super) fn spread(&mut self, (from, until): (f64, f64), (per_second, variance): (f64, f64)) {
        let length = self.fetches.drawn.len() + 1;
        self.fetches.changes.resize(length, (0.0, 0.0));
        for (at, sign) in [(self.offset + from, 1.0), (self.offset + until, -1.0)] {
            let number = self.number(at);
            let rest = (number + 1) as f64 * self.width - at;
            for (number, part) in [(number, rest), (number + 1, self.width - rest)] {
                let Some((expected, varies)) = self.fetches.changes.get_mut(number) else { continue };
                *expected += sign * per_second * part;
                *varies += sign * variance * part;
            }
        }
    }

    /// The number of the bin that lies so many seconds after the first begins.
    fn number(&self, seconds: f64) -> usize {
        // There are fewer bins than 32 bits count, and to these a number of seconds is cast in one step.
        ((seconds / self.width) as u32 as usize).min(self.fetches.drawn.len().saturating_sub(1))
    }
}

/// What each bin has in any of these.
fn together<'s>(all: impl Iterator<Item = &'s Bins>) -> Bins {
    let mut bins: Bins = all.flatten().copied().collect();
    bins.sort_unstable();
    bins.dedup_by(|(number, more), (kept, count)| {
        let is_same = number == kept;
        *count += if is_same { *more } else { 0 };
        is_same
    });
    bins
}

impl OfStatus {
    /// The bins that have any.
    fn finish(self, rng: &mut ChaCha8Rng) -> Bins {
        if self.full.is_empty() && self.changes.is_empty() {
            return self.drawn();
        }
        let (mut spread, mut full) = (self.spread(rng), self.full.iter().peekable());
        let counts = self.drawn.iter().enumerate().map(|(number, drawn)| {
            let full = full.next_if(|(bin, _)| **bin == number).map_or(0, |(_, more)| *more);
            (number as u64, u64::from(*drawn) + full + spread.next().unwrap_or_default())
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// The bins that have any whose moments were drawn. Most have none, and are passed over by the word.
    fn drawn(&self) -> Bins {
        let mut bins = Bins::new();
        for (word, drawn) in self.drawn.as_chunks::<WORD>().0.iter().enumerate() {
            if *drawn == [0; WORD] {
                continue;
            }
            for (place, drawn) in drawn.iter().enumerate() {
                if *drawn > 0 {
                    bins.push(((word * WORD + place) as u64, u64::from(*drawn)));
                }
            }
        }
        bins
    }

    /// Draws how many of those whose moments were not drawn fell into each bin, if there are any.
    fn spread(&self, rng: &mut ChaCha8Rng) -> impl Iterator<Item = u64> {
        let (mut expected, mut variance, mut left) = (0.0, 0.0, 0.0);
        self.changes.iter().map(move |(more, varies)| {
            (expected, variance) = (expected + more, variance + varies);
            if expected <= NOTHING {
                return 0;
            }
            let came = draw(expected, variance, rng) + left;
            // The nearest whole number. What rounding takes from one bin it gives to the next.
            let count = (came + 0.5) as u64;
            left = came - count as f64;
            count
        })
    }
}

/// How many came, of so many expected, whose number has such a variance. It is normal but for its skewness, which is that of a
/// Poisson variable where it varies like one; of too few for that it is one.
fn draw(expected: f64, variance: f64, rng: &mut ChaCha8Rng) -> f64 {
    let variance = variance.max(0.0);
    let (are_few, share) = (expected < FEW, variance / expected);
    if are_few && share > AT_RANDOM {
        return Poisson::new(expected).map_or(expected, |poisson| poisson.sample(rng));
    }
    let luck: f64 = StandardNormal.sample(rng);
    let skewed = if are_few { 0.0 } else { share * (luck * luck - 1.0) / 6.0 };
    expected + luck * variance.sqrt() + skewed
}

/// What comes at random varies at least this part as much as a Poisson process: its number, and the time between two.
pub(super) const AT_RANDOM: f64 = 0.9;
/// The most in a bin that are few.
const FEW: f64 = 4.0;
/// How many bins are passed over together.
const WORD: usize = 8;
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
        assert_eq!(counted.all(), counted.by_status[&Some(200)]);
        let mut seconds = vec![0; 8];
        // Of the seconds of event time; the first begins before the warm-up.
        counted.all().iter().for_each(|(number, count)| seconds[(*number as usize + 5) / 10] += *count);
        seconds
    }

    /// At random a bin is a Poisson variable, to its third moment; what comes regularly varies as little as it is told to.
    #[test]
    fn bins_vary_as_their_fetches_do() {
        for (expected, share) in [(0.2, 1.0), (3.0, 1.0), (10.0, 1.0), (80.0, 1.0), (20.0, 0.2), (2.0, 0.01)]
        {
            let mut rng = seed::generator(7, "bins", 0);
            let drawn: Vec<f64> = (0..200_000).map(|_| draw(expected, share * expected, &mut rng)).collect();
            let moment = |power: i32, of: f64| {
                drawn.iter().map(|drawn| (drawn - of).powi(power)).sum::<f64>() / drawn.len() as f64
            };
            let mean = moment(1, 0.0);
            let (variance, third) = (moment(2, mean), moment(3, mean));
            let told = format!("{expected}, {share}: {mean}, {variance}, {third}");
            assert!((mean - expected).abs() < 0.02 * expected, "{told}");
            assert!((variance - share * expected).abs() < 0.03 * share * expected, "{told}");
            // Of a Poisson variable the third moment is what is expected; the more, the less exactly it is seen.
            assert!(
                share < 1.0 || (third - expected).abs() < 0.1 * expected + 0.2 * variance.sqrt(),
                "{told}"
            );
        }
    }

    #[test]
    fn each_is_counted_in_its_second_and_many_in_theirs() {
        let one_each = counted(|counter| {
            [-500, 0, 999, 5_500]
                .into_iter()
                .for_each(|millis| counter.of(Some(200), at(-1_000)).add((millis + 1_000) as f64 / 1e3));
        });
        assert_eq!(one_each, [0, 1, 2, 0, 0, 0, 0, 1]);
        let many = counted(|counter| counter.of(Some(200), at(0)).spread((0.5, 3.25), (8.0, 0.0)));
        assert_eq!(many, [0, 0, 4, 8, 8, 2, 0, 0]);
        let within_one = counted(|counter| counter.of(Some(200), at(0)).spread((0.25, 0.75), (8.0, 0.0)));
        assert_eq!(within_one, [0, 0, 4, 0, 0, 0, 0, 0]);
        let slow = counted(|counter| counter.of(Some(200), at(0)).spread((0.0, 6.0), (0.5, 0.0)));
        assert_eq!(slow.iter().sum::<u64>(), 3, "{slow:?}");
    }
}
