//! The engine, held against what can be worked out by hand.

use std::fs;
use std::path::Path;

use keyquake_reports::judge;
use keyquake_reports::record::{Cell, Engine, Record, Verdict};

use super::run;
use crate::plan::Plan;
use crate::plan::testing::simulated;
use crate::scenario::Source;

fn record_of(plan: &Plan) -> Record {
    let mut record = run(plan, "keyquake simulate").expect("keys can be made").record();
    judge(&mut record);
    record
}

fn cell(lines: &str) -> Cell {
    record_of(&simulated(lines)).cells.remove(0)
}

/// JWKS requests in event time.
fn fetches(lines: &str) -> f64 {
    cell(lines).metrics.jwks.jwks_requests as f64
}

#[test]
fn every_scenario_of_the_repository_ends_as_it_promises() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // The tests of sweeps play these.
        if text.contains("\n[matrix]") {
            continue;
        }
        let source = Source::new("", &text, &[]).unwrap();
        let record = record_of(&Plan::check(&source, Engine::Simulated).unwrap());
        assert_eq!(record.verdict, Verdict::Pass, "{}: {:?}", path.display(), record.reasons);
        assert_eq!(record.engine, Engine::Simulated);
    }
}

/// The stories that a live run plays at a trickle, as those who lived them did: at full length and full rates.
fn story(name: &str, fuller: &[(&str, &str)]) -> Record {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name).with_extension("toml");
    let mut text = fs::read_to_string(path).unwrap();
    for (trickle, rate) in fuller {
        assert!(text.contains(trickle), "{trickle}");
        text = text.replace(trickle, rate);
    }
    let source = Source::new(name, &text, &[]).unwrap();
    record_of(&Plan::check(&source, Engine::Simulated).unwrap())
}

#[test]
fn six_hours_without_a_refetch_refuse_new_logins_for_four() {
    let fuller = [("6/min", "1000/s"), ("3/min", "50/s"), ("replicas = 4", "replicas = 40")];
    let record = story("six-hour-ttl", &fuller);
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    let cell = &record.cells[0];
    let logins = &cell.episodes[0].metrics.streams["logins"].time_to_recover;
    let window = cell.windows.width_s;
    assert!((logins.seconds.unwrap() - 4.0 * 3_600.0).abs() <= window, "{logins:?}, windows of {window} s");
    assert!(cell.metrics.all.requests > 20_000_000, "{}", cell.metrics.all.requests);
}

#[test]
fn a_daily_poll_refuses_a_tenth_until_the_restart_and_nothing_if_told_a_day_ahead() {
    let fuller = [("\"18/s\"", "\"1800/s\""), ("\"2/s\"", "\"200/s\""), ("replicas = 10", "replicas = 100")];
    let record = story("daily-poll", &fuller);
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    let windows = &record.cells[0].windows;
    let within = |from: f64, until: f64| {
        let number = |at: f64| ((at - windows.first_s) / windows.width_s) as usize;
        let sum = |column: &[u64]| column[number(from)..number(until)].iter().sum::<u64>() as f64;
        sum(&windows.false_rejects) / sum(&windows.requests)
    };
    assert!((0.05..=0.15).contains(&within(60.0, 180.0)), "{}", within(60.0, 180.0));
    assert!(within(240.0, 300.0) < 0.001, "60 s after the start of the restart: {}", within(240.0, 300.0));
    let announced = story("daily-poll-announced", &fuller);
    assert_eq!((announced.verdict, announced.cells[0].metrics.all.denied), (Verdict::Pass, 0));
}

#[test]
fn one_seed_gives_the_same_bytes_and_another_gives_others() {
    let lines = |seed: u32| {
        format!("seed = {seed}\n[[rotation]]\nat = \"20s\"\nstyle = \"no-overlap\"\n[fleet]\nreplicas = 3\n")
    };
    let json = |seed| record_of(&simulated(&lines(seed))).to_json().unwrap();
    assert_eq!(json(1), json(1));
    assert_ne!(json(1), json(2));
}

