//! `keyquake run`: from a scenario file to a report.

mod folder;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use keyquake_reports::judge;

use self::folder::Folder;
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::live;
use crate::live::descriptors::TooFew;
use crate::plan::Plan;
use crate::scenario::Source;
use crate::terminal::{has_colour, print, say};

/// The most settings that are laid over a file.
const MAX_SETTINGS: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The scenario file.
    scenario: PathBuf,
    /// Lay a setting over the file, like `fleet.policy.ttl=5m`; may be given several times.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Draw from this seed instead of the scenario's.
    #[arg(long, allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Where results go: one folder per scenario.
    #[arg(long, default_value = "keyquake-out", value_name = "FOLDER")]
    out: PathBuf,
}

impl Run {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let plan = self.plan().map_err(Unusable)?;
        live::descriptors::reserve(&plan).map_err(|error| Unusable(too_few(&plan, &error)))?;
        let folder = Folder::new(&self.out, &plan.name);
        let leaving = folder.clone();
        let mut interrupt = Interrupt::listen(move || leaving.abandon())?;
        folder.prepare().map_err(|error| Unusable(format!("{error:#}")))?;
        for line in announcement(&plan) {
            say(&line);
        }
        let run = live::run(&plan, &self.command(&plan), &mut interrupt).inspect_err(|_| folder.abandon())?;
        let interrupted = run.cut_short.is_some();
        let mut record = run.record();
        judge(&mut record);
        let filled = folder.fill(&record);
        // What was measured is told even if nothing could be written.
        print(&keyquake_reports::terminal(&record, has_colour()));
        print(&format!("\nreport: {}\n", filled?.display()));
        Ok(if interrupted { End::Interrupted } else { End::Verdict(record.verdict) })
    }

    fn plan(&self) -> Result<Plan, String> {
        if self.set.len() > MAX_SETTINGS {
            return Err(format!(
                "error: more than {MAX_SETTINGS} settings with `--set`: write them into a file"
            ));
        }
        let text = read(&self.scenario)
            .map_err(|error| format!("error: cannot read `{}`: {error}", self.scenario.display()))?;
        let seed = self.seed.map(|seed| format!("seed={seed}"));
        let overrides: Vec<String> = self.set.iter().cloned().chain(seed).collect();
        Plan::check(&Source::new(&self.scenario.display().to_string(), &text, &overrides)?)
    }

    /// The command that repeats the run, whatever the defaults will be then.
    fn command(&self, plan: &Plan) -> String {
        let mut command = format!("keyquake run {} --seed {}", quoted(&self.scenario.display()), plan.seed);
        for setting in &self.set {
            command.push_str(" --set ");
            command.push_str(&quoted(setting));
        }
        command
    }
}

/// The text of a file, and no more of it than is needed to see that it is too long.
fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(Source::MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// A word as a shell reads it.
fn quoted(word: &impl ToString) -> String {
    let word = word.to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What is about to happen.
fn announcement(plan: &Plan) -> Vec<String> {
    let wall = plan.duration.saturating_add(plan.warmup).scale(1.0 / plan.speed);
    let rate = plan.traffic.rate.per_second() * plan.speed;
    let mut lines = vec![format!(
        "{}: {} replicas, {rate:.0} requests/s for {wall} of wall time, seed {}",
        plan.name, plan.replicas, plan.seed
    )];
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
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted(&"scenarios/quickstart.toml"), "scenarios/quickstart.toml");
        assert_eq!(quoted(&"a b"), "'a b'");
        assert_eq!(quoted(&"it's"), r"'it'\''s'");
    }
}
