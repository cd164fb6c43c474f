//! Durations as a histogram of few significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use keyquake_reports::record::Quantiles;

/// A set of durations, in microseconds up to an hour.
#[derive(Debug)]
pub(crate) struct Durations {
    digits: u8,
    /// As long as few are unlike, as in a simulation, they need no histogram: each with how often it came, in order.
    few: Vec<(u64, u64)>,
    /// Apart, because there are many sets of which few have one.
    many: Option<Box<Histogram<u64>>>,
}

/// How many different durations are few.
const FEW: usize = 8;

/// A set of durations that is only of interest by its quantiles once nothing is added any more.
#[derive(Debug)]
pub(crate) enum Spread {
    Open(Durations),
    Closed(Option<Quantiles>),
}

impl Default for Spread {
    /// Two significant digits, in a few kilobytes: there are many of them.
    fn default() -> Self {
        Self::Open(Durations::with_digits(2))
    }
}

impl Spread {
    /// Adds each of these as many times. What comes after the end is not counted.
    pub(super) fn extend(&mut self, durations: impl IntoIterator<Item = Duration>, count: u64) {
        match self {
            Self::Open(open) => open.extend(durations, count),
            Self::Closed(_) => {}
        }
    }

    /// Ends the set: from kilobytes to a few numbers.
    pub(super) fn close(&mut self) {
        *self = Self::Closed(self.quantiles());
    }

    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        match self {
            Self::Open(open) => open.quantiles(),
            Self::Closed(quantiles) => *quantiles,
        }
    }
}

/// An hour: longer durations count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// As histograms count.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US)
}

impl Default for Durations {
    fn default() -> Self {
        Self::with_digits(3)
    }
}

impl Durations {
    fn with_digits(digits: u8) -> Self {
        Self { digits, few: Vec::new(), many: None }
    }

    /// Adds each of these as many times.
    pub(crate) fn extend(&mut self, durations: impl IntoIterator<Item = Duration>, count: u64) {
        durations.into_iter().for_each(|duration| self.add(micros(duration), count));
    }

    fn add(&mut self, micros: u64, count: u64) {
        if self.many.is_none() {
            match self.few.binary_search_by_key(&micros, |(known, _)| *known) {
                Ok(place) => return self.few[place].1 += count,
                Err(place) if self.few.len() < FEW => return self.few.insert(place, (micros, count)),
                Err(_) => {}
            }
        }
        // The histogram grows, so that recording cannot fail.
        let _ = self.histogram().record_n(micros, count);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.few.iter().for_each(|(micros, count)| self.add(*micros, *count));
        if let Some(other) = &other.many {
            // Both grow, so that adding cannot fail.
            let _ = self.histogram().add(&**other);
        }
    }

    /// Makes a histogram of what is there.
    fn histogram(&mut self) -> &mut Histogram<u64> {
        let histogram = self.many.get_or_insert_with(|| Box::new(histogram(self.digits)));
        for (micros, count) in self.few.drain(..) {
            let _ = histogram.record_n(micros, count);
        }
        histogram
    }

    /// The quantiles in milliseconds; `None` when nothing was added.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let Some(histogram) = &self.many else { return self.quantiles_of_few() };
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Some(Quantiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1_000.0,
        })
    }

    /// How long all together come to, in seconds.
    #[cfg(test)]
    pub(crate) fn sum(&self) -> f64 {
        let few = self.few.iter().copied();
        let many = self.many.iter().flat_map(|many| many.iter_recorded());
        let all = few.chain(many.map(|it| (it.value_iterated_to(), it.count_since_last_iteration())));
        all.map(|(micros, count)| micros as f64 * 1e-6 * count as f64).sum()
    }

    fn quantiles_of_few(&self) -> Option<Quantiles> {
        let all: u64 = self.few.iter().map(|(_, count)| count).sum();
        let (longest, _) = self.few.last()?;
        let at = |quantile: f64| {
            let rank = (quantile * all as f64).ceil() as u64;
            let mut below = 0;
            let found = self.few.iter().find(|(_, count)| {
                below += count;
                below >= rank
            });
            found.map_or(*longest, |(micros, _)| *micros) as f64 / 1_000.0
        };
        Some(Quantiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: *longest as f64 / 1_000.0,
        })
    }
}

/// An empty one of so many significant digits.
fn histogram(digits: u8) -> Histogram<u64> {
    // Grows with the values that it sees.
    let mut histogram = Histogram::new(digits).expect("0 to 5 significant digits are allowed");
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_milliseconds() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantiles(), None);
        for millis in 1..=1_000 {
            durations.extend([Duration::from_millis(millis)], 1);
        }
        let Quantiles { p50, p99, max, .. } = durations.quantiles().unwrap();
        assert!((p50 - 500.0).abs() < 1.0 && (p99 - 990.0).abs() < 1.0 && (max - 1_000.0).abs() < 1.0);
    }

    #[test]
    fn a_closed_set_keeps_its_quantiles() {
        let mut spread = Spread::default();
        spread.extend([Duration::from_millis(7)], 1);
        let before = spread.quantiles();
        spread.close();
        spread.extend([Duration::from_secs(7)], 1);
        assert_eq!(spread.quantiles(), before);
        assert!(before.is_some());
    }

    #[test]
    fn what_is_merged_counts_in_full() {
        let (mut short, mut long) = (Durations::default(), Durations::default());
        short.extend([Duration::from_millis(1)], 1);
        long.extend([Duration::from_secs(100_000)], 1);
        short.merge(&long);
        assert!(short.quantiles().unwrap().max > 3_599_000.0, "longer than an hour counts as an hour");
    }

    #[test]
    fn few_durations_have_the_quantiles_that_a_histogram_has() {
        let seen = [(3, 700), (1, 250), (2_000, 40), (90, 8), (5, 2)];
        let (mut few, mut many) = (Durations::default(), Durations::default());
        let _ = many.histogram();
        for (millis, count) in seen {
            few.extend([Duration::from_millis(millis)], count);
            many.extend([Duration::from_millis(millis)], count);
        }
        assert!(few.many.is_none() && many.few.is_empty());
        let (few, many) = (few.quantiles().unwrap(), many.quantiles().unwrap());
        for (a, b) in [(few.p50, many.p50), (few.p90, many.p90), (few.p99, many.p99), (few.max, many.max)] {
            assert!((a - b).abs() <= 0.001 * b, "{few:?} {many:?}");
        }
        assert_eq!(few.p50, 3.0);
    }
}
