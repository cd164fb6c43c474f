//! How many requests for the key set there were, listed or only counted.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use keyquake_reports::record::JwksVolume;

use super::{Run, worst_second};

/// Requests for the key set that were counted rather than listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedFetches {
    pub(crate) start: Time,
    /// The time that one number counts: a second, in all but very long runs.
    pub(crate) width: Span,
    pub(crate) by_status: BTreeMap<Option<u16>, Vec<u64>>,
}

impl CountedFetches {
    /// Which numbers count what came between two moments; at their edges to the second.
    fn between(&self, from: Time, until: Time) -> std::ops::Range<usize> {
        let number = |at: Time| {
            let number = at.since(self.start).as_nanos().div_ceil(self.width.as_nanos().max(1));
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let counted = self.by_status.values().next().map_or(0, Vec::len);
        let until = number(until).min(counted);
        number(from).min(until)..until
    }

    fn begins(&self, number: usize) -> Time {
        self.start + Span::from_nanos(self.width.as_nanos().saturating_mul(number as u64))
    }
}

impl Run<'_> {
    pub(super) fn jwks_volume(&self, from: Time, until: Time) -> JwksVolume {
        let listed: Vec<Time> = self.jwks_between(from, until).map(|entry| entry.at).collect();
        let mut statuses = BTreeMap::new();
        for status in self.jwks_between(from, until).filter_map(|entry| entry.status) {
            *statuses.entry(status).or_default() += 1;
        }
        let mut jwks_requests = listed.len() as u64;
        let between = self.jwks_counted.between(from, until);
        for (status, counts) in &self.jwks_counted.by_status {
            let counted: u64 = counts[between.clone()].iter().sum();
            jwks_requests += counted;
            if let Some(status) = status.filter(|_| counted > 0) {
                *statuses.entry(status).or_default() += counted;
            }
        }
        let peak = worst_second(listed.iter().copied());
        JwksVolume {
            jwks_requests,
            jwks_peak_per_second: peak.max(self.counted_peak(&listed, between)),
            statuses,
        }
    }

    fn jwks_between(&self, from: Time, until: Time) -> impl Iterator<Item = &keyquake_idp::JwksLogEntry> {
        self.jwks.iter().filter(move |entry| from <= entry.at && entry.at < until)
    }

    /// The most in any of these seconds, with those that were listed.
    fn counted_peak(&self, listed: &[Time], between: std::ops::Range<usize>) -> u64 {
        let counted = &self.jwks_counted;
        let mut listed = listed.iter().peekable();
        let in_second = |number: usize| {
            let end = counted.begins(number + 1);
            let listed = std::iter::from_fn(|| listed.next_if(|at| **at < end)).count() as u64;
            listed + counted.by_status.values().map(|counts| counts[number]).sum::<u64>()
        };
        let most = between.map(in_second).max().unwrap_or_default();
        most / counted.width.as_secs().max(1)
    }

    /// The requests for the key set in each window.
    pub(super) fn jwks_by_window(&self) -> Vec<u64> {
        let mut windows = vec![0; self.fold.windows.len()];
        let mut add = |at: Time, count: u64| {
            if let Some(number) = self.fold.window_number(at) {
                windows[number] += count;
            }
        };
        self.jwks.iter().for_each(|entry| add(entry.at, 1));
        for counts in self.jwks_counted.by_status.values() {
            for (number, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                // The first second may begin before the first window.
                add(self.jwks_counted.begins(number).max(self.fold.start), *count);
            }
        }
        windows
    }
}
