//! Requests that must pass, counted in small bins: what recovery is timed with.

use keyquake_core::{Span, Time};
use keyquake_reports::record::{Recovery, RecoveryState};

/// Requests that must follow a recovery to bear it out.
const BEARING_OUT: u64 = 30;
/// Requests that a worst second must hold.
const WORST_HOLDS: u64 = 100;

/// Counts of requests that must pass, in bins of equal length.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    step: Span,
    /// By their numbers.
    bins: Vec<(i64, Bin)>,
    /// The place of the one that was added to last: most requests fall into the same or the next.
    recent: usize,
}

/// One bin. Requests end in any order, so it keeps extremes rather than a sequence.
#[derive(Clone, Copy, Debug)]
struct Bin {
    total: u64,
    denied: u64,
    first_denied: Option<Time>,
    last_denied: Option<Time>,
    first_passed: Option<Time>,
    last_passed: Option<Time>,
}

impl Bin {
    const EMPTY: Self = Self {
        total: 0,
        denied: 0,
        first_denied: None,
        last_denied: None,
        first_passed: None,
        last_passed: None,
    };

    /// The denial after which so many of the bin follow. Those that were counted together, and reach over more than a bin, are
    /// taken as even.
    fn denial_before(&self, following: u64, step: Span) -> Option<Time> {
        let (first, last) = (self.first_denied?, self.last_denied?);
        let length = last.since(first);
        if length <= step {
            return Some(last);
        }
        let part = following as f64 / self.denied.saturating_sub(1).max(1) as f64;
        Some(last - length.scale(part.min(1.0)))
    }

    fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.denied += other.denied;
        self.last_denied = self.last_denied.max(other.last_denied);
        self.last_passed = self.last_passed.max(other.last_passed);
        let first = |a: Option<Time>, b: Option<Time>| a.into_iter().chain(b).min();
        self.first_denied = first(self.first_denied, other.first_denied);
        self.first_passed = first(self.first_passed, other.first_passed);
    }
}

impl Track {
    pub(crate) fn new(step: Span) -> Self {
        Self { step, bins: Vec::new(), recent: 0 }
    }

    /// Counts requests that met the same; these are the planned moments of the first and the last. They go into the bin
    /// of the last: what is asked of a track is what follows a denial, and they follow what came before them as one.
    pub(crate) fn add(&mut self, (first, last): (Time, Time), count: u64, denied: bool) {
        let bin = Bin {
            total: count,
            denied: if denied { count } else { 0 },
            first_denied: denied.then_some(first),
            last_denied: denied.then_some(last),
            first_passed: (!denied).then_some(first),
            last_passed: (!denied).then_some(last),
        };
        self.bin(self.number(last)).merge(&bin);
    }

    /// The bin of a number.
    fn bin(&mut self, number: i64) -> &mut Bin {
        let is_at = |place: &usize| self.bins.get(*place).is_some_and(|(it, _)| *it == number);
        let near = [self.recent, self.recent + 1].into_iter().find(is_at);
        self.recent = near.unwrap_or_else(|| self.bins.partition_point(|(it, _)| *it < number));
        if near.is_none() && !is_at(&self.recent) {
            self.bins.insert(self.recent, (number, Bin::EMPTY));
        }
        &mut self.bins[self.recent].1
    }

    /// The number of the bin that a moment lies in.
    fn number(&self, at: Time) -> i64 {
        at.as_nanos().div_euclid(i64::try_from(self.step.as_nanos()).unwrap_or(i64::MAX).max(1))
    }