/// A cache that is filled when it is asked and empty waits for the next request after each lifetime: a cycle lasts
/// TTL + 1/rate on average, with a deviation of 1/rate.
#[test]
fn a_lazy_ttl_fetches_as_often_as_renewal_theory_says() {
    let (rate, ttl, length) = (0.5, 10.0, 100_000.0);
    let fetched = fetches(&format!(
        "duration = \"{length}s\"\n[simulate]\nfetch_time = \"0s\"\n[fleet]\ncache = \"cold\"\n\
         policy = {{ ttl = \"{ttl}s\", limiter = \"none\" }}\n[traffic]\nrate = \"{rate}/s\"\n\
         background = {{ expired = \"0%\", forged = \"0%\" }}\n"
    ));
    let cycle: f64 = ttl + 1.0 / rate;
    let deviation = (length / cycle.powi(3)).sqrt() / rate;
    assert!((fetched - length / cycle).abs() < 4.0 * deviation, "{fetched} fetches");
}

/// Under a flood of unknown kids a cooldown lets a fetch through when it ends, at the next stray.
#[test]
fn a_cooldown_bounds_what_a_flood_fetches() {
    let fetched = fetches(
        "duration = \"1000s\"\n[simulate]\nfetch_time = \"0s\"\n[fleet.policy]\nttl = \"10h\"\nlimiter = \"cooldown\"\n\
         limiter_interval = \"10s\"\nlimiter_anchor = \"attempt\"\n[traffic]\nrate = \"1/s\"\n\
         [[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"100/s\"\n",
    );
    assert!((99.0..=101.0).contains(&fetched), "{fetched} fetches");
}

const STEADY: &str = "[traffic]\nrate = \"100/s\"\nbackground = { expired = \"0%\", forged = \"0%\" }\n";

#[test]
fn a_fetch_keeps_requests_waiting_as_long_as_it_takes() {
    let slow = format!(
        "[simulate]\nfetch_time = \"200ms\"\n[fleet]\ncache = \"cold\"\npolicy = {{ ttl = \"1h\" }}\n{STEADY}"
    );
    let cell = cell(&slow);
    let latency = cell.metrics.all.latency_ms.unwrap();
    assert!((150.0..=201.0).contains(&latency.max), "{latency:?}");
    assert_eq!((cell.metrics.all.denied, cell.metrics.jwks.jwks_requests), (0, 1));
    assert_eq!(cell.metrics.fidelity.lateness_ms, None, "nothing was sent that could be late");
}

#[test]
fn a_hung_endpoint_is_given_up_by_the_cache_and_by_the_clients() {
    let hung = |policy: &str| {
        cell(&format!(
            "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = {{ hang = true }}\n\
             [fleet]\ncache = {{ age = \"0s\" }}\npolicy = {{ ttl = \"15s\", on_fetch_error = \"fail\", {policy} }}\n\
             {STEADY}timeout = \"2s\"\n"
        ))
    };
    // The cache gives up after a second, and tells who waited; then it backs off.
    let patient_clients = hung("fetch_timeout = \"1s\", failure_backoff = \"1s\"").metrics.all;
    assert!(patient_clients.statuses[&503] > 1_000, "{patient_clients:?}");
    assert_eq!(patient_clients.outcomes.get("timed_out"), None);
    // Here the clients are gone before the cache has an answer for them.
    let patient_cache = hung("fetch_timeout = \"30s\", max_waiters = 10000").metrics.all;
    assert!(patient_cache.outcomes["timed_out"] > 1_000, "{patient_cache:?}");
    // Only who waits when the endpoint resets, or in the second after that, hears of the failure.
    assert!(patient_cache.statuses[&503] < 400, "{patient_cache:?}");
}

#[test]
fn a_restart_empties_the_caches_and_a_revoked_key_is_refused_from_then_on() {
    let cell = cell(&format!(
        "[[rotation]]\nat = \"10s\"\nstyle = \"revoke\"\n[[runbook]]\nwhen = \"30s\"\ndo = {{ restart = {{}} }}\n\
         [fleet]\nreplicas = 2\ncache = {{ age = \"0s\" }}\npolicy = {{ ttl = \"1h\", on_unknown_kid = \"reject\" }}\n\
         {STEADY}[[traffic.stream]]\nname = \"thief\"\ntoken = \"key:key-1\"\nrate = \"20/s\"\n"
    ));
    let episode = &cell.episodes[0].metrics;
    let exposure = episode.revocation_exposure.iter().find(|exposure| exposure.stream == "thief").unwrap();
    assert!((18.0..=20.01).contains(&exposure.lasted.seconds) && !exposure.lasted.at_least, "{exposure:?}");
    // Nobody's old token was refused before, so nobody had asked for another.
    assert_eq!(cell.metrics.login_storm.requests, 100);
}

