//! What is skipped must not show: request by request or not, runs are draws from the same distributions.

mod scenarios;

use std::collections::{BTreeMap, BTreeSet};

use keyquake_reports::record::{Cell, RecoveryState};

use self::scenarios::{scenario, scenario_of_libraries, ten_times_as_long, wild_scenario};
use super::super::{Detail, each};
use super::{Experience, run};
use crate::measure::Run;
use crate::plan::Plan;
use crate::plan::testing::simulated;
use crate::sweep::worst_401_share;

/// How many scenarios are drawn, and how often each is simulated.
const SCENARIOS: u64 = 24;
const SEEDS: u64 = 24;
/// How many are drawn when it is worth a while, and how many of long ones.
const MANY: u64 = 1_200;
const LONG: u64 = 200;
/// How many standard errors are no chance any more: there are some 1,500 comparisons, of numbers that are not all normal.
const FAR: f64 = 5.5;
/// How exactly a mean can be told, in requests or in seconds: one of a few runs may be certain by chance.
const RESOLUTION: f64 = 0.1;

/// What runs are compared by.
type Sample = BTreeMap<String, f64>;

fn sample(run: &Run<'_>) -> Sample {
    let cell: Cell = run.record().cells.remove(0);
    let mut sample = Sample::new();
    let mut put = |name: String, value: f64| {
        sample.insert(name, value);
    };
    let windows = &cell.windows;
    for (number, (rejects, failures)) in windows.false_rejects.iter().zip(&windows.failures).enumerate() {
        put(format!("denied in window {number:03}"), (rejects + failures) as f64);
        put(format!("requests in window {number:03}"), windows.requests[number] as f64);
        put(format!("fetches in window {number:03}"), windows.jwks_requests[number] as f64);
    }
    let all = &cell.metrics.all;
    put("requests".into(), all.requests as f64);
    put("must pass".into(), all.must_pass as f64);
    put("denied".into(), all.denied as f64);
    for (status, count) in &all.statuses {
        put(format!("status {status}"), *count as f64);
    }
    for (name, count) in &all.outcomes {
        put(format!("outcome {name}"), *count as f64);
    }
    let timed = windows.latency_p50_ms.iter().flatten().count();
    put("windows with latencies".into(), timed as f64);
    let tallies = run.fold.segments.iter().flat_map(|segment| segment.tallies.values());
    put("waited".into(), tallies.map(|tally| tally.latency.sum()).sum());
    put("jwks requests".into(), cell.metrics.jwks.jwks_requests as f64);
    put("jwks peak".into(), cell.metrics.jwks.jwks_peak_per_second as f64);
    put("forced renewals".into(), cell.metrics.login_storm.requests as f64);
    put("orphaned rejects".into(), cell.metrics.orphaned.orphaned_rejects as f64);
    for (kind, count) in &cell.metrics.false_accepts {
        put(format!("false accepts: {kind}"), *count as f64);
    }
    for (number, episode) in cell.episodes.iter().enumerate() {
        let recovery = &episode.metrics.cohort.time_to_recover;
        put(format!("recovered {number}"), f64::from(recovery.state == RecoveryState::Recovered));
        put(format!("recovery {number}"), recovery.seconds.unwrap_or(-1.0));
        put(format!("cohort denied {number}"), episode.metrics.cohort.traffic.denied as f64);
        for exposure in &episode.metrics.revocation_exposure {
            put(format!("exposure {number} {}", exposure.stream), exposure.lasted.seconds);
        }
        for (cause, count) in &episode.metrics.causes {
            put(format!("cause {number} {cause}"), *count as f64);
        }
        if let Some(spread) = episode.metrics.by_instance {
            put(format!("recovered instances {number}"), spread.recovered as f64);
            put(format!("worst instance {number}"), spread.max_s.unwrap_or(-1.0));
        }
    }
    sample
}

fn samples(lines: &str, play: impl Fn(&Plan) -> anyhow::Result<Run<'_>>) -> Vec<Sample> {
    samples_of(SEEDS, lines, play)
}

fn samples_of(seeds: u64, lines: &str, play: impl Fn(&Plan) -> anyhow::Result<Run<'_>>) -> Vec<Sample> {
    let drawn = |seed| {
        let plan = simulated(&format!("seed = {seed}\n{lines}"));
        sample(&play(&plan).unwrap())
    };
    (0..seeds).map(drawn).collect()
}

