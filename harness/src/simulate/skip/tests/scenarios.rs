//! Scenarios at random, each by its number.

use std::collections::BTreeMap;

use rand::RngExt;

use crate::seed;

/// A scenario at random: anything that a rotation, a fault and clients can be, and the policies that most have.
pub(super) fn scenario(number: u64) -> String {
    with_policy(number, "")
}

/// The same, with what sets real libraries apart.
pub(super) fn scenario_of_libraries(number: u64) -> String {
    let mut rng = seed::generator(1, "libraries", number);
    let mut any = |of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
    let store = any(&["set", "set", "set", "set", "set", "set", "per_kid", "per_kid_over_set", "none"]);
    let timers = [
        any(&[
            "",
            "",
            "poll_interval = \"5s\"",
            "poll_interval = \"6s\", poll_interval_on_failure = \"1s\", poll_backoff_max = \"3s\"",
            "poll_interval = \"7s\", poll_attempts = 2, ttl = \"inf\"",
        ]),
        any(&["", "", "init = \"eager_fail\"", "init = \"eager_tolerate\"", "init = \"async\""]),
        any(&["", "last_known_good = \"5s\""]),
    ];
    let others = [
        any(&[
            "",
            "on_expiry = \"leader_blocks\"",
            "on_expiry = \"background\"",
            "on_expiry = \"gate_only\"",
            "on_expiry = \"never\"",
        ]),
        any(&["", "on_unknown_kid = \"refetch_background\", on_bad_signature = \"refetch_background\""]),
        any(&["", "negative_ttl = \"4s\""]),
        any(&["", "attempts = 2"]),
        any(&["", "on_fetch_error = \"clear\"", "failure_rearms_ttl = true"]),
        any(&["", "limiter = \"bucket\", limiter_burst = 2, limiter_interval = \"5s\""]),
        any(&["", "on_limited = \"use_cached\""]),
        any(&[
            "",
            "coalescing = \"losers_fail\"",
            "coalescing = \"losers_cached\"",
            "coalescing_max_age = \"10ms\"",
        ]),
    ];
    let store = match store.as_str() {
        "set" => timers.join(", "),
        "none" => "store = \"none\"".to_owned(),
        _ => format!(
            "store = \"{store}\", inner_ttl = \"11s\", max_entries = 2, on_unknown_kid = \"refetch\", on_expiry = \"block\""
        ),
    };
    with_policy(number, &format!("{}, {store}", others.join(", ")))
}

/// The same with rates, lengths and limits that few have. Some are coupled.
pub(super) fn wild_scenario(number: u64) -> String {
    let mut rng = seed::generator(1, "wild", number);
    let mut any = |of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
    let fields = [
        any(&[
            "",
            "coalescing = \"none\", max_fetches = 3",
            "coalescing = \"kid\", max_fetches = 2",
            "coalescing = \"none\"",
        ]),
        any(&["", "refresh_ahead_share = 0.3"]),
        any(&["", "max_waiters = 3"]),
        any(&["", "on_missing_kid = \"reject\"", "missing_kid_refetch = true"]),
        any(&["", "on_empty_set = \"accept\"", "check_status = false"]),
        any(&["", "fetch_timeout = \"150ms\""]),
    ];
    let fields: Vec<String> = fields.into_iter().filter(|field| !field.is_empty()).collect();
    let edits = [
        ("fetch_time = \"20ms\"", any(&["", "fetch_time = \"300ms\"", "fetch_time = \"0s\""])),
        ("duration = \"30s\"", any(&["", "duration = \"30s\"\nwarmup = \"7s\""])),
        ("rate = \"30/s\"", any(&["", "rate = \"4/s\"", "rate = \"200/s\""])),
        ("replicas = 2", any(&["", "replicas = 3\nworkers = 2"])),
        ("[[fault]]", any(&["", "[[rotation]]\nat = \"18s\"\nstyle = \"no-overlap\"\n[[fault]]"])),
        (
            "[[fault]]",
            any(&["", "[[fault]]\nfrom = \"19s\"\nfor = \"4s\"\njwks = { delay = \"2s\" }\n[[fault]]"]),
        ),
        ("token_lifetime = \"1m\"", any(&["", "token_lifetime = \"9s\""])),
        ("rolling = \"2s\"", any(&["", "rolling = \"0s\""])),
        ("age = \"0s\"", "age = \"8s\"".to_owned()),
    ];
    let edits = edits.iter().filter(|(_, to)| !to.is_empty());
    edits.fold(with_policy(number, &fields.join(", ")), |lines, (from, to)| lines.replacen(from, to, 1))
}

