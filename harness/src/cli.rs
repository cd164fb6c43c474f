//! What a person types, and what a run ends with.

mod agreement;
mod folder;
mod idp;
mod keep;
mod lab;
mod listen;
mod profiles;
mod rehearsal;
mod report;
mod run;
mod simulate;
mod sweep;

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
    2  something to mend before it can start: usage, scenario, port, folder, limits
   10  a gate failed, or a live run and the simulator differ
   11  inconclusive: too little data
   12  void: the generator could not keep its schedule
   13  a run that had started was stopped: no room for its results, or its whole target died
   14  incomplete: parts are missing
  130  interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// Rotate keys under load and report what broke.
    Run(run::Run),
    /// Rehearse the same in virtual time: a day in moments.
    Simulate(simulate::Simulate),
    /// Move settings on a local page and see the curves change.
    Lab(lab::Lab),
    /// Simulate it under many settings, and recommend one.
    Sweep(sweep::Sweep),
    /// Draw the report of a result.json again.
    Report(report::Report),
    /// Run the mock IdP alone, for any service to point at.
    Idp(idp::Idp),
    /// List what real software does, by the names that scenarios know it under.
    Profiles(profiles::Profiles),
    /// Keep one process of a target, and end it with keyquake.
    #[command(hide = true)]
    Keep(keep::Keep),
}

/// How a command ends.
#[derive(Debug)]
pub(crate) enum End {
    /// It did what it was asked.
    Done,
    /// A run came to this verdict.
    Verdict(Verdict),
    /// A live run and the simulator tell different stories.
    Differs,
    /// A person stopped it.
    Interrupted,
}

/// What a person can mend before a command starts; what goes wrong otherwise is an internal error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

/// What stopped a run that had started.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Stopped(pub(crate) String);

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    end_on_panic();
    let outcome = match Arguments::parse().command {
        Command::Run(run) => run.execute(),
        Command::Simulate(simulate) => simulate.execute(),
        Command::Lab(lab) => lab.execute(),
        Command::Sweep(sweep) => sweep.execute(),
        Command::Report(report) => report.execute(),
        Command::Idp(idp) => idp.execute(),
        Command::Profiles(profiles) => profiles.execute(),
        Command::Keep(keep) => keep.execute(),
    };
    match outcome {
        Ok(end) => ExitCode::from(end.code()),
        Err(error) => {
            say(&message(&error));
            ExitCode::from(code(&error))
        }
    }
}

/// A panic anywhere ends the process: tasks and threads that die alone would leave others waiting for them, and a
/// record in which something is missing.
fn end_on_panic() {
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        show(panic);
        say("error: keyquake broke down; this is a mistake of its own, please report it");
        leave(1);
    }));
}

/// Ends the process at once, whatever is under way.
#[expect(clippy::exit, reason = "from a thread beside the one that waits for the run there is no other way")]
pub(crate) fn leave(code: i32) -> ! {
    std::process::exit(code)
}

fn message(error: &anyhow::Error) -> String {
    if error.is::<Unusable>() || error.is::<Stopped>() {
        error.to_string()
    } else {
        format!("error: {error:#}")
    }
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Unusable>() {
        2
    } else if error.is::<Stopped>() {
        13
    } else {
        1
    }
}

impl End {
    fn code(&self) -> u8 {
        match self {
            Self::Done | Self::Verdict(Verdict::Pass) => 0,
            Self::Verdict(Verdict::Fail) | Self::Differs => 10,
            Self::Verdict(Verdict::Inconclusive) => 11,
            Self::Verdict(Verdict::Void) => 12,
            Self::Verdict(Verdict::Aborted) => 13,
            Self::Verdict(Verdict::Incomplete) => 14,
            Self::Interrupted => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Tells the test below that it is the process that panics.
    const PANICS: &str = "KEYQUAKE_TEST_PANICS";

    #[test]
    fn a_panic_in_any_thread_ends_the_process_with_1_and_a_message() {
        if std::env::var_os(PANICS).is_some() {
            end_on_panic();
            let thread = std::thread::spawn(|| panic!("the generator has no arrivals"));
            // Joining says that it panicked; whoever waits for something else would wait for ever.
            drop(thread.join());
            loop {
                std::thread::park();
            }
        }
        let this = "cli::tests::a_panic_in_any_thread_ends_the_process_with_1_and_a_message";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this, "--nocapture"])
            .env(PANICS, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            told.contains("the generator has no arrivals") && told.contains("please report it"),
            "{told}"
        );
    }

    #[test]
    fn errors_have_the_exit_codes_of_the_help() {
        let errors = [
            (anyhow::Error::new(Unusable("x".to_owned())), 2),
            (anyhow::Error::new(Stopped("x".to_owned())), 13),
            (anyhow::anyhow!("x"), 1),
        ];
        for (error, expected) in errors {
            assert_eq!(code(&error), expected);
            assert!(EXIT_CODES.contains(&format!("\n{expected:>5}  ")), "{expected}");
        }
    }
}
