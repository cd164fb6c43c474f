//! How many requests for the key set there were, listed or only counted.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};
use keyquake_idp::JwksLogEntry;
use keyquake_reports::record::JwksVolume;

use super::{Run, worst_second};

/// Requests for the key set that were counted rather than listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedFetches {
    pub(crate) start: Time,
    /// The time that one number counts: a second or a part of one, in all but very long runs.
    pub(crate) width: Span,
    pub(crate) by_status: BTreeMap<Option<u16>, Bins>,
    /// All together, where there are several statuses.
    pub(crate) together: Option<Bins>,
}

/// The bins that have any, by their numbers from the start, and how many they have.
pub(crate) type Bins = Vec<(u64, u64)>;

impl CountedFetches {
    /// Of any status.
    pub(crate) fn all(&self) -> &[(u64, u64)] {
        let only = self.by_status.values().next();
        self.together.as_ref().or(only).map_or(&[], Vec::as_slice)
    }

    /// The number of the bin that a moment lies in.
    fn number(&self, at: Time) -> u64 {
        at.since(self.start).as_nanos() / self.width.as_nanos().max(1)
    }

    /// The bins that begin between two moments.
    fn between<'b>(&self, bins: &'b [(u64, u64)], (from, until): (Time, Time)) -> &'b [(u64, u64)] {
        let first = |at: Time| bins.partition_point(|(number, _)| self.begins(*number) < at);
        let until = first(until);
        &bins[first(from).min(until)..until]
    }

    /// How many the bins have that begin between two moments.
    fn sum(&self, bins: &[(u64, u64)], times: (Time, Time)) -> u64 {
        self.between(bins, times).iter().map(|(_, count)| count).sum()
    }

    fn begins(&self, number: u64) -> Time {
        self.start + Span::from_nanos(self.width.as_nanos().saturating_mul(number))
    }
}

impl Run<'_> {
    pub(super) fn jwks_volume(&self, from: Time, until: Time) -> JwksVolume {
        let listed = self.jwks_between(from, until);
        let mut statuses = BTreeMap::new();
        for alike in listed.chunk_by(|a, b| a.status == b.status) {
            if let Some(status) = alike[0].status {
                *statuses.entry(status).or_default() += alike.len() as u64;
            }
        }
        for (status, bins) in &self.jwks_counted.by_status {
            let fetches = self.jwks_counted.sum(bins, (from, until));
            if let Some(status) = status.filter(|_| fetches > 0) {
                *statuses.entry(status).or_default() += fetches;
            }
        }
        JwksVolume {
            jwks_requests: self.jwks_count(from, until),
            jwks_peak_per_second: worst_second(listed.iter().map(|entry| entry.at))
                .max(self.counted_peak(listed, (from, until))),
            statuses,
        }
    }

    /// How many requests for the key set there were between two moments.
    pub(super) fn jwks_count(&self, from: Time, until: Time) -> u64 {
        let counted = self.jwks_counted.sum(self.jwks_counted.all(), (from, until));
        self.jwks_between(from, until).len() as u64 + counted
    }

    fn jwks_between(&self, from: Time, until: Time) -> &[JwksLogEntry] {
        let first = |at: Time| self.jwks.partition_point(|entry| entry.at < at);
        let until = first(until);
        &self.jwks[first(from).min(until)..until]
    }

    /// The most in any second between two moments, with those that were listed.
    fn counted_peak(&self, listed: &[JwksLogEntry], times: (Time, Time)) -> u64 {
        let counted = &self.jwks_counted;
        let bins = counted.between(counted.all(), times);
        let numbers: Vec<u64> = listed.iter().map(|entry| counted.number(entry.at)).collect();
        let per_second = Span::from_secs(1).as_nanos() / counted.width.as_nanos().max(1);
        if per_second > 1 {
            return worst_of(bins, &numbers, per_second);
        }
        // Each bin is a second of its own, or longer.
        let mut later = bins.iter().peekable();
        let listed = numbers.chunk_by(|a, b| a == b).map(|alike| {
            while later.next_if(|(number, _)| *number < alike[0]).is_some() {}
            let same = later.peek().filter(|(number, _)| *number == alike[0]);
            alike.len() as u64 + same.map_or(0, |(_, count)| *count)
        });
        let fullest = bins.iter().map(|(_, count)| *count).max();
        fullest.max(listed.max()).unwrap_or_default() / counted.width.as_secs().max(1)
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
        for (number, count) in self.jwks_counted.all() {
            // The first bin may begin before the first window.
            add(self.jwks_counted.begins(*number).max(self.fold.start), *count);
        }
        windows
    }
}

/// The most in so many bins in a row, with single requests by the numbers of their bins.
fn worst_of(bins: &[(u64, u64)], listed: &[u64], in_a_row: u64) -> u64 {
    let all = || InOrder { bins, listed };
    let mut passing = all().peekable();
    let (mut held, mut worst) = (0, 0);
    for (number, count) in all() {
        while let Some((_, passed)) = passing.next_if(|(first, _)| first + in_a_row <= number) {
            held -= passed;
        }
        held += count;
        worst = worst.max(held);
    }
    worst
}

