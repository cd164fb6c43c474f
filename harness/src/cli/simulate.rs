//! `keyquake simulate`: from a scenario file to a report, in virtual time.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use keyquake_reports::Record;
use keyquake_reports::record::Engine;

use super::rehearsal::{Rehearsal, conclude, judged};
use super::{End, Unusable, agreement};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use crate::simulate;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    rehearsal: Rehearsal,
    /// Simulate twice, and fail unless both records are the same to the byte.
    #[arg(long, group = "against")]
    check_determinism: bool,
    /// Play the requests of a live run of the same scenario again, and fail unless they end as they did.
    #[arg(long, value_name = "RESULT_JSON", group = "against")]
    replay: Option<PathBuf>,
    /// Simulate many seeds, and fail unless what a live run of the same scenario measured lies within their range.
    #[arg(long, value_name = "RESULT_JSON", group = "against")]
    predict: Option<PathBuf>,
}

impl Simulate {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        match (&self.replay, &self.predict) {
            (Some(result), _) => agreement::replay(&self.rehearsal, result),
            (_, Some(result)) => agreement::predict(&self.rehearsal, result),
            (None, None) => self.simulate(),
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
}

/// What is about to happen.
fn announcement(plan: &Plan) -> Vec<String> {
    let span = plan.duration.saturating_add(plan.warmup);
    let mut lines = vec![format!(
        "{}: {} replicas, {} for {span} of virtual time, seed {}",
        plan.name, plan.replicas, plan.traffic.rate, plan.seed
    )];
    lines.extend(plan.follows.clone());
    lines.extend(plan.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}
