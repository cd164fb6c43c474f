//! What the replications of a cell came to. Of each only these numbers are kept.

use std::cmp::Ordering;

use keyquake_reports::record::{Cell, Gate, GateResult, Lasting, Metric, SweepCell, SweepMetrics, Windows};
use keyquake_reports::{evaluate, worse, worst};

use super::interval::sample;
use crate::plan::Plan;

/// The worst share of 401 is that of so many valid requests at least, as the worst second is.
const ENOUGH: u64 = 100;

/// What the replications of a cell came to so far.
pub(super) struct Seen {
    gates: Vec<Gate>,
    wishes: Vec<Gate>,
    /// How each came out at worst.
    results: Vec<GateResult>,
    /// One list for each of [`MEASURED`].
    values: [Vec<Lasting>; MEASURED.len()],
    shares_of_401: Vec<Lasting>,
    replica_hours: f64,
}

/// The metrics that a cell keeps as gates know them.
const MEASURED: [Metric; 7] = [
    Metric::DeniedShare,
    Metric::PeakDeniedShare,
    Metric::TimeToRecover,
    Metric::JwksRequests,
    Metric::RevocationExposure,
    Metric::OutageSurvival,
    Metric::LoginStorm,
];

impl Seen {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            gates: plan.gates.clone(),
            wishes: plan.wishes.clone(),
            results: Vec::new(),
            values: Default::default(),
            shares_of_401: Vec::new(),
            replica_hours: f64::from(plan.replicas) * plan.duration.as_secs_f64() / 3_600.0,
        }
    }

    pub(super) fn add(&mut self, cell: &Cell) {
        let results = self.gates.iter().chain(&self.wishes).map(|gate| evaluate(gate, cell));
        let results: Vec<GateResult> = results.collect();
        if self.results.is_empty() {
            self.results = results;
        } else {
            for (known, new) in self.results.iter_mut().zip(results) {
                if worse(&new, known) == Ordering::Greater {
                    *known = new;
                }
            }
        }
        for (values, metric) in self.values.iter_mut().zip(MEASURED) {
            let found = worst(cell, metric);
            values.extend(found.map(|it| Lasting { seconds: it.value, at_least: it.at_least }));
        }
        let share = worst_401_share(&cell.windows);
        self.shares_of_401.extend(share.map(|seconds| Lasting { seconds, at_least: false }));
    }

    /// A cell that does not know its parameters yet.
    pub(super) fn into_cell(mut self) -> SweepCell {
        let [denied, peak, recovery, jwks, exposure, survival, storm] = &self.values;
        let per_hour: Vec<Lasting> = jwks
            .iter()
            .map(|requests| Lasting { seconds: requests.seconds / self.replica_hours, ..*requests })
            .collect();
        let metrics = SweepMetrics {
            denied_share: sample(denied, false),
            peak_denied_share: sample(peak, false),
            peak_401_share: sample(&self.shares_of_401, false),
            time_to_recover_s: sample(recovery, false),
            jwks_requests: sample(jwks, false),
            jwks_requests_per_replica_hour: sample(&per_hour, false),
            revocation_exposure_s: sample(exposure, false),
            outage_survival_s: sample(survival, true),
            login_storm: sample(storm, false),
        };
        let wishes = self.results.split_off(self.gates.len());
        SweepCell { parameters: Default::default(), metrics, gates: self.results, wishes }
    }
}

/// The worst share of 401 and 403 among the valid requests of windows beside each other that hold enough of them; of all if
/// there are no more.
pub(crate) fn worst_401_share(windows: &Windows) -> Option<f64> {
    let (mut valid, mut rejected, mut first) = (0, 0, 0);
    let mut worst: Option<f64> = None;
    let columns = || windows.must_pass.iter().zip(&windows.false_rejects);
    for (more_valid, more_rejected) in columns() {
        valid += more_valid;
        rejected += more_rejected;
        // Without what is not needed at the front.
        while let Some((spare, its_rejected)) = columns().nth(first).filter(|(n, _)| valid - *n >= ENOUGH) {
            valid -= spare;
            rejected -= its_rejected;
            first += 1;
        }
        if valid >= ENOUGH {
            worst = Some(worst.unwrap_or(0.0).max(rejected as f64 / valid as f64));
        }
    }
    worst.or_else(|| (valid > 0).then(|| rejected as f64 / valid as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(windows: &[(u64, u64)]) -> Option<f64> {
        let (must_pass, false_rejects) = windows.iter().copied().unzip();
        worst_401_share(&Windows { must_pass, false_rejects, ..Windows::default() })
    }

    #[test]
    fn the_worst_share_is_that_of_a_hundred_requests_at_least() {
        assert_eq!(share(&[(200, 0), (100, 50), (200, 20)]), Some(0.5));
        // Ten requests that were all rejected are no hundred.
        assert_eq!(share(&[(95, 0), (10, 10), (90, 0)]), Some(0.1));
        assert_eq!(share(&[(10, 5), (10, 0)]), Some(0.25), "of all there are");
        assert_eq!(share(&[(0, 0)]), None);
        assert_eq!(share(&[]), None);
    }
}
