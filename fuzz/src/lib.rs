//! Mutates sound inputs and hands them to a check, for one second in a plain `cargo test` and longer when asked:
//!
//! ```sh
//! KEYQUAKE_FUZZ_SECONDS=60 cargo test --release fuzz
//! ```
//!
//! Each case follows from the seed and its number alone. A failure prints both and keeps its input in `target/fuzz/`; a
//! crash that no test survives leaves its number there. `KEYQUAKE_FUZZ_SEED=1 KEYQUAKE_FUZZ_CASE=42` repeats one case.

mod mutate;
mod random;

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::random::Random;

/// How long each target runs, in seconds.
const SECONDS: &str = "KEYQUAKE_FUZZ_SECONDS";
/// What the cases follow from.
const SEED: &str = "KEYQUAKE_FUZZ_SEED";
/// The one case to repeat.
const CASE: &str = "KEYQUAKE_FUZZ_CASE";

/// The longest that one case may take.
const SLOW: Duration = Duration::from_secs(5);

/// A parser under attack.
#[derive(Debug)]
pub struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
}

impl Target {
    /// A target of this name, whose inputs are mutations of these seeds, of which there is at least one.
    pub fn new<S: Into<Vec<u8>>>(name: &'static str, seeds: impl IntoIterator<Item = S>) -> Self {
        Self { name, seeds: seeds.into_iter().map(Into::into).collect(), words: &[] }
    }

    /// Also puts in these words, which mean something to the parser.
    #[must_use]
    pub fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Hands mutated inputs to `check`, which panics when one breaks a law.
    ///
    /// # Panics
    ///
    /// When `check` does, or takes longer than five seconds, after telling how to repeat the case.
    pub fn run(&self, check: impl Fn(&[u8])) {
        let seed = number(SEED).unwrap_or(1);
        if let Some(case) = number(CASE) {
            return check(&self.input(seed, case));
        }
        let trace = Trace::new(self.name);
        let end = now() + Duration::from_secs(number(SECONDS).unwrap_or(1));
        let mut case = 0;
        while now() < end {
            trace.note(seed, case);
            let input = self.input(seed, case);
            let start = now();
            let outcome = catch_unwind(AssertUnwindSafe(|| check(&input)));
            let was_slow = now() - start > SLOW;
            if outcome.is_err() || was_slow {
                let kept = trace.keep(&input);
                say(&format!(
                    "fuzz target `{}` {} with the input in `{}`; repeat it with {SEED}={seed} {CASE}={case}",
                    self.name,
                    if was_slow { "was slow" } else { "failed" },
                    kept.display(),
                ));
            }
            match outcome {
                Err(panic) => resume_unwind(panic),
                Ok(()) => assert!(!was_slow, "a case took longer than {SLOW:?}"),
            }
            case += 1;
        }
        trace.close();
        say(&format!("fuzz target `{}`: {case} cases of seed {seed} held", self.name));
    }

    /// The input of a case: a function of nothing else.
    fn input(&self, seed: u64, case: u64) -> Vec<u8> {
        let mut random = Random::new(seed, case);
        mutate::mutated(&self.seeds, self.words, &mut random)
    }
}

/// What is left behind of a target.
struct Trace {
    folder: PathBuf,
    name: &'static str,
    case: Option<File>,
}

impl Trace {
    /// Lies in `target/fuzz/`, three levels above the binary of a test.
    fn new(name: &'static str) -> Self {
        let binary = std::env::current_exe().unwrap_or_default();
        let folder = binary.ancestors().nth(3).unwrap_or(Path::new("target")).join("fuzz");
        // Without the folder there is no trace, and all else works.
        let _ = fs::create_dir_all(&folder);
        let case = File::create(folder.join(format!("{name}.case"))).ok();
        Self { folder, name, case }
    }

    /// Names the case that is about to run, for whoever finds the process dead.
    fn note(&self, seed: u64, case: u64) {
        let Some(mut file) = self.case.as_ref() else { return };
        let _ = file.rewind().and_then(|()| writeln!(file, "{SEED}={seed} {CASE}={case}"));
    }

    fn keep(&self, input: &[u8]) -> PathBuf {
        let path = self.folder.join(format!("{}.input", self.name));
        let _ = fs::write(&path, input);
        path
    }

    fn close(self) {
        let _ = fs::remove_file(self.folder.join(format!("{}.case", self.name)));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[expect(clippy::disallowed_methods, reason = "a budget of wall time is what this crate is asked for")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_follows_from_its_seed_and_number() {
        let target = Target::new("follows", ["{\"a\": [1, 2]}", "x.y.z"]).words(&["word"]);
        assert_eq!(target.input(7, 3), target.input(7, 3));
        let inputs: std::collections::BTreeSet<_> = (0..1_000).map(|case| target.input(7, case)).collect();
        assert!(inputs.len() > 700, "{}", inputs.len());
        assert_ne!(target.input(7, 3), target.input(8, 3));
    }

    #[test]
    fn a_broken_law_is_found_and_its_input_kept() {
        let target = Target::new("finds", ["{\"a\": [1, 2]}"]);
        let nested = |input: &[u8]| assert!(!input.starts_with(b"[["), "nested");
        let panic = catch_unwind(AssertUnwindSafe(|| target.run(nested))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"nested"));
        let trace = Trace::new("unused");
        let kept = fs::read(trace.folder.join("finds.input")).unwrap();
        assert!(kept.starts_with(b"[["));
        trace.close();
    }
}
