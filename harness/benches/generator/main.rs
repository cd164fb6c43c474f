//! What the load generator costs beside `wrk` and `oha`, how punctual it is, and what memory it takes.
//!
//! `cargo bench -p keyquake --bench generator` takes some minutes, and with `-- soak` a quarter of an hour at one rate.
//! On Linux: `/proc` tells the costs. Those to compare with, unless they are there: `apt-get install wrk` and
//! `cargo install oha --locked`.
//!
//! Every contestant is a process of its own before the same server, which is a thread here and counts the requests. What
//! is compared is the CPU time of the process, user and system, over that count. As in `benches/rounds`, each has its
//! turn in each round, and the ratios count.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

mod process;
mod server;

use std::env;
use std::io::BufRead;
use std::process::Command;
use std::thread;
use std::time::Duration;

use keyquake::load::{self, WhenFull};

use self::process::{READY, memory_mb};
use self::server::Server;

const OURS: &str = "keyquake";
const ROUNDS: usize = 5;
/// How long a turn lasts, unless a number of requests says so.
const SECONDS: u32 = 3;
/// As long as the tokens of keyquake are.
const TOKEN_BYTES: usize = 700;

fn main() {
    // Cargo adds an argument that says only that this is a benchmark.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    process::allow_open_files();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let server = Server::start();
            for rate in [1_000, 2_000, 5_000, 10_000] {
                at_a_rate(&server, rate);
            }
            flat_out(&server);
            in_flight();
        }
        ["soak"] => soak(),
        ["play", server, when_full, scenario] => play(server, when_full, scenario),
        _ => println!("usage: cargo bench -p keyquake --bench generator [-- soak]"),
    }
}

fn at_a_rate(server: &Server, rate: u32) {
    let flags = format!("-z {SECONDS}s -q {rate} --latency-correction -c 64 --no-tui --output-format quiet");
    let late = compare(
        &format!("{rate} requests/s"),
        server,
        vec![
            Some(keyquake(
                server,
                "wait",
                &format!("{SECONDS}s"),
                &format!("rate = \"{rate}/s\"\nmax_in_flight = 64"),
            )),
            other("oha", server, &flags),
        ],
    );
    let [p50, p99] = late.map(|late| format!("{:.0} us ({:.0})", least(&late), median(late)));
    println!("  sent late by {p50} at the median, {p99} at p99, in the best turn (and in the median one)");
}

/// Bursts, whose requests wait for their turn: as many at once as there are connections.
fn flat_out(server: &Server) {
    let bursts: String = (0..3)
        .map(|number| {
            format!(
                "[[traffic.stream]]\nname = \"burst-{number}\"\ntoken = \"session\"\n\
                 burst = {{ at = \"0s\", count = 100000 }}\n"
            )
        })
        .collect();
    let lines = format!("rate = \"1/s\"\nmax_in_flight = 64\n{bursts}");
    // Most of a burst is late from the start.
    let _late = compare(
        "flat out",
        server,
        vec![
            Some(keyquake(server, "wait", "1s", &lines)),
            other("wrk", server, &format!("-t1 -c64 -d{SECONDS}s")),
            other("oha", server, &format!("-z {SECONDS}s -c 64 --no-tui --output-format quiet")),
        ],
    );
}

/// Whom a server never answers.
fn in_flight() {
    let server = Server::start_silent();
    let lines = "rate = \"1/s\"\nmax_in_flight = 10000\ntimeout = \"4s\"\n\
                 [[traffic.stream]]\nname = \"burst\"\ntoken = \"session\"\nburst = { at = \"0s\", count = 10000 }";
    let (name, mut command) = keyquake(&server, "shed", "1s", lines);
    let seen = process::run(&mut command).1;
    println!("\n10000 requests in flight: {name} grows by {} MB", number(&seen, 2));
}

