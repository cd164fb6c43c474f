//! Live runs of random plans, and what the simulator makes of their own requests.
//!
//! The plans of a seed are the same everywhere, so that a difference can be looked at again:
//!
//! ```sh
//! KEYQUAKE_SEED=1 KEYQUAKE_PLANS=40 cargo test --release -p keyquake --test agreement -- --ignored --nocapture
//! KEYQUAKE_SEED=1 KEYQUAKE_PLANS=17..18 cargo test --release -p keyquake --test agreement -- --ignored --nocapture
//! ```

mod plans;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// How many plans are drawn unless told otherwise; each takes 2 to 10 s.
const PLANS: u64 = 40;
/// The most.
const MAX_PLANS: u64 = 1_000;
/// How often a plan is run whose requests end otherwise in the replay. A stall of the machine can put requests on the other
/// side of a change; a mistake does it again.
const TRIES: u32 = 3;
/// The share of all requests that must end as in the runs, of so many plans at least, and that of the requests of each plan.
const ENOUGH: f64 = 0.999;
const ALL: u64 = 10;
const ENOUGH_OF_ONE: f64 = 0.99;

#[test]
#[ignore = "minutes of real time: CONTRIBUTING.md"]
fn live_runs_of_random_plans_end_as_in_their_replays() {
    let seed = env::var("KEYQUAKE_SEED").map_or(1, |seed| seed.parse().expect("KEYQUAKE_SEED is a number"));
    let numbers = env::var("KEYQUAKE_PLANS").map_or(0..PLANS, |plans| range(&plans));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("agreement").join(seed.to_string());
    let (mut differing, mut all) = (Vec::new(), Counts::default());
    let are_all = numbers.end - numbers.start >= ALL;
    println!("plans {numbers:?} of seed {seed}, in {}", folder.display());
    for number in numbers {
        let mut tries = (0..TRIES).map(|_| {
            let told = replayed(&folder, seed, number);
            print!("{told}");
            counts(&told).unwrap_or_else(|| panic!("plan {number} of seed {seed} is not replayed"))
        });
        match tries.find(Counts::agree) {
            Some(counts) => {
                all.requests += counts.requests;
                all.differ += counts.differ;
            }
            None => differing.push(number),
        }
    }
    let share = 100.0 * all.share();
    println!("{} requests, {share:.3} % of which ended as in the runs", all.requests);
    assert!(differing.is_empty(), "plans {differing:?} of seed {seed} differ from their replays");
    assert!(!are_all || all.share() >= ENOUGH, "{share:.3} %");
}

/// Requests of plans, and how they ended in the replay.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    differ: u64,
    /// Those that differ though their cache did not change meanwhile.
    unexplained: u64,
}

impl Counts {
    /// A plan has a few thousand requests, of which some are always on their way while its caches change.
    fn agree(&self) -> bool {
        self.unexplained == 0 && self.share() >= ENOUGH_OF_ONE
    }

    fn share(&self) -> f64 {
        1.0 - self.differ as f64 / self.requests.max(1) as f64
    }
}

/// `40` is the first forty plans, and `17..18` one of them.
fn range(plans: &str) -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("KEYQUAKE_PLANS is a number, or two like 17..18");
    let range =
        plans.split_once("..").map_or_else(|| 0..number(plans), |(from, to)| number(from)..number(to));
    assert!(!range.is_empty() && range.end - range.start <= MAX_PLANS, "1 to {MAX_PLANS} plans");
    range
}

/// Runs a plan live, and returns what its replay tells.
fn replayed(folder: &Path, seed: u64, number: u64) -> String {
    let file = write(folder, seed, number);
    let run = keyquake(&["run", &file.to_string_lossy(), "--out", &folder.to_string_lossy()]);
    // From 10 on it is a verdict, and whatever it was, the requests are there.
    let ended = run.status.code().is_some_and(|code| code == 0 || code >= 10);
    assert!(ended, "plan {number} of seed {seed} does not run: {}", text(&run));
    let result = folder.join(format!("plan-{number}/result.json"));
    text(&keyquake(&["simulate", &file.to_string_lossy(), "--replay", &result.to_string_lossy()]))
}

/// What that says: `plan-5: 1930 requests replayed, 99.896 % end as in the run; 2 differ, 0 of them away from …`.
fn counts(told: &str) -> Option<Counts> {
    let (_, told) = told.split_once(": ")?;
    let (requests, told) = told.split_once(" requests replayed")?;
    let (_, told) = told.split_once("; ")?;
    let (differ, told) = told.split_once(" differ, ")?;
    let (unexplained, _) = told.split_once(" of them")?;
    let number = |text: &str| text.parse().ok();
    Some(Counts { requests: number(requests)?, differ: number(differ)?, unexplained: number(unexplained)? })
}

fn write(folder: &Path, seed: u64, number: u64) -> PathBuf {
    let file = folder.join(format!("plan-{number}.toml"));
    fs::create_dir_all(folder).expect("the folder of the build can be written to");
    fs::write(&file, plans::plan(seed, number)).expect("the folder of the build can be written to");
    file
}

fn keyquake(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyquake")).args(arguments).output().expect("the binary is built")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// In virtual time, which takes no time.
#[test]
fn every_plan_that_is_drawn_is_sound() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..40 {
        let file = write(folder.path(), 1, number);
        let arguments = ["simulate", &file.to_string_lossy(), "--out", &folder.path().to_string_lossy()];
        let simulated = keyquake(&arguments);
        let ended = simulated.status.code().is_some_and(|code| code == 0 || code >= 10);
        assert!(ended, "plan {number}:\n{}\n{}", plans::plan(1, number), text(&simulated));
    }
}
