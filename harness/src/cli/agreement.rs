//! Whether a live run and the simulator agree: request by request, and in what they measure.

use std::path::Path;

use keyquake_core::Time;
use keyquake_reports::Record;
use keyquake_reports::record::Engine;

use super::rehearsal::Rehearsal;
use super::report::cause;
use super::{End, Unusable};
use crate::observe::{Outcome, Trace, TracedRequest};
use crate::plan::Plan;
use crate::simulate::{self, Agreement, Difference, Prediction};
use crate::terminal::print;

/// How many unexplained differences are shown.
const SHOWN: usize = 10;

/// Plays the requests of a live run again.
pub(super) fn replay(rehearsal: &Rehearsal, result: &Path) -> anyhow::Result<End> {
    // With its speed, and the live run's limits.
    let plan = rehearsal.plan(Engine::Live)?;
    let loaded = load(&plan, result).and_then(|record| Ok((requests(&plan, &record, result)?, record)));
    let (requests, record) = loaded.map_err(|cause| unusable(result, &cause))?;
    let agreement = simulate::replay(&plan, &record, &requests)?;
    print(&told(&plan, &agreement));
    Ok(if agreement.holds() { End::Done } else { End::Differs })
}

/// Simulates a live run's plan with many seeds.
pub(super) fn predict(rehearsal: &Rehearsal, result: &Path) -> anyhow::Result<End> {
    let plan = rehearsal.plan(Engine::Live)?;
    let record = load(&plan, result).map_err(|cause| unusable(result, &cause))?;
    let with_seed = |seed| Ok(rehearsal.plan_with_seed(Engine::Simulated, seed)?);
    let prediction = simulate::predict(&record, with_seed)?;
    print(&foretold(&plan, &prediction));
    Ok(if prediction.holds() { End::Done } else { End::Differs })
}

fn unusable(result: &Path, cause: &str) -> Unusable {
    Unusable(format!("error: cannot hold `{}` against the simulator: {cause}", result.display()))
}

/// The record of a live run of this plan.
fn load(plan: &Plan, result: &Path) -> Result<Record, String> {
    let record = Record::load(result).map_err(cause)?;
    if record.engine != Engine::Live {
        return Err("it was simulated, and not live".to_owned());
    }
    if record.target.is_some() {
        return Err(
            "it measured a service of yours, of whose caches the simulator knows nothing\nhint: without \
                    this flag it simulates what `[fleet.policy]` assumes of your service"
                .to_owned(),
        );
    }
    if record.scenario.hash != plan.hash {
        return Err(
            "it is of another plan: type the same file, `--set` and `--seed` as for the run".to_owned()
        );
    }
    Ok(record)
}

/// The requests of that run.
fn requests(plan: &Plan, record: &Record, result: &Path) -> Result<Vec<TracedRequest>, String> {
    let path = result.with_file_name(Trace::FILE);
    let requests = Trace::load(plan, &path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let counted: u64 = record.cells.iter().map(|cell| cell.metrics.all.requests).sum();
    let held = requests.iter().filter(|request| request.planned >= Time::ZERO).count() as u64;
    if held == counted {
        Ok(requests)
    } else {
        Err(format!("`{}` holds {held} of its {counted} requests", path.display()))
    }
}

fn told(plan: &Plan, agreement: &Agreement) -> String {
    let Agreement { requests, differ, unexplained } = agreement;
    let mut text = format!(
        "{}: {requests} requests replayed, {:.3} % end as in the run; {differ} differ, {} of them away from any change \
         of their cache\n",
        plan.name,
        agreement.share() * 100.0,
        unexplained.len(),
    );
    for Difference { request, replayed } in unexplained.iter().take(SHOWN) {
        text.push_str(&format!(
            "  {} at {:.6} s, {} on instance {}: {} live, {} replayed\n",
            plan.streams[request.stream].name,
            request.planned.as_secs_f64(),
            request.key,
            request.instance,
            ending(request.outcome),
            ending(*replayed),
        ));
    }
    text
}

fn ending(outcome: Outcome) -> String {
    match outcome.status() {
        Some(status) => format!("{} ({status})", outcome.name()),
        None => outcome.name().to_owned(),
    }
}

fn foretold(plan: &Plan, prediction: &Prediction) -> String {
    let Prediction { runs, ranges } = prediction;
    let outside = ranges.values().filter(|range| !range.holds()).count();
    let mut text = format!(
        "{}: {} metrics of the live run beside {runs} simulations with other seeds, {outside} outside of their range\n\n  \
         {:<40} {:>14} {:>14} {:>14}\n",
        plan.name,
        ranges.len(),
        "metric",
        "live",
        "lowest",
        "highest",
    );
    for (name, range) in ranges {
        let mark = if range.holds() { "" } else { "  outside" };
        text.push_str(&format!(
            "  {name:<40} {:>14} {:>14} {:>14}{mark}\n",
            number(range.live),
            number(range.lowest),
            number(range.highest),
        ));
    }
    text
}

/// Whole numbers as they are, others with three decimals.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