/// All whole seconds ten times as long, at a rate that can still be played: fetches that repeat each other are leapt over.
pub(super) fn ten_times_as_long(lines: &str) -> String {
    let quoted = |(place, part): (usize, &str)| {
        let seconds = part.strip_suffix('s').and_then(|number| number.parse::<i64>().ok());
        match seconds.filter(|_| place % 2 == 1) {
            Some(seconds) => format!("{}s", 10 * seconds),
            None => part.to_owned(),
        }
    };
    let parts: Vec<String> = lines.split('"').enumerate().map(quoted).collect();
    parts.join("\"").replace("rate = \"200/s\"", "rate = \"60/s\"")
}

/// Lays these fields over the policy of a random scenario.
fn with_policy(number: u64, fields: &str) -> String {
    let mut rng = seed::generator(1, "scenarios", number);
    let mut any = |of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
    let rotation = any(&[
        "style = \"no-overlap\"",
        "style = \"just-in-time\"",
        "style = \"rekey\"",
        "style = \"revoke\"",
        "style = \"late\"\nlead = \"-3s\"",
        "lead = \"4s\"\nretention = \"5s\"",
    ]);
    let fault = any(&[
        "",
        "jwks = { status = 503 }",
        "jwks = { hang = true }",
        "jwks = { reset = true }",
        "jwks = { delay = \"400ms\" }",
        "jwks = { status = 500 }\nprobability = \"50%\"",
        "jwks = { body = \"empty_set\" }",
    ]);
    let fault =
        if fault.is_empty() { fault } else { format!("[[fault]]\nfrom = \"8s\"\nfor = \"9s\"\n{fault}\n") };
    let policy = [
        any(&[
            "ttl = \"6s\"",
            "ttl = \"20s\"",
            "ttl = \"9s\", refresh_ahead = \"3s\"",
            "ttl = \"8s\", ttl_jitter = 0.5",
        ]),
        any(&["on_unknown_kid = \"refetch\"", "on_unknown_kid = \"refetch\"", "on_unknown_kid = \"reject\""]),
        any(&["on_bad_signature = \"reject\"", "on_bad_signature = \"refetch\""]),
        any(&[
            "limiter = \"none\"",
            "limiter = \"window\", limiter_burst = 2, limiter_interval = \"7s\"",
            "limiter = \"cooldown\", limiter_interval = \"4s\"",
            "limiter = \"cooldown\", limiter_interval = \"4s\", limiter_anchor = \"attempt\"",
            "limiter = \"cooldown\", limiter_interval = \"4s\", limiter_anchor = \"miss\", limiter_scope = \"all\"",
        ]),
        any(&["on_fetch_error = \"fail\"", "on_fetch_error = \"stale\", stale_for = \"3s\""]),
        any(&["failure_backoff = \"0s\"", "failure_backoff = \"800ms\""]),
        any(&["coalescing = \"set\"", "coalescing = \"set\"", "coalescing = \"kid\""]),
        any(&["fetch_timeout = \"5s\"", "fetch_timeout = \"900ms\""]),
        any(&["max_waiters = 1024", "max_waiters = 12"]),
        any(&["http_limited = 401", "http_limited = 503"]),
    ];
    let policy = policy.join(", ");
    let fields = policy.split(", ").chain(fields.split(", ")).filter_map(|field| field.split_once(" = "));
    let policy: BTreeMap<&str, &str> = fields.collect();
    let policy: Vec<String> = policy.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let fleet =
        any(&["replicas = 2", "replicas = 2\ncache = \"cold\"", "workers = 2\ncache = { age = \"0s\" }"]);
    let runbook = any(&["", "", "[[runbook]]\nwhen = \"22s\"\ndo = { restart = { rolling = \"2s\" } }\n"]);
    let clients = any(&[
        "",
        "sessions = 20\n",
        "on_reject = \"keep\"\n",
        "on_reject = \"relogin\"\ntimeout = \"500ms\"\n",
    ]);
    let stream = any(&[
        "",
        "[[traffic.stream]]\nname = \"logins\"\ntoken = \"login\"\nrate = \"5/s\"\n",
        "[[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"6/s\"\nfrom = \"5s\"\nuntil = \"20s\"\n",
        "[[traffic.stream]]\nname = \"thief\"\ntoken = \"key:key-1\"\nrate = \"3/s\"\n",
        "[[traffic.stream]]\nname = \"burst\"\ntoken = \"bad_signature\"\nburst = { at = \"13s\", count = 30 }\n",
    ]);
    format!(
        "duration = \"30s\"\n[idp]\ntoken_lifetime = \"1m\"\n[[rotation]]\nat = \"10s\"\n{rotation}\n{fault}{runbook}[fleet]\n\
         {fleet}\npolicy = {{ {} }}\n[simulate]\nfetch_time = \"20ms\"\n[traffic]\nrate = \"30/s\"\n{clients}{stream}",
        policy.join(", ")
    )
}