/// Mean and variance of the mean.
fn mean(samples: &[Sample], name: &str) -> (f64, f64) {
    let values: Vec<f64> = samples.iter().map(|sample| sample.get(name).copied().unwrap_or(0.0)).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

/// How many standard errors lie between the means of two sets of runs, by what is measured.
fn distances(one: &[Sample], other: &[Sample]) -> BTreeMap<String, f64> {
    let names: BTreeSet<&String> = one.iter().chain(other).flat_map(BTreeMap::keys).collect();
    let distance = |name: &String| {
        let ((a, of_a), (b, of_b)) = (mean(one, name), mean(other, name));
        (a - b) / (of_a + of_b + RESOLUTION * RESOLUTION).sqrt()
    };
    names.into_iter().map(|name| (name.clone(), distance(name))).collect()
}

/// What is measured and lies farther apart than chance puts it.
fn differences(lines: &str, other_lines: &str) -> BTreeMap<String, f64> {
    let one = samples(lines, |plan| each::run(plan, ""));
    let other = samples(other_lines, |plan| run(plan, "", Detail::Curves, &mut Experience::default()));
    far_apart(&one, &other)
}

fn far_apart(one: &[Sample], other: &[Sample]) -> BTreeMap<String, f64> {
    let mut distances = distances(one, other);
    distances.retain(|_, distance| distance.abs() > FAR);
    distances
}

#[test]
fn runs_agree_in_distribution_with_those_played_request_by_request() {
    // The last once did not: there is no room to wait, or not for a burst; fetches fail that others need not wait for; some take
    // longer than others.
    all_agree((0..SCENARIOS).chain([149, 168, 436, 999, 362]), scenario);
}

#[test]
fn so_do_runs_of_what_sets_libraries_apart() {
    // Of the last, whoever acts meets something else than those who come during the fetch, or for another reason; or each key's
    // share grows or shrinks while all tokens wait.
    all_agree((0..SCENARIOS).chain([101, 427, 718, 951]), scenario_of_libraries);
}

#[test]
fn so_do_runs_that_are_wild() {
    // Of the last, a burst meets fetches that take no time; tokens would expire if nobody renewed them; a cache is older at the
    // start than it gets; requests have two reasons to wait, or others go who take up room.
    let found = [186, 563, 1_239, 1_520, 1_883, 2_004];
    all_agree((0..SCENARIOS).chain(found).filter(is_free), wild_scenario);
}

/// A search for what is still wrong, after a change of the simulator.
#[test]
#[ignore = "takes eight minutes, if it is compiled for speed: CONTRIBUTING.md"]
fn so_do_many_more() {
    all_agree(0..MANY, scenario);
    all_agree(0..MANY, scenario_of_libraries);
    all_agree((0..MANY).filter(is_free), wild_scenario);
    all_agree(0..LONG, |number| ten_times_as_long(&scenario(number)));
    all_agree(0..LONG, |number| ten_times_as_long(&scenario_of_libraries(number)));
    all_agree((0..LONG).filter(is_free), |number| ten_times_as_long(&wild_scenario(number)));
}

fn is_free(number: &u64) -> bool {
    simulated(&wild_scenario(*number)).coupled.is_none()
}

fn all_agree(numbers: impl IntoIterator<Item = u64>, scenario: fn(u64) -> String) {
    let mut found = String::new();
    for number in numbers {
        let lines = scenario(number);
        assert_eq!(simulated(&lines).coupled, None);
        let differences = differences(&lines, &lines);
        if !differences.is_empty() {
            found += &format!("scenario {number}:\n{lines}\n{differences:#?}\n");
        }
    }
    assert!(found.is_empty(), "{found}");
}

/// Without curves the metrics stay what they are, the worst moments among them.
#[test]
fn metrics_alone_are_those_of_whole_runs() {
    let peaks = |run: &Run<'_>| {
        let cell = run.record().cells.remove(0);
        let shares = cell.episodes.iter().map(|episode| episode.metrics.all.traffic.peak_denied_share);
        let shares = shares.chain([cell.metrics.all.peak_denied_share, worst_401_share(&cell.windows)]);
        (0..).zip(shares.map(Option::unwrap_or_default)).collect::<Vec<(usize, f64)>>()
    };
    // Few requests of the last must pass, so that its worst seconds are long ones.
    for number in (0..SCENARIOS).chain([184]) {
        let lines = scenario(number);
        let [whole, metrics] = [Detail::Curves, Detail::Metrics].map(|detail| {
            let drawn = |seed| {
                let plan = simulated(&format!("seed = {seed}\n{lines}"));
                let run = run(&plan, "", detail, &mut Experience::default()).unwrap();
                let mut sample = sample(&run);
                sample.retain(|name, _| !name.contains("window"));
                sample.extend(peaks(&run).into_iter().map(|(n, share)| (format!("peak {n}"), 10.0 * share)));
                sample
            };
            (0..SEEDS).map(drawn).collect::<Vec<_>>()
        });
        let differences = far_apart(&whole, &metrics);
        assert!(differences.is_empty(), "scenario {number}:\n{lines}\n{differences:#?}");
    }
}

