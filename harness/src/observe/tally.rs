//! Counts of one set of requests.

use std::collections::BTreeMap;

use keyquake_reports::record::{Orphaned, Traffic};

use super::{Denials, Durations, Outcome, WallTimes};
use crate::oracle::{Ground, Leeway, Ruling};

/// Sums of one set of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) denials: Denials,
    pub(crate) orphaned: Orphaned,
    pub(crate) false_accepts: u64,
}

/// Counts of one set of requests, and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    outcomes: BTreeMap<Outcome, u64>,
    /// Tokens that must be refused and were accepted; kinds that were sent are there with zero.
    false_accepts: BTreeMap<Ground, u64>,
    pub(crate) lateness: Durations,
    pub(crate) latency: Durations,
    service: Durations,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: Outcome, ruling: Ruling, count: u64) {
        self.requests += count;
        let accepted = matches!(outcome, Outcome::Accepted(_));
        match ruling {
            Ruling::MustPass => self.denials.add(outcome, count),
            Ruling::MustRefuse(_) => self.false_accepts += if accepted { count } else { 0 },
            Ruling::Either(Leeway::Orphaned) if accepted => self.orphaned.orphaned_accepts += count,
            Ruling::Either(Leeway::Orphaned) => self.orphaned.orphaned_rejects += count,
            Ruling::Either(Leeway::Skew | Leeway::Changed) => {}
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.denials.merge(&other.denials);
        self.orphaned.orphaned_rejects += other.orphaned.orphaned_rejects;
        self.orphaned.orphaned_accepts += other.orphaned.orphaned_accepts;
        self.false_accepts += other.false_accepts;
    }
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome, ruling: Ruling, count: u64, wall: &WallTimes) {
        self.counts.add(outcome, ruling, count);
        *self.outcomes.entry(outcome).or_default() += count;
        if let Ruling::MustRefuse(ground) = ruling {
            let accepted = matches!(outcome, Outcome::Accepted(_));
            *self.false_accepts.entry(ground).or_default() += if accepted { count } else { 0 };
        }
        self.lateness.extend(wall.lateness, count);
        self.latency.extend(wall.latency, count);
        self.service.extend(wall.service, count);
    }

    pub(crate) fn merged<'t>(tallies: impl IntoIterator<Item = &'t Self>) -> Self {
        tallies.into_iter().fold(Self::default(), |mut sum, tally| {
            sum.counts.merge(&tally.counts);
            add_counts(&mut sum.outcomes, &tally.outcomes);
            add_counts(&mut sum.false_accepts, &tally.false_accepts);
            sum.lateness.merge(&tally.lateness);
            sum.latency.merge(&tally.latency);
            sum.service.merge(&tally.service);
            sum
        })
    }

    pub(crate) fn shed(&self) -> u64 {
        self.outcomes.get(&Outcome::Shed).copied().unwrap_or_default()
    }

    /// The statuses of answers that were neither acceptance nor rejection, and how often each came.
    pub(crate) fn failed(&self) -> impl Iterator<Item = (u16, u64)> {
        self.outcomes.iter().filter_map(|(outcome, count)| match outcome {
            Outcome::Failed(status) => Some(((*status)?, *count)),
            _ => None,
        })
    }

    /// Whether any token was accepted.
    pub(crate) fn has_accepted(&self) -> bool {
        self.outcomes.keys().any(|outcome| matches!(outcome, Outcome::Accepted(_)))
    }

    pub(crate) fn false_accepts_by_name(&self) -> BTreeMap<String, u64> {
        self.false_accepts.iter().map(|(ground, count)| (ground.name().to_owned(), *count)).collect()
    }

    /// The counts as the record has them.
    pub(crate) fn traffic(&self, peak_denied_share: Option<f64>) -> Traffic {
        let Counts { requests, denials: Denials { must_pass, false_rejects, failures }, .. } = self.counts;
        let (mut outcomes, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        let mut rejected = 0;
        for (outcome, count) in &self.outcomes {
            *outcomes.entry(outcome.name().to_owned()).or_default() += count;
            rejected += if matches!(outcome, Outcome::Rejected(_)) { *count } else { 0 };
            if let Some(status) = outcome.status() {
                *statuses.entry(status).or_default() += count;
            }
        }
        Traffic {
            requests,
            outcomes,
            statuses,
            rejected_share: share(rejected, requests),
            must_pass,
            denied: false_rejects + failures,
            denied_share: share(false_rejects + failures, must_pass),
            peak_denied_share,
            false_rejects,
            failures,
            latency_ms: self.latency.quantiles(),
            service_time_ms: self.service.quantiles(),
        }
    }
}

fn add_counts<K: Ord + Clone>(sum: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, count) in other {
        *sum.entry(key.clone()).or_default() += count;
    }
}

/// A part of a whole, unless there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
