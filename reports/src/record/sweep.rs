//! A sweep: the same scenario under many settings, each played several times.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Gate, GateResult, Unit};

/// What was seen of each combination of settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The fields that differ between cells, in the order in which they were written.
    pub axes: Vec<SweepAxis>,
    /// The settings that all cells share and that matter for a reader, by their path in the scenario.
    pub parameters: BTreeMap<String, String>,
    /// How often each cell was played, each time with a seed of its own.
    pub replications: u32,
    /// One for each combination.
    pub cells: Vec<SweepCell>,
    /// The cells, counted from zero, that no other beats in both the worst time to recover and the mean JWKS volume; by
    /// rising volume. Filled by [`judge`](crate::judge()).
    pub front: Vec<u32>,
    /// Filled by [`judge`](crate::judge()); `None` when nothing was disturbed, so that there is nothing to choose by.
    pub recommended: Option<Recommended>,
    /// What was looked for by bisection.
    pub findings: Vec<Finding>,
}

/// A field and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepAxis {
    /// Its path in the scenario: `fleet.policy.ttl`.
    pub path: String,
    /// As the scenario writes them.
    pub values: Vec<String>,
}

/// One combination of settings, and what its replications came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepCell {
    /// What is set in this cell, by path: a value for each axis, and what `include` added.
    pub parameters: BTreeMap<String, String>,
    /// What was measured.
    pub metrics: SweepMetrics,
    /// Each gate as it came out at worst over the replications.
    pub gates: Vec<GateResult>,
    /// What was asked of a setting to be recommended, at worst over the replications. It fails nothing.
    pub wishes: Vec<GateResult>,
}

/// The metrics of a cell over its replications; `None` where no replication had data. Those over requests are the cohort's
/// at the worst episode, as those of gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepMetrics {
    /// A share.
    pub denied_share: Option<Sample>,
    /// A share, in the worst second.
    pub peak_denied_share: Option<Sample>,
    /// The share of 401 and 403 among valid requests in the worst window.
    pub peak_401_share: Option<Sample>,
    /// Seconds.
    pub time_to_recover_s: Option<Sample>,
    /// A count.
    pub jwks_requests: Option<Sample>,
    /// A count, for each replica and hour of scenario time.
    pub jwks_requests_per_replica_hour: Option<Sample>,
    /// Seconds.
    pub revocation_exposure_s: Option<Sample>,
    /// Seconds.
    pub outage_survival_s: Option<Sample>,
    /// A count.
    pub login_storm: Option<Sample>,
}

/// A metric over the replications that had data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The mean.
    pub mean: f64,
    /// The lower end of the 95 % confidence interval of the mean, by Student's t; `None` with a single replication. No metric
    /// is below zero, so this is not either.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// The worst replication: the largest, of an outage survival the smallest.
    pub worst: f64,
    /// How many replications had data.
    pub replications: u32,
    /// In how many of them the end was not seen, so that the true value is at least what was counted.
    pub open: u32,
}

/// The setting that a sweep speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recommended {
    /// The cell, counted from zero.
    pub cell: u32,
    /// How it was chosen.
    pub rule: Rule,
}

/// How a setting is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Of those that hold every gate and every wish, the one with the least JWKS volume.
    LeastVolume,
    /// No limit is set on the time to recover: of the front, as far as it holds every gate, the one nearest to neither
    /// volume nor time, both on logarithmic scales from the least to the greatest of the front.
    Knee,
    /// No cell holds every gate and every wish: the one of the whole front that is nearest to neither.
    KneeForWant,
}

/// What a bisection came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Which end was looked for.
    pub extreme: Extreme,
    /// The field that was varied, by its path.
    pub path: String,
    /// What had to hold, in every replication.
    pub gate: Gate,
    /// The only episode that counted, the first being 1; `None` for the worst one.
    pub episode: Option<u32>,
    /// The values on the other axes.
    pub parameters: BTreeMap<String, String>,
    /// Whether these are those of the recommended cell.
    pub recommended: bool,
    /// Where it was looked for, as the scenario writes it.
    pub low: String,
    /// The other end.
    pub high: String,
    /// How near to each other the two sides of the answer had to come.
    pub tolerance: String,
    /// The replications at every value that was tried.
    pub replications: u32,
    /// How many values were tried.
    pub tried: u32,
    /// What came of it.
    pub outcome: Outcome,
}

/// Which end of the values that will do is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extreme {
    /// The smallest.
    Smallest,
    /// The largest.
    Largest,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The answer lies between two values that were tried.
    Between {
        /// The gate held in every replication here: the answer.
        holds: String,
        /// It did not here.
        fails: String,
        /// The number of replications in which it did not.
        failures: u32,
    },
    /// The gate holds at both ends: the answer lies at or beyond this one.
    Throughout {
        /// The end.
        holds: String,
    },
    /// The gate does not even hold at the end where it should be easiest.
    Nowhere {
        /// The end.
        fails: String,
        /// The number of replications in which it did not.
        failures: u32,
    },
    /// A value that had to be tried cannot be played.
    Unplayable {
        /// The value.
        value: String,
        /// Why, in words.
        why: String,
    },
}

impl SweepMetrics {
    /// Each with its name in words and its unit, in the order of the reports.
    pub fn all(&self) -> [(&'static str, Unit, Option<Sample>); 9] {
        [
            ("denied share", Unit::Share, self.denied_share),
            ("denied share, worst second", Unit::Share, self.peak_denied_share),
            ("401 share, worst window", Unit::Share, self.peak_401_share),
            ("time to recover", Unit::Seconds, self.time_to_recover_s),
            ("JWKS requests", Unit::Count, self.jwks_requests),
            ("JWKS requests per replica and hour", Unit::Ratio, self.jwks_requests_per_replica_hour),
            ("revocation exposure", Unit::Seconds, self.revocation_exposure_s),
            ("outage survival", Unit::Seconds, self.outage_survival_s),
            ("login storm", Unit::Count, self.login_storm),
        ]
    }
}
