//! What a run leaves behind: `result.json`, version [`SCHEMA`]. Plain numbers in the units that their names state.
//!
//! Moments are seconds of scenario time since the start of event time; warm-up lies before zero.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the format that this crate writes, and the only one that it reads.
pub const SCHEMA: u32 = 1;

/// One run, or one sweep: everything that a report is drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this format.
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
    /// Why it did not pass, or what a reader must know to trust it; one sentence each.
    pub reasons: Vec<String>,
    /// Findings of the plan: what is odd about the scenario itself.
    pub warnings: Vec<String>,
    /// One cell for a run, one per combination for a sweep.
    pub cells: Vec<Cell>,
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

/// What was measured over the whole run, warm-up excluded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunMetrics {
    /// All traffic.
    pub all: Traffic,
    /// Each stream by its name.
    pub streams: BTreeMap<String, Traffic>,
    /// What the run cost the IdP.
    pub jwks: JwksVolume,
    /// Tokens of keys that were removed but not revoked.
    pub orphaned: Orphaned,
    /// Tokens that must be refused and were accepted, by kind; kinds that were sent and refused show a zero.
    pub false_accepts: BTreeMap<String, u64>,
    /// Renewals forced by rejections.
    pub login_storm: LoginStorm,
    /// How well the generator kept its schedule.
    pub fidelity: Fidelity,
}

/// What happened to one set of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Every request of the set, whatever the oracle says of it.
    pub requests: u64,
    /// Requests by outcome: `accepted`, `rejected`, `failed`, `timed_out`, `shed`, `unfinished`.
    pub outcomes: BTreeMap<String, u64>,
    /// Requests by HTTP status, where one came back.
    pub statuses: BTreeMap<u16, u64>,
    /// 401 and 403 over all requests: what a dashboard shows.
    pub rejected_share: Option<f64>,
    /// Requests that a perfect validator accepts.
    pub must_pass: u64,
    /// `must_pass` and not accepted.
    pub denied: u64,
    /// `denied` over `must_pass`.
    pub denied_share: Option<f64>,
    /// The worst sliding second of `denied_share`, widened until it holds 100 requests.
    pub peak_denied_share: Option<f64>,
    /// Denied with 401 or 403.
    pub false_rejects: u64,
    /// Denied otherwise: 5xx, resets, time-outs.
    pub failures: u64,
    /// From the planned moment to the end of the answer.
    pub latency_ms: Option<Quantiles>,
    /// From sending to the end of the answer.
    pub service_time_ms: Option<Quantiles>,
}

/// Quantiles of a set of durations, all in the unit of the field that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// Requests at the IdP's JWKS endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwksVolume {
    /// How many.
    pub jwks_requests: u64,
    /// The worst second.
    pub jwks_peak_per_second: u64,
    /// By HTTP status.
    pub statuses: BTreeMap<u16, u64>,
}

/// Tokens whose key was removed from the JWKS but not revoked: the IdP's doing, charged to nobody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Orphaned {
    /// Refused.
    pub orphaned_rejects: u64,
    /// Still accepted.
    pub orphaned_accepts: u64,
}

/// Token requests that rejections caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginStorm {
    /// How many.
    pub requests: u64,
    /// The worst second.
    pub peak_per_second: u64,
    /// Sessions with three denials in a row.
    pub locked_out: u64,
}

/// Whether the generator kept its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// How far behind plan requests were sent, in wall milliseconds.
    pub lateness_ms: Option<Quantiles>,
    /// Requests that could not be sent.
    pub shed: u64,
    /// `shed` over all planned requests.
    pub shed_share: f64,
    /// The p99 lateness, in wall milliseconds, above which an episode is void.
    pub lateness_limit_ms: f64,
    /// The share of shed requests above which an episode is void.
    pub shed_limit: f64,
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

/// What was measured in one episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpisodeMetrics {
    /// What a user with a token of the cohort saw.
    pub cohort: Recovering,
    /// What a dashboard over all traffic saw.
    pub all: Recovering,
    /// What the episode cost the IdP.
    pub jwks: JwksVolume,
    /// Tokens of removed keys.
    pub orphaned: Orphaned,
    /// Tokens that must be refused and were accepted, by kind.
    pub false_accepts: BTreeMap<String, u64>,
    /// Renewals forced by rejections.
    pub login_storm: LoginStorm,
    /// How well the generator kept its schedule within the episode.
    pub fidelity: Fidelity,
    /// The cohort's time to recover over the instances; `None` when no instance saw enough requests.
    pub by_instance: Option<RecoverySpread>,
}

/// A set of requests with its recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovering {
    /// The counts.
    pub traffic: Traffic,
    /// From the first disturbance until denials stay below the limit.
    pub time_to_recover: Recovery,
    /// The same from the first moment at which a validator that fetched at once would pass.
    pub recovery_lag: Recovery,
}

