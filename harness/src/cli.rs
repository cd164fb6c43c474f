//! What a person types, and what a run ends with.

mod idp;
mod report;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keyquake_reports::record::Verdict;

use crate::terminal::say;

/// Rehearse JWT signing-key rotation before production does it for you.
#[derive(Debug, Parser)]
#[command(name = "keyquake", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
    0  pass
    1  internal error
    2  something to mend before it can start: usage, scenario, port, folder
   10  a gate failed
   11  inconclusive: too little data
   12  void: the generator could not keep its schedule
   13  a run that had started was stopped
   14  incomplete: parts are missing
  130  interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// Rotate keys under load and report what broke.
    Run(run::Run),
    /// Draw the report of a result.json again.
    Report(report::Report),
    /// Run the mock IdP alone, for any service to point at.
    Idp(idp::Idp),
}

/// How a command ends.
#[derive(Debug)]
pub(crate) enum End {
    /// It did what it was asked.
    Done,
    /// A run came to this verdict.
    Verdict(Verdict),
    /// A person stopped it.
    Interrupted,
}

/// What a person can mend before a command starts; anything else that goes wrong is an internal error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

/// Runs the command that was typed.
pub(crate) fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(run) => run.execute(),
        Command::Report(report) => report.execute(),
        Command::Idp(idp) => idp.execute(),
    };
    match outcome {
        Ok(end) => ExitCode::from(end.code()),
        Err(error) => match error.downcast::<Unusable>() {
            Ok(unusable) => {
                say(&unusable.to_string());
                ExitCode::from(2)
            }
            Err(error) => {
                say(&format!("error: {error:#}"));
                ExitCode::from(1)
            }
        },
    }
}

impl End {
    fn code(&self) -> u8 {
        match self {
            Self::Done | Self::Verdict(Verdict::Pass) => 0,
            Self::Verdict(Verdict::Fail) => 10,
            Self::Verdict(Verdict::Inconclusive) => 11,
            Self::Verdict(Verdict::Void) => 12,
            Self::Verdict(Verdict::Aborted) => 13,
            Self::Verdict(Verdict::Incomplete) => 14,
            Self::Interrupted => 130,
        }
    }
}