/// Says what memory a process has that sends at one rate for a quarter of an hour.
fn soak() {
    let server = Server::start();
    let (_, mut command) = keyquake(&server, "shed", "15m", "rate = \"2000/s\"");
    let (mut child, output) = process::start(&mut command);
    let mut lines = output.lines().map_while(Result::ok);
    let _ready = lines.next();
    for minute in 1..=15 {
        sleep(Duration::from_secs(if minute == 15 { 58 } else { 60 }));
        println!(
            "minute {minute}: {:.1} MB, {} requests",
            memory_mb(&child.id().to_string()),
            server.answered()
        );
    }
    let seen = lines.last().unwrap_or_default();
    let end = child.wait().expect("it is a child of this process");
    println!("{end}; late: p50 {} us, p99 {} us", number(&seen, 0), number(&seen, 1));
}

/// In a process of its own: sends a scenario's requests and says how late it was, in microseconds, and what memory it
/// took, in megabytes.
fn play(server: &str, when_full: &str, scenario: &str) {
    let when_full = if when_full == "wait" { WhenFull::Wait } else { WhenFull::Shed };
    let mut before = 0.0;
    let ready = || {
        before = memory_mb("self");
        println!("{READY}");
    };
    let server = server.parse().expect("an address");
    let record = load::play(scenario, server, when_full, ready).expect("the server answers");
    let late = record.cells[0].metrics.fidelity.lateness_ms.expect("it sent some");
    println!("{:.0} {:.0} {:.0}", late.p50 * 1e3, late.p99 * 1e3, memory_mb("self") - before);
}

type Contestant = (&'static str, Command);

/// This generator: a scenario that lasts so long, and these lines about its traffic.
fn keyquake(server: &Server, when_full: &str, duration: &str, traffic: &str) -> Contestant {
    let scenario = format!(
        "name = \"bench\"\nduration = \"{duration}\"\nwarmup = \"0s\"\n[fleet]\nreplicas = 1\n[traffic]\n\
         sessions = 1\nconnections = 64\nbackground = {{ expired = \"0%\", forged = \"0%\" }}\n{traffic}"
    );
    let mut command = Command::new(env::current_exe().expect("it has a name"));
    command.args(["play", &server.address.to_string(), when_full, &scenario]);
    (OURS, command)
}

/// Another one, if it is installed.
fn other(name: &'static str, server: &Server, flags: &str) -> Option<Contestant> {
    if Command::new(name).arg("--version").output().is_err() {
        println!("\nno {name} to compare with: the head of this benchmark says how to get it");
        return None;
    }
    let mut command = Command::new(name);
    command
        .args(flags.split(' '))
        .arg("-H")
        .arg(format!("Authorization: Bearer {}", "x".repeat(TOKEN_BYTES)));
    command.arg(format!("http://{}/api", server.address));
    Some((name, command))
}

/// Prints a table of the contestants: the CPU time of each one's best turn, and how much of it the first takes, by the
/// best turns and by the median over the rounds. Returns how late the first was in each turn: p50 and p99.
fn compare(title: &str, server: &Server, contestants: Vec<Option<Contestant>>) -> [Vec<f64>; 2] {
    let mut contestants: Vec<Contestant> = contestants.into_iter().flatten().collect();
    let mut micros = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    let mut late = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for ((name, command), own) in contestants.iter_mut().zip(&mut micros) {
            let before = server.answered();
            let (cpu, said) = process::run(command);
            own.push(cpu * 1e6 / (server.answered() - before) as f64);
            if *name == OURS {
                late[0].push(number(&said, 0));
                late[1].push(number(&said, 1));
            }
        }
    }
    println!("\n{title:<24} {:>13} {:>12} {:>10}", "CPU a request", "ours by best", "by median");
    for ((name, _), own) in contestants.iter().zip(&micros) {
        let ratios = micros[0].iter().zip(own).map(|(ours, own)| ours / own).collect();
        let by_best = least(&micros[0]) / least(own);
        println!("  {name:<22} {:>10.2} us {by_best:>10.2} x {:>8.2} x", least(own), median(ratios));
    }
    late
}

fn least(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A number in the last line that `play` has printed.
fn number(said: &str, column: usize) -> f64 {
    said.split(' ').nth(column).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

#[expect(clippy::disallowed_methods, reason = "a soak lasts")]
fn sleep(duration: Duration) {
    thread::sleep(duration);
}