/// How long until denials stayed below `recover_below`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// Whether it was seen.
    pub state: RecoveryState,
    /// The time to recover when recovered; what was waited for in vain when not; `None` when inconclusive.
    pub seconds: Option<f64>,
    /// The last denial, from the same start; `None` when nothing was denied.
    pub last_denial_s: Option<f64>,
    /// The first pass after it, from the same start.
    pub first_pass_after_s: Option<f64>,
    /// Requests after recovery that bear it out.
    pub following: u64,
}

/// What is known of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryState {
    /// It happened, and enough requests followed it.
    Recovered,
    /// It did not happen before the end of the episode.
    NotRecovered,
    /// Fewer than 30 requests follow, too few to say.
    Inconclusive,
}

/// The spread of a recovery over the instances that saw traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverySpread {
    /// The median instance.
    pub p50_s: f64,
    /// 95 % of the instances.
    pub p95_s: f64,
    /// The slowest instance.
    pub max_s: f64,
    /// Instances that recovered.
    pub recovered: u64,
    /// Instances that did not, or that saw too few requests to say.
    pub unknown: u64,
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
    /// Each request that it made to the JWKS endpoint.
    pub jwks_requests: Vec<JwksRequest>,
    /// Its time to recover in each episode, by the cohort; `None` where it saw too little.
    pub time_to_recover_s: Vec<Option<f64>>,
}

/// One request at the JWKS endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwksRequest {
    /// When it arrived at the IdP.
    pub at_s: f64,
    /// When its answer was sent.
    pub answered_s: f64,
    /// The status of the answer.
    pub status: u16,
    /// The labels of the keys in the answer.
    pub keys: Vec<String>,
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
    /// A runbook action.
    Runbook,
}

/// Columns over windows of equal length, warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// The length of each window.
    pub width_s: f64,
    /// The start of the first; the others follow without gaps.
    pub first_s: f64,
    /// All requests planned in the window.
    pub requests: Vec<u64>,
    /// Requests that must pass.
    pub must_pass: Vec<u64>,
    /// Of those, refused with 401 or 403.
    pub false_rejects: Vec<u64>,
    /// Of those, failed otherwise.
    pub failures: Vec<u64>,
    /// Requests of the cohort of the episode that the window lies in; zero outside episodes.
    pub cohort_must_pass: Vec<u64>,
    /// Of those, refused with 401 or 403.
    pub cohort_false_rejects: Vec<u64>,
    /// Of those, failed otherwise.
    pub cohort_failures: Vec<u64>,
    /// Orphaned tokens refused.
    pub orphaned_rejects: Vec<u64>,
    /// Tokens that must be refused and were accepted.
    pub false_accepts: Vec<u64>,
    /// Requests at the JWKS endpoint.
    pub jwks_requests: Vec<u64>,
    /// Requests at the token endpoint.
    pub token_requests: Vec<u64>,
    /// The p99 lateness of the requests planned in the window, in wall milliseconds; zero when there were none.
    pub lateness_p99_ms: Vec<f64>,
    /// The median latency of the answered requests planned in the window; `None` when there were none.
    pub latency_p50_ms: Vec<Option<f64>>,
    /// The p99 latency.
    pub latency_p99_ms: Vec<Option<f64>>,
}

/// A gate and how it came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// How it came out.
    pub state: GateState,
    /// The worst value over the episodes, in the metric's unit; `None` without data.
    pub value: Option<f64>,
    /// Whether the true value is at least `value`, because the run ended first.
    pub at_least: bool,
    /// The episode (counted from zero) that `value` is from; `None` for run-wide metrics.
    pub episode: Option<u32>,
    /// How far `value` is on the good side of the limit, in the metric's unit; negative when it failed.
    pub margin: Option<f64>,
}

/// What is asked of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The metric.
    pub metric: Metric,
    /// Whose requests: `cohort`, `all` or a stream's name.
    pub of: String,
    /// How to compare.
    pub comparison: Comparison,
    /// With what, in the metric's unit.
    pub limit: f64,
}

/// The metrics that gates and tables know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Seconds.
    TimeToRecover,
    /// Seconds.
    RecoveryLag,
    /// A share.
    DeniedShare,
    /// A share.
    PeakDeniedShare,
    /// A count.
    Denied,
    /// A count.
    FalseRejects,
    /// A count.
    Failures,
    /// A count, all kinds together.
    FalseAccepts,
    /// A count.
    OrphanedRejects,
    /// A count.
    OrphanedAccepts,
    /// A count.
    JwksRequests,
    /// Requests in the worst second.
    JwksPeakPerSecond,
    /// A count.
    LoginStorm,
    /// Milliseconds, the p99.
    Latency,
}

/// How a gate compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Comparison {
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// Less than.
    #[serde(rename = "<")]
    Below,
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
    /// More than.
    #[serde(rename = ">")]
    Above,
    /// Exactly.
    #[serde(rename = "==")]
    Exactly,
}

/// How a gate came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// It held.
    Held,
    /// It did not.
    Failed,
    /// Too little data to say.
    Inconclusive,
}