/// However few steps are told apart: the warm-up is before the first segment, in the same steps as nothing else.
#[test]
fn metrics_alone_leave_the_warm_up_out() {
    let lines = "duration = \"10m\"\nwarmup = \"10m\"\n[fleet]\nreplicas = 2\npolicy = { ttl = \"30s\" }\n[traffic]\nrate = \"20/s\"\n";
    let plan = simulated(lines);
    let run = run(&plan, "", Detail::Metrics, &mut Experience::default()).unwrap();
    let metrics = run.record().cells.remove(0).metrics;
    // Twenty a second and some in the background, ten standard deviations at most apart.
    assert!((10_900..13_100).contains(&metrics.all.requests), "{}", metrics.all.requests);
}

/// What another run of the same plan has found out is what this one would find.
#[test]
fn experience_makes_no_difference() {
    for number in 0..SCENARIOS {
        let mut plan = simulated(&scenario(number));
        let mut experience = Experience::default();
        for seed in 0..4 {
            plan.reseed(seed);
            let record = |experience: &mut _| run(&plan, "", Detail::Curves, experience).unwrap().record();
            let (with, without) = (record(&mut experience), record(&mut Experience::default()));
            assert_eq!(with, without, "scenario {number}, seed {seed}");
        }
    }
}

/// How much a window has admitted, and since when, is another state at each instance and with each seed.
#[test]
fn what_is_of_no_use_to_another_run_is_not_kept() {
    let keeps = |policy: &str| {
        let lines = format!(
            "duration = \"1h\"\n[fleet]\nreplicas = 20\npolicy = {{ ttl = \"5m\", {policy} }}\n[traffic]\nrate = \"20/s\"\n\
             [[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"2/s\"\n"
        );
        let mut experience = Experience::default();
        run(&simulated(&lines), "", Detail::Metrics, &mut experience).unwrap();
        experience.states.is_some()
    };
    assert!(keeps("limiter = \"cooldown\", limiter_interval = \"30s\""));
    assert!(!keeps("limiter = \"window\", limiter_interval = \"30s\", limiter_burst = 5"));
}

/// What passed long before or after a denial, or without any, is not told apart.
#[test]
fn metrics_alone_leave_windows_empty_that_nobody_asks_for() {
    let lines = "duration = \"20m\"\n[[rotation]]\nat = \"10m\"\nstyle = \"no-overlap\"\n[fleet]\nreplicas = 2\n\
                 policy = { ttl = \"5s\", on_unknown_kid = \"reject\" }\n[traffic]\nrate = \"50/s\"\n";
    let plan = simulated(lines);
    let windows =
        |detail| run(&plan, "", detail, &mut Experience::default()).unwrap().record().cells.remove(0).windows;
    let filled = |column: &[u64]| column.iter().filter(|requests| **requests > 0).count();
    assert_eq!(filled(&windows(Detail::Curves).requests), 1_200);
    assert!((5..100).contains(&filled(&windows(Detail::Metrics).must_pass)));
}

