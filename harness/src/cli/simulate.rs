//! `keyquake simulate`: from a scenario file to a report, in virtual time.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use keyquake_reports::Record;
use keyquake_reports::record::Engine;

use super::rehearsal::{Rehearsal, conclude, judged};
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::observe::{Trace, TracedRequest};
use crate::plan::Plan;
use crate::simulate::{self, Agreement, Difference};
use crate::terminal::{print, say};

/// How many unexplained differences are shown.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    rehearsal: Rehearsal,
    /// Simulate twice, and fail unless both records are the same to the byte.
    #[arg(long)]
    check_determinism: bool,
    /// Play the requests of a live run of the same scenario again, and fail unless they end as they did.
    #[arg(long, value_name = "RESULT_JSON", conflicts_with = "check_determinism")]
    replay: Option<PathBuf>,
}

impl Simulate {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        match &self.replay {
            Some(result) => self.replay(result),
            None => self.simulate(),
        }
    }

    fn simulate(&self) -> anyhow::Result<End> {
        let plan = self.rehearsal.plan(Engine::Simulated)?;
        let folder = self.rehearsal.folder(&plan);
        let leaving = folder.clone();
        Interrupt::listen(move || leaving.abandon())?;
        folder.prepare().map_err(|error| Unusable(format!("{error:#}")))?;
        for line in announcement(&plan) {
            say(&line);
        }
        let command = self.rehearsal.command("simulate", &plan);
        let simulated = || -> anyhow::Result<Record> {
            let run = simulate::run(&plan, &command).inspect_err(|_| folder.abandon())?;
            Ok(judged(&run))
        };
        let record = simulated()?;
        if self.check_determinism {
            ensure!(record.to_json()? == simulated()?.to_json()?, "two simulations of one plan differ");
            say("simulated twice, with the same bytes");
        }
        conclude(&folder, &record)
    }

    fn replay(&self, result: &Path) -> anyhow::Result<End> {
        // With its speed, and the live run's limits.
        let plan = self.rehearsal.plan(Engine::Live)?;
        let (record, requests) = load(&plan, result)
            .map_err(|error| Unusable(format!("error: cannot replay `{}`: {error}", result.display())))?;
        let agreement = simulate::replay(&plan, &record, &requests)?;
        print(&told(&plan, &agreement));
        Ok(if agreement.holds() { End::Done } else { End::Differs })
    }
}

/// What is about to happen.
fn announcement(plan: &Plan) -> Vec<String> {
    let span = plan.duration.saturating_add(plan.warmup);
    let mut lines = vec![format!(
        "{}: {} replicas, {} for {span} of virtual time, seed {}",
        plan.name, plan.replicas, plan.traffic.rate, plan.seed
    )];
    lines.extend(plan.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}

/// The record of a live run of this plan, and its requests.
fn load(plan: &Plan, result: &Path) -> Result<(Record, Vec<TracedRequest>), String> {
    let record = Record::load(result).map_err(|error| error.to_string())?;
    if record.engine != Engine::Live {
        return Err("it was simulated, and a replay is of a live run".to_owned());
    }
    if record.scenario.hash != plan.hash {
        return Err(
            "it is of another plan: type the same file, `--set` and `--seed` as for the run".to_owned()
        );
    }
    let path = result.with_file_name(Trace::FILE);
    let requests = Trace::load(plan, &path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let counted: u64 = record.cells.iter().map(|cell| cell.metrics.all.requests).sum();
    let held = requests.iter().filter(|request| request.planned >= keyquake_core::Time::ZERO).count() as u64;
    if held == counted {
        Ok((record, requests))
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

fn ending(outcome: crate::observe::Outcome) -> String {
    match outcome.status() {
        Some(status) => format!("{} ({status})", outcome.name()),
        None => outcome.name().to_owned(),
    }
}
