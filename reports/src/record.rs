//! What a run leaves behind: `result.json`, version [`SCHEMA`]. Plain numbers in the units that their names state.
//!
//! Moments are seconds of scenario time since the start of event time; warm-up lies before zero.

mod check;
mod gate;
mod json;
mod metrics;
mod sweep;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use gate::{Comparison, Gate, GateResult, GateState, Metric, Unit};
pub use json::{ReadError, WriteError, record_schema};
pub use metrics::{
    EpisodeMetrics, Exposure, Fidelity, JwksVolume, Lasting, LoginStorm, Orphaned, Quantiles, Recovering,
    Recovery, RecoverySpread, RecoveryState, RunMetrics, Traffic,
};
pub use sweep::{
    Extreme, Finding, Outcome, Recommended, Rule, Sample, Sweep, SweepAxis, SweepCell, SweepMetrics,
};
pub use windows::Windows;

/// The version of the format that this crate writes, and the only one that it reads.
pub const SCHEMA: u32 = 1;

/// One run, or one sweep: everything that a report is drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this format.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// The version of keyquake that wrote it.
    pub keyquake: String,
    /// What was run.
    pub scenario: Scenario,
    /// The one seed, from which every part drew its own.
    pub seed: u64,
    /// Whether requests were sent or counted.
    pub engine: Engine,
    /// Scenario seconds per wall second.
    pub speed: f64,
    /// The command that repeats the run.
    pub command: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why the verdict is what it is, one sentence each: by [`judge`](crate::judge()), or by whoever stopped the run.
    pub reasons: Vec<String>,
    /// What a reader must know beside the verdict: oddities of the scenario, and of how it was run.
    pub warnings: Vec<String>,
    /// One cell for a run; none for a sweep, whose cells are of another kind.
    pub cells: Vec<Cell>,
    /// The user's own service that was under test; none for the reference service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The cells of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

/// The scenario that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, which is also the name of the output folder.
    pub name: String,
    /// The question in its first line.
    pub question: Option<String>,
    /// A hash of the resolved scenario: equal hashes ran the same plan.
    pub hash: String,
}

/// A service of the user's under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// How it came to run.
    pub kind: TargetKind,
    /// The command, or the URLs.
    pub what: String,
    /// JWKS requests of which nobody knows which replica sent them; they are in the counts, and in no replica's list.
    pub unattributed_jwks_requests: u64,
}

/// How a target came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// It was started by this command, once for each replica.
    Command,
    /// It was running already.
    Url,
}

/// How a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Real requests over HTTP.
    Live,
    /// Virtual time.
    Simulated,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every gate held.
    Pass,
    /// A gate did not hold.
    Fail,
    /// Too little data to say.
    Inconclusive,
    /// The generator could not keep its schedule: the numbers say nothing about the target.
    Void,
    /// Stopped before its end.
    Aborted,
    /// Parts are missing.
    Incomplete,
}

/// One combination of parameters and what was measured under it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The settings that matter for a reader, by their path in the scenario.
    pub parameters: BTreeMap<String, String>,
    /// Run-wide.
    pub metrics: RunMetrics,
    /// In the order of their start; an empty list when nothing was disturbed.
    pub episodes: Vec<Episode>,
    /// One per cache.
    pub instances: Vec<Instance>,
    /// Everything that happened at the IdP and in the fleet, in order, also outside episodes.
    pub events: Vec<Event>,
    /// The run in windows of equal length.
    pub windows: Windows,
    /// What was asked of the run, and whether it held.
    pub gates: Vec<GateResult>,
}

/// Disturbances that overlap or follow each other before recovery, and what they did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Episode {
    /// What happened, in a few words: `no-overlap rotation to key-2`.
    pub title: String,
    /// The first disturbance.
    pub from_s: f64,
    /// The start of the next episode, or the end of the run.
    pub to_s: f64,
    /// Whose requests count as the cohort, in words.
    pub cohort: String,
    /// What happened in it; publications that prepared it come first, at negative offsets.
    pub events: Vec<Event>,
    /// What it did.
    pub metrics: EpisodeMetrics,
}

/// One cache of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its replica.
    pub replica: u32,
    /// Its number within the replica.
    pub worker: u32,
    /// How old its key set was when event time began; `None` when it started cold.
    pub cache_age_at_start_s: Option<f64>,
    /// Requests that it answered and that must pass.
    pub must_pass: u64,
    /// Those of them that were denied.
    pub denied: u64,
    /// Each request that it made to the JWKS endpoint. Of requests that repeat each other a simulation lists the last two
    /// and counts the others, so those in `metrics` may be more.
    pub jwks_requests: Vec<JwksRequest>,
    /// Its recovery in each episode, by the cohort.
    pub time_to_recover: Vec<Recovery>,
}

/// One request at the JWKS endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwksRequest {
    /// When it arrived at the IdP.
    pub at_s: f64,
    /// When its answer was sent; `None` when the run ended before, or a fault kept it from being sent.
    pub answered_s: Option<f64>,
    /// The status of the answer; `None` when none was sent.
    pub status: Option<u16>,
    /// The labels of the keys in the answer.
    // Shared, as most answers have the same.
    pub keys: Arc<[String]>,
    /// When the cache asked, by its own account; only the reference service gives one.
    pub asked_s: Option<f64>,
    /// When it had the answer, by its own account.
    pub received_s: Option<f64>,
}

/// Something that happened at a known moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The key that it concerns, by label.
    pub key: Option<String>,
    /// More, in words: a fault's status, for instance.
    pub detail: Option<String>,
    /// When it was planned.
    pub planned_s: f64,
    /// When it happened; `None` when it did not, or is simulated.
    pub actual_s: Option<f64>,
}

impl Event {
    /// When it happened, as far as is known; in scenario seconds.
    pub(crate) fn at_s(&self) -> f64 {
        self.actual_s.unwrap_or(self.planned_s)
    }
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A fault ended.
    FaultOff,
    /// A fault began.
    FaultOn,
    /// A key appeared in the JWKS.
    Publish,
    /// A key began to sign.
    Activate,
    /// A key stopped signing and stayed in the JWKS.
    Retire,
    /// A key left the JWKS.
    Remove,
    /// A key was declared compromised: its tokens must be refused.
    Revoke,
    /// A stream beside the sessions ended before the run did.
    StreamOff,
    /// A stream beside the sessions began within the run: a flood, for instance.
    StreamOn,
    /// Many requests came in one instant.
    Burst,
    /// A runbook action.
    Runbook,
    /// A replica of a target ended by itself; when it was planned means nothing.
    Death,
}
