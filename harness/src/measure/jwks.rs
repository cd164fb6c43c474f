//! How many requests for the key set there were, listed or only counted.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use keyquake_reports::record::JwksVolume;

use rand::RngExt;

use super::{Run, worst_second};
use crate::seed;

/// Up to this rate a second is summed up rather than taken as normal.
const SMALL_RATE: f64 = 100.0;

/// Requests for the key set that were counted rather than listed, spread evenly between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CountedFetches {
    pub(crate) from: Time,
    pub(crate) until: Time,
    pub(crate) count: u64,
    pub(crate) status: Option<u16>,
}

impl CountedFetches {
    /// How many came before a moment.
    fn before(&self, at: Time) -> u64 {
        let length = self.until.since(self.from).as_secs_f64();
        match at {
            at if at >= self.until => self.count,
            at if at <= self.from => 0,
            at => (self.count as f64 * at.since(self.from).as_secs_f64() / length) as u64,
        }
    }

    fn per_second(&self) -> f64 {
        self.count as f64 / self.until.since(self.from).as_secs_f64().max(1.0)
    }
}

/// The most of a Poisson process in any of so many seconds: as much as is exceeded in none of them with the probability
/// of `luck`.
fn busiest_second(per_second: f64, seconds: f64, luck: f64) -> u64 {
    let not_exceeded = libm::pow(luck, 1.0 / seconds.max(1.0));
    if per_second > SMALL_RATE {
        // The largest of as many normal numbers (Fisher and Tippett 1928).
        let spread = libm::sqrt(2.0 * libm::log(seconds.max(2.0)));
        let largest = spread - libm::log(-libm::log(luck)) / spread;
        return (per_second + libm::sqrt(per_second) * largest) as u64;
    }
    let (mut count, mut probability) = (0_u64, libm::exp(-per_second));
    let mut so_far = probability;
    while so_far < not_exceeded && probability > f64::MIN_POSITIVE {
        count += 1;
        probability *= per_second / count as f64;
        so_far += probability;
    }
    count
}

impl Run<'_> {
    pub(super) fn jwks_volume(&self, from: Time, until: Time) -> JwksVolume {
        let listed: Vec<_> = self.jwks.iter().filter(|entry| from <= entry.at && entry.at < until).collect();
        let mut statuses = BTreeMap::new();
        for status in listed.iter().filter_map(|entry| entry.status) {
            *statuses.entry(status).or_default() += 1;
        }
        let mut counted = 0;
        for fetches in &self.jwks_counted {
            let within = fetches.before(until) - fetches.before(from);
            counted += within;
            if let Some(status) = fetches.status.filter(|_| within > 0) {
                *statuses.entry(status).or_default() += within;
            }
        }
        let peak = worst_second(listed.iter().map(|entry| entry.at));
        JwksVolume {
            jwks_requests: listed.len() as u64 + counted,
            jwks_peak_per_second: peak.max(self.counted_peak(from, until)),
            statuses,
        }
    }

    /// The most in any second of those that were only counted: a draw, as the moments of the others are.
    fn counted_peak(&self, from: Time, until: Time) -> u64 {
        let within = |fetches: &&CountedFetches| fetches.from < until && from < fetches.until;
        let mut changes: Vec<(Time, f64)> = self
            .jwks_counted
            .iter()
            .filter(within)
            .flat_map(|it| [(it.from.max(from), it.per_second()), (it.until.min(until), -it.per_second())])
            .collect();
        changes.sort_by(|(a, one), (b, other)| a.cmp(b).then(one.total_cmp(other)));
        let mut rng = seed::generator(self.plan.seed, "the busiest second", 0);
        let (mut rate, mut peak) = (0.0, 0);
        for pair in changes.windows(2) {
            rate += pair[0].1;
            let seconds = pair[1].0.since(pair[0].0).as_secs_f64();
            if seconds > 0.0 {
                peak = peak.max(busiest_second(f64::max(rate, 0.0), seconds, rng.random()));
            }
        }
        peak
    }

    /// The requests for the key set in each window.
    pub(super) fn jwks_by_window(&self) -> Vec<u64> {
        let mut windows = vec![0; self.fold.windows.len()];
        for number in self.jwks.iter().filter_map(|entry| self.fold.window_number(entry.at)) {
            windows[number] += 1;
        }
        for fetches in &self.jwks_counted {
            let first = self.fold.window_number(fetches.from).unwrap_or_default();
            let mut before = fetches.before(self.window_start(first));
            for (number, window) in windows.iter_mut().enumerate().skip(first) {
                let by_its_end = fetches.before(self.window_start(number + 1));
                *window += by_its_end - before;
                before = by_its_end;
                if before == fetches.count {
                    break;
                }
            }
        }
        windows
    }

    fn window_start(&self, number: usize) -> Time {
        self.fold.start + Span::from_nanos(self.fold.window.as_nanos().saturating_mul(number as u64))
    }
}
