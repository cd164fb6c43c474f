//! What simulating a day costs: at any rate, beside playing each request, and as fleets grow.
//!
//! `cargo bench -p keyquake --bench simulator` takes some minutes. Every figure is from a checked plan to its record, in
//! one thread. Playing each request of a day at a high rate would take hours, so it plays as many seconds as it takes to
//! send a million, and the ratio is by the time that each takes for a simulated second.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::time::Instant;

use keyquake::simulator::{By, Prepared, Sums};

/// So many rounds, in each of which every simulation has its turn.
const ROUNDS: usize = 5;
/// How many days are simulated in a row where the time of one is too short.
const IN_A_ROW: u32 = 64;
const DAY: u64 = 86_400;
const ROTATIONS: &str = "[[rotation]]\nat = \"4h\"\nlead = \"1m\"\n[[rotation]]\nat = \"10h\"\nlead = \"1m\"\n\
                         [[rotation]]\nat = \"18h\"\nlead = \"1m\"\n";

const KEEP: &str = "on_reject = \"keep\"\n";
const NO_BACKGROUND: &str = "background = { expired = \"0%\", forged = \"0%\" }\n";

/// A policy, and what happens to it beside three rotations.
struct Case {
    title: &'static str,
    policy: &'static str,
    fault: &'static str,
    /// The part of the rate that is strays.
    strays: f64,
}

const CASES: [Case; 5] = [
    Case { title: "lazy TTL", policy: "ttl = \"10m\", on_unknown_kid = \"reject\"", fault: "", strays: 0.0 },
    Case {
        title: "refetch of unknown kids, with a cooldown",
        policy: "ttl = \"10m\", limiter = \"cooldown\", limiter_interval = \"30s\"",
        fault: "",
        strays: 0.0,
    },
    Case {
        title: "the same under a flood of strays",
        policy: "ttl = \"10m\", limiter = \"cooldown\", limiter_interval = \"30s\", limiter_anchor = \"attempt\"",
        fault: "",
        strays: 0.1,
    },
    Case {
        title: "no limit under a flood of strays",
        policy: "ttl = \"10m\", limiter = \"none\"",
        fault: "",
        strays: 0.1,
    },
    Case {
        title: "an outage past the TTL, without back-off",
        policy: "ttl = \"10m\", failure_backoff = \"0s\", stale_for = \"5m\"",
        fault: "[[fault]]\nfrom = \"12h\"\nfor = \"1h\"\njwks = { status = 503 }\n",
        strays: 0.0,
    },
];

fn main() {
    for case in &CASES {
        at_rates(case);
    }
    beside_each_request();
    as_sweeps_do();
    as_fleets_grow();
}

/// A day of the case at one rate after the other.
fn at_rates(case: &Case) {
    let days = [100, 1_000, 10_000, 100_000, 1_000_000]
        .map(|rate| (format!("{rate}/s"), prepared(&day(case, rate, 64, DAY))));
    let best = best_seconds(&days.iter().map(|(_, day)| (day, By::Skipping)).collect::<Vec<_>>());
    println!("\na day of 64 replicas, three rotations: {:<28} {:>9}", case.title, "best");
    for ((rate, day), seconds) in days.iter().zip(&best) {
        let Sums { denied, jwks_requests, .. } = sums(day, By::Skipping);
        println!(
            "  {rate:<12} {:>9.2} ms {:>6.2} x   {denied:>12} denied, {jwks_requests:>11} fetches",
            seconds * 1e3,
            seconds / best[0]
        );
    }
}

/// A thousand replicas at 100,000 requests/s.
fn beside_each_request() {
    println!("\n1,000 replicas at 100,000 requests/s");
    for case in CASES.iter().take(2) {
        let (whole, part) =
            (prepared(&day(case, 100_000, 1_000, DAY)), prepared(&day(case, 100_000, 1_000, 10)));
        let best = best_seconds(&[(&whole, By::Skipping), (&whole, By::Measuring), (&part, By::Request)]);
        let (skipping, each) = (best[0] / DAY as f64, best[2] / 10.0);
        println!(
            "  {:<42} a day in {:>6.2} ms, {:>6.2} ms for metrics alone; each request {:>9.0} x as long (10 s of it \
             played)",
            case.title,
            best[0] * 1e3,
            best[1] * 1e3,
            each / skipping
        );
    }
}

