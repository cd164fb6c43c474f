//! Durations as a histogram of few significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use keyquake_reports::record::Quantiles;

/// A set of durations, in microseconds up to an hour.
#[derive(Debug)]
pub(crate) struct Durations(Histogram<u64>);

/// A set of durations that is only of interest by its quantiles once nothing is added any more.
#[derive(Debug, Default)]
pub(crate) enum Spread {
    #[default]
    Empty,
    /// So many that are all alike, as in most windows of a simulation. They need no histogram.
    Alike(Duration, u64),
    Open(Durations),
    Closed(Option<Quantiles>),
}

impl Spread {
    /// Adds each of these as many times. What comes after the end is not counted.
    pub(super) fn extend(&mut self, durations: impl IntoIterator<Item = Duration>, count: u64) {
        for duration in durations {
            match self {
                Self::Empty => *self = Self::Alike(duration, count),
                Self::Alike(known, before) if *known == duration => *before += count,
                Self::Alike(known, before) => {
                    let mut open = Durations::coarse();
                    open.add(*known, *before);
                    open.add(duration, count);
                    *self = Self::Open(open);
                }
                Self::Open(open) => open.add(duration, count),
                Self::Closed(_) => {}
            }
        }
    }

    /// Ends the set: from kilobytes to a few numbers.
    pub(super) fn close(&mut self) {
        *self = Self::Closed(self.quantiles());
    }

    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        match self {
            Self::Empty => None,
            Self::Alike(duration, _) => Some(all(micros(*duration))),
            Self::Open(open) => open.quantiles(),
            Self::Closed(quantiles) => *quantiles,
        }
    }
}

/// An hour: longer durations count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// The quantiles of durations that are all so many microseconds.
fn all(micros: u64) -> Quantiles {
    let millis = micros as f64 / 1_000.0;
    Quantiles { p50: millis, p90: millis, p99: millis, p999: millis, max: millis }
}

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
    /// Two significant digits, in a few kilobytes: for sets of which there are many.
    fn coarse() -> Self {
        Self::with_digits(2)
    }

    fn with_digits(digits: u8) -> Self {
        // Grows with the values that it sees.
        let mut histogram = Histogram::new(digits).expect("0 to 5 significant digits are allowed");
        histogram.auto(true);
        Self(histogram)
    }

    /// Adds each of these as many times.
    pub(crate) fn extend(&mut self, durations: impl IntoIterator<Item = Duration>, count: u64) {
        durations.into_iter().for_each(|duration| self.add(duration, count));
    }

    fn add(&mut self, duration: Duration, count: u64) {
        // The histogram grows, so that recording cannot fail.
        let _ = self.0.record_n(micros(duration), count);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        // Both grow, so that adding cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// The quantiles in milliseconds; `None` when nothing was added.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        (!self.0.is_empty()).then(|| Quantiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1_000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_milliseconds() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantiles(), None);
        for millis in 1..=1_000 {
            durations.add(Duration::from_millis(millis), 1);
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
        short.add(Duration::from_millis(1), 1);
        long.add(Duration::from_secs(100_000), 1);
        short.merge(&long);
        assert!(short.quantiles().unwrap().max > 3_599_000.0, "longer than an hour counts as an hour");
    }
}
