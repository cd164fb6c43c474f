//! What is measured, of the whole run and of each episode.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format;

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
    /// The longest time to recover from a rotation: over the ages that the caches had when it came.
    pub blackout_worst: Option<Lasting>,
    /// JWKS requests that each token with an unknown `kid` caused; `None` when there were none, or when nobody knows what
    /// the fleet asks for without them.
    pub fetches_per_unknown_kid: Option<f64>,
    /// How well the generator kept its schedule.
    pub fidelity: Fidelity,
}

/// What was measured in one episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpisodeMetrics {
    /// What a user with a token of the cohort saw.
    pub cohort: Recovering,
    /// What a dashboard over all traffic saw.
    pub all: Recovering,
    /// What each stream saw, by its name.
    pub streams: BTreeMap<String, Recovering>,
    /// What the episode cost the IdP.
    pub jwks: JwksVolume,
    /// Tokens of removed keys.
    pub orphaned: Orphaned,
    /// Tokens that must be refused and were accepted, by kind.
    pub false_accepts: BTreeMap<String, u64>,
    /// Renewals forced by rejections.
    pub login_storm: LoginStorm,
    /// How long tokens of the revoked key were accepted, by the stream that tried them.
    pub revocation_exposure: Vec<Exposure>,
    /// From the beginning of a JWKS fault until a token of a known key was denied; `None` without such a fault.
    pub outage_survival: Option<Lasting>,
    /// JWKS requests beyond those that the undisturbed fleet makes in the same time; `None` when it was not watched for
    /// long enough to know.
    pub jwks_amplification: Option<f64>,
    /// Denied requests by their cause.
    pub causes: BTreeMap<String, u64>,
    /// How well the generator kept its schedule within the episode.
    pub fidelity: Fidelity,
    /// The cohort's time to recover over the instances; `None` when no instance saw enough requests.
    pub by_instance: Option<RecoverySpread>,
    /// How long each replica answered the cohort both ways: the last answers of its workers disagreed, and what one
    /// connection accepted another denied. In seconds, by the number of the replica; `None` with one worker each.
    pub flapping_s: Option<BTreeMap<u32, f64>>,
}

/// A length of time whose end was seen, or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// The length, or what was seen of it.
    pub seconds: f64,
    /// Whether it lasted longer than was looked.
    pub at_least: bool,
}

impl fmt::Display for Lasting {
    /// As the reports print it: `20.3 s`, `>= 20.3 s`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&format::lasting(self.seconds, self.at_least))
    }
}

/// How long the tokens of a revoked key were still accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exposure {
    /// The stream that tried them.
    pub stream: String,
    /// The revoked key.
    pub key: String,
    /// Whether each request carried a token of its own, rather than one that the service has seen before.
    pub fresh: bool,
    /// Whether nothing else went to the same replicas, so that no new key drew their attention.
    pub alone: bool,
    /// From the revocation to the last token accepted; zero when none was.
    pub lasted: Lasting,
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

/// The spread of a recovery over the instances that saw enough requests to say.
///
/// An instance that did not recover counts as slower than any that did: a quantile that falls on one is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverySpread {
    /// The median instance.
    pub p50_s: Option<f64>,
    /// 95 % of the instances.
    pub p95_s: Option<f64>,
    /// The slowest instance.
    pub max_s: Option<f64>,
    /// Instances that recovered.
    pub recovered: u64,
    /// Instances that did not before the end of the episode.
    pub not_recovered: u64,
    /// Instances that saw too few requests to say; they are in no quantile.
    pub inconclusive: u64,
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