    /// All tracks as one; they have one step.
    pub(crate) fn merged<'t>(step: Span, tracks: impl IntoIterator<Item = &'t Self>) -> Self {
        let mut sum = Self::new(step);
        tracks.into_iter().for_each(|track| sum.merge(track));
        sum
    }

    /// Adds another of the same step.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.bins.is_empty() || other.bins.is_empty() {
            self.bins.extend(&other.bins);
            return;
        }
        let mut bins = Vec::with_capacity(self.bins.len().max(other.bins.len()));
        let mut others = other.bins.iter().peekable();
        for (number, mut bin) in self.bins.drain(..) {
            while let Some(before) = others.next_if(|(it, _)| *it < number) {
                bins.push(*before);
            }
            if let Some((_, same)) = others.next_if(|(it, _)| *it == number) {
                bin.merge(same);
            }
            bins.push((number, bin));
        }
        bins.extend(others);
        self.bins = bins;
    }

    /// How long after `from` until no more than `below` of the requests that follow are denied.
    ///
    /// The smallest such time is zero or the planned moment of a denied request. Here it is the last one of its bin, and
    /// what else lies in that bin does not count as following: so the rule holds at the result, but may have held a
    /// little earlier. Of requests that were counted together it is where that one is expected. `until` is the end of what
    /// could be seen.
    pub(crate) fn recovery(&self, from: Time, until: Time, below: f64) -> Recovery {
        let first = self.number(from);
        let (mut total, mut denied) = (0, 0);
        let (mut recovered, mut following) = (None, 0);
        let mut last_denied = None;
        for (_, bin) in self.from(first).iter().rev() {
            if let Some(at) = bin.last_denied {
                last_denied = last_denied.max(Some(at));
                if denied as f64 <= below * total as f64 {
                    let others = ((below * total as f64) as u64).saturating_sub(denied);
                    (recovered, following) = (bin.denial_before(others, self.step), total);
                }
            }
            total += bin.total;
            denied += bin.denied;
        }
        if denied as f64 <= below * total as f64 {
            (recovered, following) = (Some(from), total);
        }
        let seconds = |at: Time| at.since(from).as_secs_f64();
        let state = match following {
            0 if denied > 0 => RecoveryState::NotRecovered,
            _ if following < BEARING_OUT => RecoveryState::Inconclusive,
            _ => RecoveryState::Recovered,
        };
        Recovery {
            state,
            seconds: match state {
                RecoveryState::Recovered => recovered.map(seconds),
                RecoveryState::NotRecovered => Some(seconds(until)),
                RecoveryState::Inconclusive => None,
            },
            last_denial_s: last_denied.map(seconds),
            first_pass_after_s: last_denied.and_then(|at| self.first_pass_after(at)).map(seconds),
            following,
        }
    }

    /// The first and the last of each bin's denials and passes: their planned moments, and whether they were denied.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (Time, bool)> {
        self.bins.iter().flat_map(|(_, bin)| {
            let denied = bin.first_denied.into_iter().chain(bin.last_denied).map(|at| (at, true));
            denied.chain(bin.first_passed.into_iter().chain(bin.last_passed).map(|at| (at, false)))
        })
    }

    /// The bins from a number on.
    fn from(&self, number: i64) -> &[(i64, Bin)] {
        &self.bins[self.bins.partition_point(|(it, _)| *it < number)..]
    }

    fn first_pass_after(&self, denied: Time) -> Option<Time> {
        self.from(self.number(denied)).iter().find_map(|(_, bin)| {
            let after = |at: &Time| *at > denied;
            bin.first_passed.filter(after).or(bin.last_passed.filter(after))
        })
    }

    /// The worst share of denied requests in any stretch of a second, widened until it holds 100 requests.
    pub(crate) fn worst_second(&self) -> Option<f64> {
        let width = (1_000_000_000 / self.step.as_nanos().max(1)).max(1);
        let width = i64::try_from(width).unwrap_or(i64::MAX);
        let (mut from, mut total, mut denied) = (0, 0, 0);
        let mut worst = None;
        for (number, bin) in &self.bins {
            total += bin.total;
            denied += bin.denied;
            // Shorten the stretch from its beginning as long as it stays long and full enough.
            while let (Some((_, there)), Some((next, _))) = (self.bins.get(from), self.bins.get(from + 1))
                && number - next + 1 >= width
                && total - there.total >= WORST_HOLDS
            {
                (total, denied, from) = (total - there.total, denied - there.denied, from + 1);
            }
            let share = denied as f64 / total as f64;
            if total >= WORST_HOLDS && worst.is_none_or(|worst| share > worst) {
                worst = Some(share);
            }
        }
        // Fewer than that in all: then all of them are the stretch.
        worst.or((total > 0).then(|| denied as f64 / total as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn track(requests: impl IntoIterator<Item = (i64, bool)>) -> Track {
        let mut track = Track::new(Span::from_millis(10));
        requests.into_iter().for_each(|(millis, denied)| track.add((at(millis), at(millis)), 1, denied));
        track
    }

    #[test]
    fn nothing_denied_recovers_at_once() {
        let recovery = track((0..100).map(|i| (i * 50, false))).recovery(at(0), at(5_000), 0.001);
        assert_eq!((recovery.state, recovery.seconds), (RecoveryState::Recovered, Some(0.0)));
        assert_eq!((recovery.following, recovery.last_denial_s), (100, None));
    }

    #[test]
    fn some_of_those_that_were_counted_together_may_follow_a_recovery() {
        let mut track = track((0..3_000).map(|i| (10_000 + i * 10, false)));
        track.add((at(0), at(9_000)), 10, true);
        let recovery = |below| track.recovery(at(0), at(40_000), below).seconds;
        assert_eq!(recovery(0.0), Some(9.0));
        assert_eq!(recovery(0.001), Some(6.0), "three of 3,000 may follow, of ten that lie a second apart");
        assert_eq!(recovery(0.01), Some(0.0));
    }

    #[test]
    fn recovery_is_the_last_denial_with_its_bracket() {
        let requests = (0..200).map(|i| (i * 50, i < 60));
        let recovery = track(requests).recovery(at(0), at(10_000), 0.001);
        assert_eq!(recovery.seconds, Some(2.95));
        assert_eq!((recovery.last_denial_s, recovery.first_pass_after_s), (Some(2.95), Some(3.0)));
        assert_eq!(recovery.following, 140);
    }

    #[test]
    fn a_rare_late_denial_does_not_undo_a_recovery() {
        let requests = (0..4_000).map(|i| (i * 5, i < 100 || i == 3_000));
        let recovery = track(requests).recovery(at(0), at(20_000), 0.001);
        assert_eq!(recovery.seconds, Some(0.485), "three of the 3,902 that follow are less than 0.1 %");
        assert_eq!(recovery.last_denial_s, Some(15.0));
    }

    #[test]
    fn denials_to_the_end_are_no_recovery_and_few_passes_prove_none() {
        let denied = track((0..100).map(|i| (i * 50, true))).recovery(at(0), at(6_000), 0.001);
        assert_eq!((denied.state, denied.seconds), (RecoveryState::NotRecovered, Some(6.0)));
        let thin = track((0..100).map(|i| (i * 50, i < 80))).recovery(at(0), at(6_000), 0.001);
        assert_eq!((thin.state, thin.seconds, thin.following), (RecoveryState::Inconclusive, None, 20));
        let none = track([]).recovery(at(0), at(6_000), 0.001);
        assert_eq!(none.state, RecoveryState::Inconclusive);
    }

    #[test]
    fn only_what_comes_after_the_start_counts() {
        let recovery = track((0..200).map(|i| (i * 50, i < 60))).recovery(at(4_000), at(10_000), 0.001);
        assert_eq!(recovery.seconds, Some(0.0));
    }

    #[test]
    fn the_worst_second_holds_a_hundred_requests() {
        // 1,000/s with one bad second out of ten.
        let busy = track((0..10_000).map(|i| (i, (4_000..5_000).contains(&i) && i % 2 == 0)));
        assert!((busy.worst_second().unwrap() - 0.5).abs() < 0.01);
        // 20/s: 100 requests take five seconds, so one bad second is a fifth.
        let quiet = track((0..200).map(|i| (i * 50, (4_000..5_000).contains(&(i * 50)))));
        assert!((quiet.worst_second().unwrap() - 0.2).abs() < 0.01);
        let few = track((0..10).map(|i| (i * 50, i == 0)));
        assert_eq!(few.worst_second(), Some(0.1));
        assert_eq!(track([]).worst_second(), None);
    }

    proptest! {
        /// The rule holds at the result, which is never early; and where one denial breaks the rule, never late.
        #[test]
        fn recovery_agrees_with_its_definition(
            requests in prop::collection::btree_map(0..3_000_i64, prop::bool::weighted(0.2), 31..300),
            below in prop_oneof![Just(0.001), Just(0.1), Just(0.3)],
        ) {
            let holds = |r: i64| {
                let after: Vec<bool> = requests.range(r + 1..).map(|(_, denied)| *denied).collect();
                let denied = after.iter().filter(|denied| **denied).count() as f64;
                denied <= below * after.len() as f64
            };
            let exact = (-1..3_000).find(|r| holds(*r)).unwrap().max(0);
            let recovery = track(requests.clone()).recovery(at(0), at(3_000), below);
            if let (RecoveryState::Recovered, Some(seconds)) = (recovery.state, recovery.seconds) {
                let found = (seconds * 1_000.0).round() as i64;
                prop_assert!(found == 0 || holds(found), "{found} ms");
                prop_assert!(found >= exact, "{found} ms against {exact} ms");
                prop_assert!(below > 0.001 || found == exact, "{found} ms against {exact} ms");
            }
        }
    }
}
