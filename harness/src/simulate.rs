//! A run in virtual time: the same plan, the same cache and the same counts as live, without a socket or a clock.
//!
//! There is no generator that could be late or full: requests come at their planned moments, and
//! `traffic.max_in_flight` does not hold.

mod agenda;
mod counter;
mod each;
mod fleet;
mod predict;
mod prepared;
mod replay;
mod service;
mod skip;
mod token;
mod world;

#[cfg(test)]
mod tests;

use keyquake_core::{Time, UnixTime};
use keyquake_idp::AppliedEvent;
use keyquake_reports::record::Engine;

use self::fleet::Log;
use crate::measure::Run;
use crate::observe::Fold;
use crate::plan::Plan;
use crate::seed;

pub(crate) use self::predict::{Prediction, predict};
pub use self::prepared::{By, Prepared, Sums};
pub(crate) use self::replay::{Agreement, Difference, replay};
pub(crate) use self::skip::Experience;

/// The date at which event time starts: any will do, as long as it is always the same.
const EPOCH: UnixTime = UnixTime(1_800_000_000);

/// Simulates a plan: at a cost that does not depend on its requests' number, or request by request where it must.
///
/// # Errors
///
/// The system has no randomness for keys.
pub(crate) fn run<'p>(plan: &'p Plan, command: &str) -> anyhow::Result<Run<'p>> {
    match plan.coupled {
        None => skip::run(plan, command, Detail::Curves, &mut Experience::default()),
        Some(_) => each::run(plan, command),
    }
}

/// Simulates a plan for its metrics alone, which are the same in distribution. The windows of its record are not. What one
/// run finds out is known to the next of the same plan under another seed.
///
/// # Errors
///
/// The system has no randomness for keys.
pub(crate) fn measure<'p>(plan: &'p Plan, experience: &mut Experience) -> anyhow::Result<Run<'p>> {
    match plan.coupled {
        None => skip::run(plan, "", Detail::Metrics, experience),
        Some(_) => each::run(plan, ""),
    }
}

/// What a simulation is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// Every window.
    Curves,
    /// Metrics, which ask for the moments of what was denied and of what came shortly before or after.
    Metrics,
}

/// A run whose requests have all ended.
fn conclude<'p>(plan: &'p Plan, command: &str, fold: Fold, log: Log) -> Run<'p> {
    let Log { entries: jwks, dropped: jwks_dropped, counted } = log;
    let events = plan.timeline.events().iter();
    let within = events.filter(|event| Time::ZERO - plan.warmup < event.at && event.at < plan.end());
    Run {
        command: command.to_owned(),
        applied: within
            .map(|timed| AppliedEvent { event: timed.event, planned: timed.at, applied: timed.at })
            .collect(),
        restarted: plan.runbook.restarts.iter().map(|(at, _)| *at).collect(),
        jwks,
        jwks_dropped,
        jwks_counted: counted.finish(&mut seed::generator(plan.seed, "seconds of counted fetches", 0)),
        ..Run::new(plan, Engine::Simulated, fold)
    }
}
