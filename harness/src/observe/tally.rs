//! Counts of one set of requests.

use std::collections::BTreeMap;

use keyquake_reports::record::{Orphaned, Traffic};

use super::{Denials, Durations, Outcome, WallTimes};
use crate::oracle::{Ground, Leeway, Ruling};

/// Counts of one set of requests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    outcomes: BTreeMap<&'static str, u64>,
    statuses: BTreeMap<u16, u64>,
    pub(crate) denials: Denials,
    pub(crate) orphaned: Orphaned,
    /// Tokens that must be refused and were accepted; kinds that were sent are there with zero.
    pub(crate) false_accepts: BTreeMap<Ground, u64>,
}

/// Counts of one set of requests, and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) lateness: Durations,
    pub(crate) latency: Durations,
    service: Durations,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: Outcome, ruling: Ruling, count: u64) {
        self.requests += count;
        *self.outcomes.entry(outcome.name()).or_default() += count;
        if let Some(status) = outcome.status() {
            *self.statuses.entry(status).or_default() += count;
        }
        let accepted = matches!(outcome, Outcome::Accepted(_));
        match ruling {
            Ruling::MustPass => self.denials.add(true, outcome, count),
            Ruling::MustRefuse(ground) => {
                *self.false_accepts.entry(ground).or_default() += if accepted { count } else { 0 };
            }
            Ruling::Either(Leeway::Orphaned) if accepted => self.orphaned.orphaned_accepts += count,
            Ruling::Either(Leeway::Orphaned) => self.orphaned.orphaned_rejects += count,
            Ruling::Either(Leeway::Skew | Leeway::Changed) => {}
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        add_counts(&mut self.outcomes, &other.outcomes);
        add_counts(&mut self.statuses, &other.statuses);
        add_counts(&mut self.false_accepts, &other.false_accepts);
        self.denials.must_pass += other.denials.must_pass;
        self.denials.false_rejects += other.denials.false_rejects;
        self.denials.failures += other.denials.failures;
        self.orphaned.orphaned_rejects += other.orphaned.orphaned_rejects;
        self.orphaned.orphaned_accepts += other.orphaned.orphaned_accepts;
    }

    pub(crate) fn shed(&self) -> u64 {
        self.outcomes.get(Outcome::Shed.name()).copied().unwrap_or_default()
    }

    pub(crate) fn false_accepts_by_name(&self) -> BTreeMap<String, u64> {
        self.false_accepts.iter().map(|(ground, count)| (ground.name().to_owned(), *count)).collect()
    }
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome, ruling: Ruling, count: u64, wall: &WallTimes) {
        self.counts.add(outcome, ruling, count);
        self.lateness.extend(wall.lateness, count);
        self.latency.extend(wall.latency, count);
        self.service.extend(wall.service, count);
    }

    pub(crate) fn merged<'t>(tallies: impl IntoIterator<Item = &'t Self>) -> Self {
        tallies.into_iter().fold(Self::default(), |mut sum, tally| {
            sum.counts.merge(&tally.counts);
            sum.lateness.merge(&tally.lateness);
            sum.latency.merge(&tally.latency);
            sum.service.merge(&tally.service);
            sum
        })
    }

    /// The counts as the record has them.
    pub(crate) fn traffic(&self, peak_denied_share: Option<f64>) -> Traffic {
        let counts = &self.counts;
        let Denials { must_pass, false_rejects, failures } = counts.denials;
        let rejected = counts.outcomes.get(Outcome::Rejected(401).name()).copied().unwrap_or_default();
        Traffic {
            requests: counts.requests,
            outcomes: counts.outcomes.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            statuses: counts.statuses.clone(),
            rejected_share: share(rejected, counts.requests),
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