/// A thief who has used a token before has it pass on for as long as it is remembered; one who makes another is refused as
/// soon as the key is gone from the cache.
#[test]
fn a_stolen_token_lives_on_in_a_cache_of_tokens_and_a_fresh_one_does_not() {
    let exposure = |policy: &str| {
        let cell = cell(&format!(
            "[[rotation]]\nat = \"10s\"\nstyle = \"revoke\"\n[fleet]\nreplicas = 2\ncache = {{ age = \"0s\" }}\n\
             policy = {{ ttl = \"15s\", on_unknown_kid = \"reject\", {policy} }}\n{STEADY}\
             [[traffic.stream]]\nname = \"fresh\"\ntoken = \"key:key-1\"\nfresh = true\nrate = \"40/s\"\n\
             [[traffic.stream]]\nname = \"repeated\"\ntoken = \"key:key-1\"\nrate = \"40/s\"\n"
        ));
        let exposures = &cell.episodes[0].metrics.revocation_exposure;
        ["fresh", "repeated"].map(|name| {
            let lasted = exposures.iter().find(|exposure| exposure.stream == name).unwrap().lasted;
            (lasted.seconds, lasted.at_least)
        })
    };
    let until = |(seconds, at_least): (f64, bool), expected: f64| {
        assert!((expected - 1.0..=expected).contains(&seconds) && !at_least, "{seconds} s, not {expected}");
    };
    // The keys are dropped 15 s after they came, 5 s after the revocation.
    for lasted in exposure("") {
        until(lasted, 5.0);
    }
    // The token passed its checks last at 15 s at the latest, and again each 20 s before.
    let [fresh, (repeated, at_least)] = exposure("token_cache_ttl = \"20s\"");
    until(fresh, 5.0);
    assert!((5.0..=25.0).contains(&repeated) && !at_least, "{repeated}");
    assert!(repeated > 8.0, "{repeated}");
    let [fresh, (_, at_least)] = exposure("token_cache_ttl = \"inf\"");
    until(fresh, 5.0);
    assert!(at_least, "to the end of the run");
}

/// A stray token uses up the fetch of a minute; whoever needs the next one waits for it in the last 20 s.
#[test]
fn those_who_may_wait_for_the_limiter_are_late_instead_of_refused() {
    let metrics = |policy: &str, timeout: &str| {
        cell(&format!(
            "duration = \"80s\"\n[[rotation]]\nat = \"10s\"\nstyle = \"just-in-time\"\n[fleet]\ncache = {{ age = \"0s\" }}\n\
             policy = {{ ttl = \"1h\", limiter = \"window\", limiter_burst = 1, limiter_interval = \"60s\", {policy} }}\n\
             {STEADY}sessions = 10\ntimeout = \"{timeout}\"\n\
             [[traffic.stream]]\nname = \"stray\"\ntoken = \"unknown_kid\"\nburst = {{ at = \"5s\", count = 1 }}\n\
             [[traffic.stream]]\nname = \"logins\"\ntoken = \"login\"\nrate = \"20/s\"\n"
        ))
        .metrics
    };
    // From 10 s until the minute ends at 65 s each login is refused.
    let refused = metrics("on_limited = \"reject\"", "30s").all;
    assert!((1_000..=1_200).contains(&refused.statuses[&401]), "{refused:?}");
    assert!(refused.latency_ms.unwrap().max < 1_000.0);
    // From 45 s on it waits, for 10 s on average.
    let waiting = "on_limited = \"wait\", limited_max_wait = \"20s\"";
    let late = metrics(waiting, "30s");
    assert!((600..=800).contains(&late.all.statuses[&401]), "{:?}", late.all);
    assert_eq!(late.all.outcomes.get("timed_out"), None);
    let longest = late.all.latency_ms.unwrap().max;
    assert!((19_500.0..=20_100.0).contains(&longest), "{longest}");
    assert_eq!(late.jwks.jwks_requests, 2);
    // A client that has less patience does not see that.
    let lost = metrics(waiting, "5s").all;
    assert!((250..=350).contains(&lost.outcomes["timed_out"]), "{lost:?}");
}