/// The first test above can fail: what differs a little is told apart.
#[test]
fn runs_of_plans_that_differ_a_little_do_not_agree() {
    let lines = "duration = \"30s\"\n[idp]\ntoken_lifetime = \"20s\"\n[[rotation]]\nat = \"10s\"\nstyle = \"no-overlap\"\n[fleet]\nreplicas = 3\n\
                 cache = { age = \"0s\" }\npolicy = { ttl = \"9s\", limiter = \"cooldown\", limiter_interval = \"5s\" }\n\
                 [traffic]\nrate = \"60/s\"\nbackground = { expired = \"1%\", forged = \"0%\" }\n";
    let changed = [
        ("interval = \"5s\"", "interval = \"6s\"", "denied"),
        ("ttl = \"9s\"", "ttl = \"8s\"", "jwks requests"),
        ("60/s", "57/s", "requests"),
        ("at = \"10s\"", "at = \"11s\"", "cohort denied 0"),
        ("1%", "2%", "status 401"),
    ];
    for (from, to, seen_in) in changed {
        let one = samples_of(2 * SEEDS, lines, |plan| each::run(plan, ""));
        let other = samples_of(2 * SEEDS, &lines.replace(from, to), |plan| {
            run(plan, "", Detail::Curves, &mut Experience::default())
        });
        let differences = far_apart(&one, &other);
        assert!(differences.contains_key(seen_in), "{to}: {differences:#?}");
    }
}

/// Runs that are made of fetches which repeat each other: each must leap over most of them, and nobody may notice.
#[test]
fn runs_that_leap_agree_with_those_that_do_not() {
    let lazy = "duration = \"30m\"\n[[rotation]]\nat = \"11m\"\nlead = \"10s\"\n[fleet]\nreplicas = 2\n\
                policy = { ttl = \"20s\", on_unknown_kid = \"reject\" }\n[traffic]\nrate = \"3/s\"\n";
    let flood = "duration = \"4m\"\n[simulate]\nfetch_time = \"40ms\"\n[[rotation]]\nat = \"1m\"\nlead = \"0s\"\n\
                 [fleet]\nreplicas = 2\npolicy = { ttl = \"30s\", limiter = \"none\" }\n[traffic]\nrate = \"10/s\"\n\
                 [[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"20/s\"\n";
    let cooldown = flood.replace(
        "limiter = \"none\"",
        "limiter = \"cooldown\", limiter_interval = \"2s\", limiter_anchor = \"attempt\"",
    );
    let outage = "duration = \"4m\"\n[simulate]\nfetch_time = \"40ms\"\n[[fault]]\nfrom = \"30s\"\nfor = \"2m\"\n\
                  jwks = { status = 503 }\n[fleet]\nreplicas = 2\ncache = { age = \"0s\" }\n\
                  policy = { ttl = \"40s\", failure_backoff = \"0s\", stale_for = \"50s\" }\n\
                  [traffic]\nrate = \"20/s\"\non_reject = \"keep\"\n";
    // They come as regularly as seconds pass, and a little more often.
    let regular = flood.replace("4m", "10m").replace("40ms", "900ms").replace("20/s", "40/s");
    let regular = regular.replace("[[rotation]]\nat = \"1m\"\nlead = \"0s\"\n", "");
    // A window that is full now and then must not be leapt over as if it never were.
    let window = flood.replace(
        "limiter = \"none\"",
        "limiter = \"window\", limiter_interval = \"20s\", limiter_burst = 30",
    );
    let all =
        [(lazy, true), (flood, true), (&cooldown, true), (outage, true), (&regular, true), (&window, false)];
    for (lines, leaps) in all {
        let plan = simulated(lines);
        let leapt = run(&plan, "", Detail::Curves, &mut Experience::default()).unwrap();
        let counted: u64 = leapt.jwks_counted.all().iter().map(|(_, count)| count).sum();
        let listed = leapt.jwks.len() as u64;
        assert!(!leaps || counted > listed, "{counted} counted, {listed} listed: {lines}");
        let each = samples(lines, |plan| each::run(plan, ""));
        let leapt = samples(lines, |plan| run(plan, "", Detail::Curves, &mut Experience::default()));
        let differences = far_apart(&each, &leapt);
        assert!(differences.is_empty(), "{lines}\n{differences:#?}");
    }
}