/// Days of 64 replicas one after the other for their metrics alone, as replications of a cell: what the first has found out
/// is known to the others.
fn as_sweeps_do() {
    println!(
        "\ncells of a sweep a second and core: a day of 64 replicas at 10,000 requests/s, for metrics alone"
    );
    for case in &CASES {
        let whole = day(case, 10_000, 64, DAY);
        let sessions = prepared(&whole.replace(KEEP, &format!("{KEEP}{NO_BACKGROUND}")));
        let whole = prepared(&whole);
        println!(
            "  {:<42} {:>6.0}; {:>6.0} without expired and forged tokens; {:>4.0} with curves",
            case.title,
            a_second(&whole, By::Measuring),
            a_second(&sessions, By::Measuring),
            a_second(&whole, By::Skipping)
        );
    }
}

/// How many in a row are simulated in a second, in the best of the rounds.
fn a_second(day: &Prepared, by: By) -> f64 {
    let rounds = (0..ROUNDS).map(|_| (0..IN_A_ROW).map(|_| seconds(day, by)).sum::<f64>());
    f64::from(IN_A_ROW) / rounds.fold(f64::INFINITY, f64::min)
}

/// The lazy TTL at 10 requests a second and replica. The largest fleets have one turn.
fn as_fleets_grow() {
    println!("\na day of growing fleets, lazy TTL, 10 requests/s each");
    for replicas in [1_u64, 10, 100, 1_000, 10_000, 100_000] {
        let day = prepared(&day(&CASES[0], 10 * replicas, replicas, DAY));
        let by = By::Skipping;
        let seconds = if replicas < 10_000 { best_seconds(&[(&day, by)])[0] } else { seconds(&day, by) };
        println!(
            "  {replicas:>7} replicas {:>10.2} ms {:>7.2} us a replica, at most {:>6.0} MB in use so far",
            seconds * 1e3,
            seconds * 1e6 / replicas as f64,
            most_memory_mb()
        );
    }
}

fn day(case: &Case, rate: u64, replicas: u64, seconds: u64) -> String {
    let Case { policy, fault, strays, .. } = case;
    let whole_day = seconds == DAY;
    let (rotations, fault) = if whole_day { (ROTATIONS, *fault) } else { ("", "") };
    let strays = match strays {
        0.0 => String::new(),
        part => format!(
            "[[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"{}/s\"\n",
            part * rate as f64
        ),
    };
    format!(
        "name = \"day\"\nduration = \"{seconds}s\"\n[idp]\ntoken_lifetime = \"15m\"\n{rotations}{fault}[fleet]\n\
         replicas = {replicas}\npolicy = {{ {policy} }}\n[traffic]\nrate = \"{rate}/s\"\n{KEEP}{strays}"
    )
}

fn prepared(scenario: &str) -> Prepared {
    Prepared::new(scenario).expect("a sound scenario")
}

fn sums(day: &Prepared, by: By) -> Sums {
    day.simulate(by).expect("keys can be made")
}

/// The best time of each.
fn best_seconds(simulations: &[(&Prepared, By)]) -> Vec<f64> {
    let mut best = vec![f64::INFINITY; simulations.len()];
    for _ in 0..ROUNDS {
        for ((day, by), best) in simulations.iter().zip(&mut best) {
            *best = best.min(seconds(day, *by));
        }
    }
    best
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about the clock")]
fn seconds(day: &Prepared, by: By) -> f64 {
    let start = Instant::now();
    sums(day, by);
    start.elapsed().as_secs_f64()
}

/// The largest part of this process that was ever in memory, where the system tells.
fn most_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1e3
}
