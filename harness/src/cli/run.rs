//! `keyquake run`: from a scenario file to a report.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use keyquake_reports::{Record, judge};

use super::{End, Unusable};
use crate::live;
use crate::plan::Plan;
use crate::scenario::Source;
use crate::terminal::{has_colour, print, say};

/// How many earlier results of a scenario are kept.
const KEPT: u32 = 9;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The scenario file.
    scenario: PathBuf,
    /// Lay a setting over the file, like `fleet.policy.ttl=5m`; may be given several times.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Draw from this seed instead of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Where results go: one folder per scenario.
    #[arg(long, default_value = "keyquake-out", value_name = "FOLDER")]
    out: PathBuf,
}

impl Run {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let plan = self.plan().map_err(Unusable)?;
        let folder =
            Folder::prepare(&self.out, &plan.name).map_err(|error| Unusable(format!("{error:#}")))?;
        for line in announcement(&plan) {
            say(&line);
        }
        let run = live::run(&plan, &self.command(&plan))?;
        let interrupted = run.cut_short.is_some();
        let mut record = run.record();
        judge(&mut record);
        let files = folder.fill(&record)?;
        print(&keyquake_reports::terminal(&record, has_colour()));
        print(&format!("\nreport: {}\n", files.display()));
        Ok(if interrupted { End::Interrupted } else { End::Verdict(record.verdict) })
    }

    fn plan(&self) -> Result<Plan, String> {
        let text = fs::read_to_string(&self.scenario)
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

/// The folder of one result, on disk before anything runs.
struct Folder {
    /// Where the result is put together.
    draft: PathBuf,
    /// Where it belongs.
    place: PathBuf,
}

impl Folder {
    fn prepare(out: &Path, name: &str) -> anyhow::Result<Self> {
        let place = out.join(name);
        let draft = out.join(format!(".{name}.part"));
        let cannot = || format!("error: cannot write results to `{}`", out.display());
        if draft.exists() {
            fs::remove_dir_all(&draft).with_context(cannot)?;
        }
        fs::create_dir_all(&draft).with_context(cannot)?;
        Ok(Self { draft, place })
    }

    /// Writes the record, then everything that is drawn from it, and puts the folder into its place.
    fn fill(&self, record: &Record) -> anyhow::Result<PathBuf> {
        record.save(&self.draft.join("result.json")).context("cannot write the record")?;
        self.make_room()?;
        fs::rename(&self.draft, &self.place)
            .with_context(|| format!("cannot rename `{}`", self.draft.display()))?;
        // The record is safe by now, whatever becomes of its pictures.
        keyquake_reports::write(&self.place, record).context("cannot write the report")?;
        Ok(self.place.join("report.html"))
    }

    /// Moves the result of the last run to `.1`, that to `.2`, and so on.
    fn make_room(&self) -> anyhow::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.place.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if !self.place.exists() {
            return Ok(());
        }
        let free = (1..KEPT).find(|number| !numbered(*number).exists()).unwrap_or(KEPT);
        if numbered(free).exists() {
            fs::remove_dir_all(numbered(free)).context("cannot remove the oldest result")?;
        }
        for number in (1..free).rev() {
            fs::rename(numbered(number), numbered(number + 1)).context("cannot move an earlier result")?;
        }
        fs::rename(&self.place, numbered(1)).context("cannot move the earlier result")
    }
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

    #[test]
    fn earlier_results_move_on_and_the_oldest_goes() {
        let out = tempfile::tempdir().unwrap();
        for run in 0..12 {
            let folder = Folder::prepare(out.path(), "s").unwrap();
            fs::write(folder.draft.join("run"), run.to_string()).unwrap();
            folder.make_room().unwrap();
            fs::rename(&folder.draft, &folder.place).unwrap();
        }
        let run = |name: &str| fs::read_to_string(out.path().join(name).join("run")).unwrap();
        assert_eq!(run("s"), "11");
        assert_eq!(run("s.1"), "10");
        assert_eq!(run("s.9"), "2");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 10);
    }
}
