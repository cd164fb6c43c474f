//! The run in windows of equal length.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

impl Windows {
    /// How many windows there are.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// The start of a window; of the one after the last, the end of the run. In scenario seconds.
    pub(crate) fn start_s(&self, index: usize) -> f64 {
        self.first_s + self.width_s * index as f64
    }

    /// The lengths of all columns by name, for the check that they are equal.
    pub(super) fn lengths(&self) -> [(&'static str, usize); 14] {
        [
            ("requests", self.requests.len()),
            ("must_pass", self.must_pass.len()),
            ("false_rejects", self.false_rejects.len()),
            ("failures", self.failures.len()),
            ("cohort_must_pass", self.cohort_must_pass.len()),
            ("cohort_false_rejects", self.cohort_false_rejects.len()),
            ("cohort_failures", self.cohort_failures.len()),
            ("orphaned_rejects", self.orphaned_rejects.len()),
            ("false_accepts", self.false_accepts.len()),
            ("jwks_requests", self.jwks_requests.len()),
            ("token_requests", self.token_requests.len()),
            ("lateness_p99_ms", self.lateness_p99_ms.len()),
            ("latency_p50_ms", self.latency_p50_ms.len()),
            ("latency_p99_ms", self.latency_p99_ms.len()),
        ]
    }
}
