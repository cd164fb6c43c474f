//! What the commands that play a scenario have in common: what is typed, the plan, and what is left behind.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use keyquake_reports::judge;
use keyquake_reports::record::{Engine, Record};

use super::folder::Folder;
use super::{End, Unusable};
use crate::measure::Run;
use crate::plan::Plan;
use crate::scenario::Source;
use crate::terminal::{has_colour, print};

/// The most settings that are laid over a file.
const MAX_SETTINGS: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Rehearsal {
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

impl Rehearsal {
    /// The plan of what was typed.
    pub(super) fn plan(&self, engine: Engine) -> Result<Plan, Unusable> {
        self.checked(engine, self.seed).map_err(Unusable)
    }

    /// The plan of what was typed, with another seed.
    pub(super) fn plan_with_seed(&self, engine: Engine, seed: u64) -> Result<Plan, Unusable> {
        self.checked(engine, Some(seed)).map_err(Unusable)
    }

    /// The plan of a live run whose requests may go to these hosts.
    pub(super) fn plan_allowing(&self, hosts: &[String]) -> Result<Plan, Unusable> {
        let source = self.source(self.seed).map(|mut source| {
            source.allow(hosts);
            source
        });
        source.and_then(|source| Plan::check(&source, Engine::Live)).map_err(Unusable)
    }

    fn checked(&self, engine: Engine, seed: Option<u64>) -> Result<Plan, String> {
        Plan::check(&self.source(seed)?, engine)
    }

    /// The file with the settings over it.
    fn source(&self, seed: Option<u64>) -> Result<Source, String> {
        if self.set.len() > MAX_SETTINGS {
            return Err(format!(
                "error: more than {MAX_SETTINGS} settings with `--set`: write them into a file"
            ));
        }
        let text = read(&self.scenario)
            .map_err(|error| format!("error: cannot read `{}`: {error}", self.scenario.display()))?;
        let seed = seed.map(|seed| format!("seed={seed}"));
        let overrides: Vec<String> = self.set.iter().cloned().chain(seed).collect();
        Source::new(&self.scenario.display().to_string(), &text, &overrides)
    }

    /// What was typed, for a sweep that adds axes to it.
    pub(super) fn typed(&self) -> Result<Source, String> {
        self.source(self.seed)
    }

    /// Where the results of a plan go.
    pub(super) fn folder(&self, plan: &Plan) -> Folder {
        Folder::new(&self.out, &plan.name)
    }

    /// The command that repeats it, whatever the defaults will be then.
    pub(super) fn command(&self, verb: &str, plan: &Plan) -> String {
        let mut command =
            format!("keyquake {verb} {} --seed {}", quoted(&self.scenario.display()), plan.seed);
        for setting in &self.set {
            command.push_str(" --set ");
            command.push_str(&quoted(setting));
        }
        command
    }
}

/// The judged record of a run.
pub(super) fn judged(run: &Run<'_>) -> Record {
    let mut record = run.record();
    judge(&mut record);
    record
}

/// Fills the folder, and tells what was measured even if nothing could be written.
pub(super) fn conclude(folder: &Folder, record: &Record) -> anyhow::Result<End> {
    let filled = folder.fill(record);
    print(&keyquake_reports::terminal(record, has_colour()));
    print(&format!("\nreport: {}\n", filled?.display()));
    Ok(End::Verdict(record.verdict))
}

/// The text of a file, and no more of it than is needed to see that it is too long.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(Source::MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// A word as a shell reads it.
pub(super) fn quoted(word: &impl ToString) -> String {
    let word = word.to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
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
}