/// Of more tokens than there is room for, none is remembered until it comes again.
#[test]
fn a_cache_of_tokens_that_is_too_small_is_none() {
    let denied = |policy: &str| {
        let traffic =
            "[traffic]\nrate = \"100/s\"\nsessions = 10\nbalance = \"sticky\"\non_reject = \"keep\"\n";
        cell(&format!(
            "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = {{ status = 503 }}\n[fleet]\ncache = {{ age = \"0s\" }}\n\
             policy = {{ ttl = \"11s\", on_fetch_error = \"fail\", {policy} }}\n{traffic}"
        ))
        .metrics
        .all
        .denied
    };
    let none = denied("");
    assert!(none > 1_500, "{none}");
    assert_eq!(denied("token_cache_ttl = \"inf\", token_cache_max = 10"), 0, "an outage that nobody feels");
    let few = denied("token_cache_ttl = \"inf\", token_cache_max = 1");
    assert!(few > none * 8 / 10, "{few} of {none}");
}

#[test]
fn the_timer_of_a_cache_ends_with_its_process() {
    let polls = |runbook: &str| {
        fetches(&format!(
            "{runbook}[fleet]\ncache = {{ age = \"0s\" }}\npolicy = {{ ttl = \"inf\", poll_interval = \"10s\" }}\n{STEADY}"
        ))
    };
    // At 10 s, 20 s and so on, before the run ends at 60 s.
    assert_eq!(polls(""), 5.0);
    // At 10 s and 20 s, at 25 s by the first lookup after the restart, and from then on every 10 s: 35, 45 and 55 s.
    assert_eq!(polls("[[runbook]]\nwhen = \"25s\"\ndo = { restart = {} }\n"), 6.0);
}

#[test]
fn sessions_get_no_token_while_the_endpoint_is_down() {
    let requests = |fault: &str| {
        cell(&format!(
            "{fault}[idp]\ntoken_lifetime = \"20s\"\n[fleet]\npolicy = {{ leeway = \"0s\" }}\n{STEADY}sessions = 20\n"
        ))
        .metrics
    };
    let well = requests("");
    assert_eq!((well.all.denied, well.all.rejected_share), (0, Some(0.0)));
    let down = requests("[[fault]]\nfrom = \"10s\"\nfor = \"30s\"\ntoken = { status = 503 }\n");
    assert!(down.all.rejected_share.unwrap() > 0.1, "{down:?}");
    assert_eq!(down.all.denied, 0, "an expired token is refused with reason");
    let slow = requests("[[fault]]\nfrom = \"10s\"\nfor = \"30s\"\ntoken = { delay = \"1s\" }\n");
    assert_eq!(slow.all.rejected_share, Some(0.0), "a second is soon enough");
}

/// A key set that hangs takes down good tokens where those who wait for it hold all places.
#[test]
fn few_places_make_a_hung_key_set_everybodys_trouble() {
    let cell = |fleet: &str| {
        cell(&format!(
            "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = {{ hang = true }}\n[fleet]\n{fleet}\n\
             policy = {{ limiter = \"none\", fetch_timeout = \"30s\", ttl = \"1h\" }}\n{STEADY}timeout = \"1s\"\n\
             [[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"2/s\"\n"
        ))
        .metrics
        .all
    };
    assert_eq!(cell("").denied, 0, "known keys need no fetch");
    let few = cell("concurrency = 5\nqueue = 10");
    // Five strays have come after 2.5 s; from then on nobody has a place until the endpoint answers again.
    let lasts = few.denied as f64 / 100.0;
    assert!((15.0..=19.5).contains(&lasts), "{lasts} s");
    assert!(few.outcomes.contains_key("timed_out") && few.statuses.contains_key(&503), "{few:?}");
    assert_eq!(cell("concurrency = 100").denied, 0);
}