/// Bins and single requests by the numbers of their bins.
struct InOrder<'b> {
    bins: &'b [(u64, u64)],
    listed: &'b [u64],
}

impl Iterator for InOrder<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.bins.first().map_or(u64::MAX, |(number, _)| *number);
        if let Some((number, listed)) = self.listed.split_first().filter(|(number, _)| **number < next) {
            self.listed = listed;
            return Some((*number, 1));
        }
        let (bin, bins) = self.bins.split_first()?;
        self.bins = bins;
        Some(*bin)
    }
}

#[cfg(test)]
mod tests {
    use keyquake_idp::Pace;
    use keyquake_reports::record::Engine;

    use super::*;
    use crate::observe::Fold;
    use crate::plan::testing::simulated;

    fn at(millis: i64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn listed(millis: i64, status: u16) -> JwksLogEntry {
        let answered = Some(at(millis + 3));
        JwksLogEntry {
            at: at(millis),
            instance: Some(0),
            answered,
            status: Some(status),
            keys: Default::default(),
        }
    }

    #[test]
    fn what_is_counted_adds_to_what_is_listed() {
        let plan = simulated("duration = \"10s\"\nwarmup = \"1500ms\"");
        let pace = Pace::new(1.0, keyquake_core::UnixTime(1_800_000_000)).unwrap();
        let mut run = Run::new(&plan, Engine::Simulated, Fold::new(&plan, pace));
        // From 2 s before the start of event time on; the first two seconds are warm-up.
        let ok = vec![(1, 7), (2, 4), (5, 9)];
        let failed = vec![(5, 1), (9, 3)];
        let all = vec![(1, 7), (2, 4), (5, 10), (9, 3)];
        let by_status = [(Some(200), ok), (Some(503), failed)].into();
        let together = Some(all);
        run.jwks_counted =
            CountedFetches { start: at(-2_000), width: Span::from_secs(1), by_status, together };
        // Two of these fall into the second that has the most.
        run.jwks = [(-500, 200), (3_100, 200), (3_900, 503), (4_900, 200)]
            .map(|(millis, status)| listed(millis, status))
            .into();

        let volume = run.jwks_volume(Time::ZERO, at(10_000));
        assert_eq!((volume.jwks_requests, volume.jwks_peak_per_second), (4 + 10 + 3 + 3, 12));
        assert_eq!(volume.statuses, [(200, 4 + 9 + 2), (503, 1 + 3 + 1)].into());
        let later = run.jwks_volume(at(3_500), at(8_000));
        assert_eq!((later.jwks_requests, later.jwks_peak_per_second), (3 + 2, 3), "{later:?}");
        let windows = run.jwks_by_window();
        assert_eq!(windows.iter().sum::<u64>(), 7 + 4 + 10 + 3 + 4);
        // Windows are seconds from the start of the warm-up on, 1.5 s before event time.
        assert_eq!(windows[..3], [7, 1 + 4, 0], "{windows:?}");
    }

    #[test]
    fn a_worst_second_is_a_bin_where_bins_are_seconds() {
        let plan = simulated("duration = \"10s\"");
        let pace = Pace::new(1.0, keyquake_core::UnixTime(1_800_000_000)).unwrap();
        let mut run = Run::new(&plan, Engine::Simulated, Fold::new(&plan, pace));
        let by_status = [(Some(200), vec![(3, 2), (4, 3), (7, 4)])].into();
        run.jwks_counted =
            CountedFetches { start: Time::ZERO, width: Span::from_secs(1), by_status, together: None };
        let peak = |run: &Run<'_>| run.jwks_volume(Time::ZERO, at(10_000)).jwks_peak_per_second;
        assert_eq!(peak(&run), 4);
        // One before the bins, two in one of them, and one after another of them.
        run.jwks = [2_000, 4_100, 4_800, 8_000].map(|millis| listed(millis, 200)).into();
        assert_eq!(peak(&run), 3 + 2);
    }

    #[test]
    fn a_worst_second_begins_with_any_bin() {
        let plan = simulated("duration = \"10s\"");
        let pace = Pace::new(1.0, keyquake_core::UnixTime(1_800_000_000)).unwrap();
        let mut run = Run::new(&plan, Engine::Simulated, Fold::new(&plan, pace));
        // Of tenths of seconds: 4 within one that begins at 1.5 s, and one more that is listed; the sixth comes too late.
        let all = vec![(15, 1), (19, 2), (23, 1), (25, 1)];
        run.jwks_counted = CountedFetches {
            start: Time::ZERO,
            width: Span::from_millis(100),
            by_status: [(Some(200), all)].into(),
            together: None,
        };
        run.jwks = vec![listed(2_050, 200)];
        let volume = run.jwks_volume(Time::ZERO, at(10_000));
        assert_eq!((volume.jwks_requests, volume.jwks_peak_per_second), (6, 5));
    }
}
