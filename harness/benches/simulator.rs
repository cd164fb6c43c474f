//! What simulating a day costs.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use keyquake::simulator::{By, Timed, timed};

const ROUNDS: usize = 3;

/// A day with three rotations.
fn day(case: &str, rate: u64, replicas: u32) -> String {
    let (policy, more) = match case {
        "lazy TTL" => ("ttl = \"10m\", on_unknown_kid = \"reject\"", String::new()),
        "unknown kid, cooldown" => {
            ("ttl = \"10m\", limiter = \"cooldown\", limiter_interval = \"30s\"", String::new())
        }
        "cooldown under a flood" => (
            "ttl = \"10m\", limiter = \"cooldown\", limiter_interval = \"30s\", limiter_anchor = \"attempt\"",
            format!(
                "[[traffic.stream]]\nname = \"flood\"\ntoken = \"unknown_kid\"\nrate = \"{}/s\"\n",
                rate / 10
            ),
        ),
        "no limit under a flood" => (
            "ttl = \"10m\", limiter = \"none\"",
            format!(
                "[[traffic.stream]]\nname = \"flood\"\ntoken = \"unknown_kid\"\nrate = \"{}/s\"\n",
                rate / 10
            ),
        ),
        "an outage without back-off" => (
            "ttl = \"10m\", failure_backoff = \"0s\", stale_for = \"5m\"",
            "[[fault]]\nfrom = \"12h\"\nfor = \"1h\"\njwks = { status = 503 }\n".to_owned(),
        ),
        other => panic!("{other}?"),
    };
    let rotations: String =
        [4, 10, 18].iter().map(|hour| format!("[[rotation]]\nat = \"{hour}h\"\nlead = \"1m\"\n")).collect();
    format!(
        "name = \"day\"\nduration = \"24h\"\nwarmup = \"10m\"\n[idp]\ntoken_lifetime = \"1h\"\n{rotations}{}\
         [fleet]\nreplicas = {replicas}\npolicy = {{ {policy} }}\n[traffic]\nrate = \"{rate}/s\"\non_reject = \"keep\"\n{}",
        if more.starts_with("[[fault") { more.as_str() } else { "" },
        if more.starts_with("[[fault") { "" } else { more.as_str() },
    )
}

fn best(scenario: &str, by: By) -> Timed {
    (0..ROUNDS)
        .map(|_| timed(scenario, by).expect("a sound scenario"))
        .min_by_key(|timed| timed.took)
        .expect("a round")
}

fn main() {
    let cases = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    for case in [
        "lazy TTL",
        "unknown kid, cooldown",
        "cooldown under a flood",
        "no limit under a flood",
        "an outage without back-off",
    ] {
        if cases.as_ref().is_some_and(|wanted| !case.contains(wanted.as_str())) {
            continue;
        }
        for rate in [100, 10_000, 1_000_000] {
            let timed = best(&day(case, rate, 64), By::Skipping);
            println!(
                "{case}: {rate}/s {:?} {} requests {} denied {} fetches",
                timed.took, timed.requests, timed.denied, timed.jwks_requests
            );
        }
    }
}
