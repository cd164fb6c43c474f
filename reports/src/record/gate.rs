//! What is asked of a run, and how it came out.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format;

/// What is asked of a run.
///
/// A gate over requests is held against the worst episode. Without episodes it is held against the whole run, with all
/// traffic in place of the cohort. Metrics for which [`Metric::is_run_wide`] holds are always of the whole run.
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

impl fmt::Display for Gate {
    /// As a line: `time_to_recover of cohort <= 10 s`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.metric.name())?;
        if !self.metric.is_run_wide() {
            write!(out, " of {}", self.of)?;
        }
        write!(out, " {} {}", self.comparison.sign(), format::quantity(self.metric.unit(), self.limit))
    }
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
    /// Seconds, the longest of the streams that tried.
    RevocationExposure,
    /// Seconds.
    OutageSurvival,
    /// JWKS requests above those of an undisturbed fleet.
    JwksAmplification,
    /// Seconds, of the replica that answered both ways for longest.
    Flapping,
    /// Seconds.
    BlackoutWorst,
    /// A ratio.
    FetchesPerUnknownKid,
    /// Milliseconds, the p99.
    Latency,
}

/// What the numbers of a [`Metric`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds of scenario time.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// A share of one.
    Share,
    /// A whole number.
    Count,
    /// A whole number within one second.
    PerSecond,
    /// So many of one for each of the other.
    Ratio,
}

impl Metric {
    /// All of them, in the order of the reports.
    pub const ALL: [Self; 20] = [
        Self::TimeToRecover,
        Self::RecoveryLag,
        Self::DeniedShare,
        Self::PeakDeniedShare,
        Self::Denied,
        Self::FalseRejects,
        Self::Failures,
        Self::FalseAccepts,
        Self::OrphanedRejects,
        Self::OrphanedAccepts,
        Self::JwksRequests,
        Self::JwksPeakPerSecond,
        Self::LoginStorm,
        Self::RevocationExposure,
        Self::OutageSurvival,
        Self::JwksAmplification,
        Self::Flapping,
        Self::BlackoutWorst,
        Self::FetchesPerUnknownKid,
        Self::Latency,
    ];

    /// Its name in scenarios and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeToRecover => "time_to_recover",
            Self::RecoveryLag => "recovery_lag",
            Self::DeniedShare => "denied_share",
            Self::PeakDeniedShare => "peak_denied_share",
            Self::Denied => "denied",
            Self::FalseRejects => "false_rejects",
            Self::Failures => "failures",
            Self::FalseAccepts => "false_accepts",
            Self::OrphanedRejects => "orphaned_rejects",
            Self::OrphanedAccepts => "orphaned_accepts",
            Self::JwksRequests => "jwks_requests",
            Self::JwksPeakPerSecond => "jwks_peak_per_second",
            Self::LoginStorm => "login_storm",
            Self::RevocationExposure => "revocation_exposure",
            Self::OutageSurvival => "outage_survival",
            Self::JwksAmplification => "jwks_amplification",
            Self::Flapping => "flapping",
            Self::BlackoutWorst => "blackout_worst",
            Self::FetchesPerUnknownKid => "fetches_per_unknown_kid",
            Self::Latency => "latency",
        }
    }

    /// The metric of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// What its numbers count.
    pub fn unit(self) -> Unit {
        match self {
            Self::TimeToRecover
            | Self::RecoveryLag
            | Self::RevocationExposure
            | Self::OutageSurvival
            | Self::Flapping
            | Self::BlackoutWorst => Unit::Seconds,
            Self::FetchesPerUnknownKid => Unit::Ratio,
            Self::DeniedShare | Self::PeakDeniedShare => Unit::Share,
            Self::Latency => Unit::Milliseconds,
            Self::JwksPeakPerSecond => Unit::PerSecond,
            _ => Unit::Count,
        }
    }

    /// Whether it is counted over the whole run and for everyone, so that a gate on it can name no stream.
    ///
    /// A forged token that passes before the first disturbance is no better than one that passes after it, and what the
    /// IdP must bear is the volume of the run.
    pub fn is_run_wide(self) -> bool {
        match self {
            Self::FalseAccepts
            | Self::OrphanedRejects
            | Self::OrphanedAccepts
            | Self::JwksRequests
            | Self::JwksPeakPerSecond
            | Self::LoginStorm
            | Self::BlackoutWorst
            | Self::FetchesPerUnknownKid => true,
            Self::TimeToRecover
            | Self::RecoveryLag
            | Self::DeniedShare
            | Self::PeakDeniedShare
            | Self::Denied
            | Self::FalseRejects
            | Self::Failures
            | Self::RevocationExposure
            | Self::OutageSurvival
            | Self::JwksAmplification
            | Self::Flapping
            | Self::Latency => false,
        }
    }
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

impl Comparison {
    /// All of them, those with the longer sign first, so that a parser can try them in turn.
    pub const ALL: [Self; 5] = [Self::AtMost, Self::AtLeast, Self::Exactly, Self::Below, Self::Above];

    /// Its sign in scenarios and records.
    pub fn sign(self) -> &'static str {
        match self {
            Self::AtMost => "<=",
            Self::Below => "<",
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::Exactly => "==",
        }
    }
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
    /// The episode (counted from zero) that `value` is from; `None` for the whole run.
    pub episode: Option<u32>,
    /// How far `value` is on the good side of the limit, in the metric's unit; negative when it failed, `None` when
    /// nothing is known of it.
    pub margin: Option<f64>,
}

impl From<Gate> for GateResult {
    /// A gate that nobody has judged yet.
    fn from(gate: Gate) -> Self {
        Self {
            gate,
            state: GateState::Inconclusive,
            value: None,
            at_least: false,
            episode: None,
            margin: None,
        }
    }
}

/// How a gate came out, the worse the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// It held.
    Held,
    /// Too little data to say.
    Inconclusive,
    /// It did not hold.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_signs_are_those_of_the_record() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
        }
        for comparison in Comparison::ALL {
            assert_eq!(serde_json::to_value(comparison).unwrap(), comparison.sign());
        }
        assert_eq!(Metric::from_name("time-to-recover"), None);
    }
}