/// Runs whose fetches are taken one by one, because something happens before the next: each must be counted as one that is
/// played, with the request that causes it.
#[test]
fn runs_that_walk_agree_with_those_that_are_played() {
    // Streams that come and go, so that nothing is foreseen for longer than 4 s.
    let restless: String = (0..30)
        .map(|number| {
            let (from, until) = (4 * number, 4 * number + 4);
            format!(
                "[[traffic.stream]]\nname = \"logins-{number}\"\ntoken = \"login\"\nrate = \"0.1/s\"\n\
                 from = \"{from}s\"\nuntil = \"{until}s\"\n"
            )
        })
        .collect();
    // Every second or third request fetches.
    let sparse = format!(
        "duration = \"2m\"\n[fleet]\nreplicas = 4\npolicy = {{ ttl = \"5s\" }}\n[traffic]\nrate = \"1/s\"\n{restless}"
    );
    let outage = format!(
        "duration = \"2m\"\n[[fault]]\nfrom = \"10s\"\nfor = \"100s\"\njwks = {{ status = 503 }}\n[fleet]\nreplicas = 2\n\
         cache = {{ age = \"0s\" }}\npolicy = {{ ttl = \"20s\", failure_backoff = \"5s\", stale_for = \"40s\" }}\n\
         [traffic]\nrate = \"10/s\"\non_reject = \"keep\"\n{restless}"
    );
    // The share of the new key grows while each of its tokens fetches.
    let late = "duration = \"2m\"\n[idp]\ntoken_lifetime = \"2m\"\n[[rotation]]\nat = \"20s\"\nstyle = \"late\"\nlead = \"-80s\"\n\
                [fleet]\nreplicas = 2\npolicy = { ttl = \"10m\", limiter = \"none\" }\n[traffic]\nrate = \"4/s\"\non_reject = \"keep\"\n";
    for lines in [&sparse, &outage, late] {
        let differences = differences(lines, lines);
        assert!(differences.is_empty(), "{lines}\n{differences:#?}");
    }
}

/// Runs of which something changes in the middle of most fetches: who has come before waits as long as who comes after.
#[test]
fn runs_that_walk_over_turns_agree_with_those_that_are_played() {
    // Streams that join a fetch which has begun without them.
    let joining: String = (0..10)
        .map(|number| {
            let (from, until) = (6 * number + 1, 6 * number + 4);
            format!(
                "[[traffic.stream]]\nname = \"others-{number}\"\ntoken = \"unknown_kid\"\nrate = \"20/s\"\n\
                 from = \"{from}s\"\nuntil = \"{until}s\"\n"
            )
        })
        .collect();
    let flood = format!(
        "duration = \"1m\"\n[simulate]\nfetch_time = \"900ms\"\n[idp]\ntoken_lifetime = \"14s\"\n\
         [[rotation]]\nat = \"20s\"\nlead = \"10s\"\nretention = \"15s\"\n[fleet]\nreplicas = 2\n\
         policy = {{ ttl = \"1m\", limiter = \"none\" }}\n[traffic]\nrate = \"20/s\"\n\
         [[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"40/s\"\n{joining}"
    );
    // Those who wait are of other rulings after the turn, or not answered at all: such fetches are played.
    let revoked = flood.replace("lead = \"10s\"\nretention = \"15s\"", "style = \"revoke\"");
    let restarted =
        format!("{flood}[[runbook]]\nwhen = \"30s\"\ndo = {{ restart = {{ rolling = \"2s\" }} }}\n");
    let burst = format!(
        "{flood}[[traffic.stream]]\nname = \"burst\"\ntoken = \"login\"\nburst = {{ at = \"30s\", count = 40 }}\n"
    );
    // There is room for those who come before a turn, but not for those after it.
    let crowded = flood
        .replace("limiter = \"none\"", "limiter = \"none\", max_waiters = 40")
        .replace("20/s", "150/s")
        .replace("40/s", "9/s");
    let late = flood.replace("lead = \"10s\"\nretention = \"15s\"", "style = \"late\"\nlead = \"-10s\"");
    for lines in [&flood, &revoked, &restarted, &burst, &crowded, &late] {
        let differences = differences(lines, lines);
        assert!(differences.is_empty(), "{lines}\n{differences:#?}");
    }
}

/// Of more sessions than are followed, each stands for as many as it takes.
#[test]
fn many_sessions_do_as_their_representatives() {
    let lines = "duration = \"30s\"\n[idp]\ntoken_lifetime = \"1m\"\n[[rotation]]\nat = \"10s\"\n\
                 style = \"no-overlap\"\n[fleet]\nreplicas = 2\npolicy = { ttl = \"8s\", limiter = \"cooldown\" }\n\
                 [traffic]\nrate = \"150/s\"\nsessions = 2500\n";
    let differences = differences(lines, lines);
    assert!(differences.is_empty(), "{differences:#?}");
}
