//! `keyquake run`: from a scenario file to a report, over real HTTP.

use clap::Args;

use super::rehearsal::{Rehearsal, conclude, judged, quoted};
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::live;
use crate::live::descriptors::TooFew;
use crate::measure::Cut;
use crate::plan::Plan;
use crate::terminal::{counted, say};

/// From this many on, their tokens take seconds to sign.
const MANY_SESSIONS: u32 = 5_000;

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    rehearsal: Rehearsal,
    /// Let requests go to this host, which is not this machine; with its highest rate, if you like; may be given several
    /// times.
    #[arg(long, value_name = "HOST[=200/s]")]
    allow_target: Vec<String>,
}

impl Run {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let plan = self.rehearsal.plan_allowing(&self.allow_target)?;
        live::descriptors::reserve(&plan).map_err(|error| Unusable(too_few(&plan, &error)))?;
        let folder = self.rehearsal.folder(&plan);
        let leaving = folder.clone();
        let mut interrupt = Interrupt::listen(move || leaving.abandon())?;
        folder.prepare().map_err(|error| Unusable(format!("{error:#}")))?;
        for line in announcement(&plan) {
            say(&line);
        }
        let mut command = self.rehearsal.command("run", &plan);
        for host in &self.allow_target {
            command.push_str(" --allow-target ");
            command.push_str(&quoted(host));
        }
        let run =
            live::run(&plan, &command, folder.draft(), &mut interrupt).inspect_err(|_| folder.abandon())?;
        let end = conclude(&folder, &judged(&run))?;
        let interrupted = run.cut_short.is_some_and(|(_, cut)| cut == Cut::Interrupted);
        Ok(if interrupted { End::Interrupted } else { end })
    }
}

/// What is about to happen.
fn announcement(plan: &Plan) -> Vec<String> {
    let wall = plan.duration.saturating_add(plan.warmup).scale(1.0 / plan.speed);
    let rate = plan.traffic.rate.per_second() * plan.speed;
    let of = plan.target.as_ref().map_or(String::new(), |target| format!(" of {}", target.title()));
    let mut lines = vec![format!(
        "{}: {}{of}, {rate:.0} requests/s for {wall} of wall time, seed {}",
        plan.name,
        counted(plan.replicas, "replica"),
        plan.seed
    )];
    if plan.traffic.sessions >= MANY_SESSIONS {
        lines.push(format!("{} sessions log in first, which takes a while", plan.traffic.sessions));
    }
    lines.extend(plan.follows.clone());
    lines.extend(plan.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}

/// Why a plan does not fit into the system's limit, and the ways out.
fn too_few(plan: &Plan, error: &TooFew) -> String {
    let TooFew { needed, .. } = error;
    format!(
        "error: {error}\nhint: allow more with `ulimit -n {needed}`, or lower `traffic.max_in_flight` ({}), \
         `traffic.connections` ({}) or `fleet.replicas` ({}): every connection has two ends here",
        plan.traffic.max_in_flight, plan.traffic.connections, plan.replicas
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_set_up_is_announced() {
        let lines = |sessions: u32| {
            let traffic = format!("[traffic]\nrate = \"10/s\"\nsessions = {sessions}");
            announcement(&crate::plan::testing::plan(&traffic))
        };
        assert_eq!(lines(4_999).len(), 1);
        assert!(lines(5_000)[1].starts_with("5000 sessions log in first"));
    }
}
