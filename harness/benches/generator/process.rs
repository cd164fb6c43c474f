//! Processes, and what `/proc` says of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process may say when it begins, so that what it took until then does not count.
pub(crate) const READY: &str = "ready";

/// The unit of CPU times, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where `/proc/<pid>/stat` has the CPU time of the process, and of its children that have ended: user, then system.
const OWN: usize = 14;
const OF_CHILDREN: usize = 16;

/// Runs a command to its end. Returns the CPU seconds that it took, and the last line of its output.
pub(crate) fn run(command: &mut Command) -> (f64, String) {
    let before = cpu_seconds("self", OF_CHILDREN);
    let (mut child, output) = start(command);
    let pid = child.id().to_string();
    let (mut preparing, mut last) = (0.0, String::new());
    for line in output.lines() {
        last = line.expect("its output is text");
        if last == READY {
            preparing = cpu_seconds(&pid, OWN);
        }
    }
    let end = child.wait().expect("it is a child of this process");
    assert!(end.success(), "{command:?}: {end}");
    (cpu_seconds("self", OF_CHILDREN) - before - preparing, last)
}

/// Starts a command and holds its output.
pub(crate) fn start(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
    let output = child.stdout.take().expect("it is piped");
    (child, BufReader::new(output))
}

fn cpu_seconds(pid: &str, field: usize) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("this is Linux");
    // The second field is a name in brackets, of any characters.
    let (_, rest) = stat.rsplit_once(')').expect("there is a name");
    let ticks = rest.split_whitespace().skip(field - 3).take(2).map(|ticks| ticks.parse().unwrap_or(0.0));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// The memory that a process has in use, in millions of bytes.
pub(crate) fn memory_mb(pid: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1_024.0 / 1e6
}

/// Makes room for both ends of many connections, for this process and those that it starts.
pub(crate) fn allow_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the maximum is allowed");
}
