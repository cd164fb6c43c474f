//! `keyquake simulate`: from a scenario file to a report, in virtual time.

use anyhow::ensure;
use clap::Args;
use keyquake_reports::record::Engine;

use super::rehearsal::{Rehearsal, conclude, judged};
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use crate::simulate;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    rehearsal: Rehearsal,
    /// Simulate twice, and fail unless both records are the same to the byte.
    #[arg(long)]
    check_determinism: bool,
}

impl Simulate {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let plan = self.rehearsal.plan(Engine::Simulated)?;
        let folder = self.rehearsal.folder(&plan);
        let leaving = folder.clone();
        Interrupt::listen(move || leaving.abandon())?;
        folder.prepare().map_err(|error| Unusable(format!("{error:#}")))?;
        for line in announcement(&plan) {
            say(&line);
        }
        let command = self.rehearsal.command("simulate", &plan);
        let simulated = || Ok(judged(&simulate::run(&plan, &command)?));
        let record = simulated().inspect_err(|_: &anyhow::Error| folder.abandon())?;
        if self.check_determinism {
            let again = simulated().inspect_err(|_| folder.abandon())?;
            ensure!(record.to_json()? == again.to_json()?, "two simulations of one plan differ");
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
    lines.extend(plan.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}
