//! Records for tests: plausible, small and always the same.

use std::collections::BTreeMap;

use crate::record::{
    Cell, Comparison, Engine, Episode, EpisodeMetrics, Event, EventKind, Exposure, Extreme, Fidelity,
    Finding, Gate, GateResult, GateState, Instance, JwksRequest, JwksVolume, Lasting, LoginStorm, Metric,
    Orphaned, Outcome, Quantiles, Record, Recovering, Recovery, RecoverySpread, RecoveryState, RunMetrics,
    SCHEMA, Sample, Scenario, Sweep, SweepAxis, SweepCell, SweepMetrics, Traffic, Verdict, Windows,
};

/// A rotation without overlap at 0 s, seen by ten instances that refetch on an unknown kid with a cooldown.
pub(crate) fn no_overlap() -> Record {
    record(
        "no-overlap",
        "How long are new tokens refused when an IdP swaps its key in one instant?",
        denied_cell(60),
    )
}

/// A rotation with overlap: nobody notices.
pub(crate) fn overlap() -> Record {
    record("overlap", "Does anybody notice a rotation whose keys overlap?", calm_cell(60))
}

/// A key revoked at 0 s, whose tokens four streams go on trying.
pub(crate) fn revocation() -> Record {
    let mut cell = calm_cell(60);
    let event = |kind, key: &str| Event {
        kind,
        key: Some(key.into()),
        detail: None,
        planned_s: 0.0,
        actual_s: Some(0.000_2),
    };
    cell.events = vec![
        event(EventKind::Publish, "key-2"),
        event(EventKind::Activate, "key-2"),
        event(EventKind::Remove, "key-1"),
        event(EventKind::Revoke, "key-1"),
    ];
    let exposure = |(stream, fresh, alone, seconds, at_least): (&str, bool, bool, f64, bool)| Exposure {
        stream: stream.into(),
        key: "key-1".into(),
        fresh,
        alone,
        lasted: Lasting { seconds, at_least },
    };
    let episode = &mut cell.episodes[0];
    episode.title = "revoke rotation to key-2".into();
    episode.metrics.revocation_exposure = [
        ("thief", true, false, 0.494, false),
        ("thief-alone", true, true, 19.6, false),
        ("thief-alone-repeating", false, true, 40.0, true),
        ("thief-repeating", false, false, 0.0, false),
    ]
    .map(exposure)
    .into();
    episode.metrics.streams = BTreeMap::from([("logins".into(), recovering(traffic(400, 0, 0), 0.0))]);
    episode.metrics.false_accepts.insert("revoked_key".into(), 401);
    cell.metrics.false_accepts.insert("revoked_key".into(), 401);
    cell.windows.false_accepts.iter_mut().skip(10).for_each(|accepted| *accepted = 8);
    cell.gates.push(
        Gate { of: "thief".into(), ..gate(Metric::RevocationExposure, Comparison::AtMost, 4.0) }.into(),
    );
    record("revocation", "How long does a stolen key open doors after it was revoked?", cell)
}

/// A rotation without overlap while the JWKS endpoint is down, and what every stream saw of it.
pub(crate) fn outage() -> Record {
    let mut cell = denied_cell(60);
    let fault = |kind, planned_s| Event {
        kind,
        key: None,
        detail: Some("JWKS answers 503".into()),
        planned_s,
        actual_s: Some(planned_s),
    };
    cell.events.insert(0, fault(EventKind::FaultOn, -4.0));
    cell.events.push(fault(EventKind::FaultOff, 9.0));
    let metrics = &mut cell.episodes[0].metrics;
    metrics.outage_survival = Some(Lasting { seconds: 13.0, at_least: true });
    metrics.causes.insert("JWKS unavailable".into(), 512);
    metrics.streams = BTreeMap::from([("logins".into(), recovering(traffic(400, 120, 120), 20.1))]);
    cell.metrics.jwks.statuses.insert(503, 12);
    cell.metrics.fetches_per_unknown_kid = Some(0.25);
    record("outage", "What does an outage of the JWKS during a rotation cost?", cell)
}

/// A rotation that met its caches at an age of 20 s, and one that met them at 50 s and that nobody noticed.
pub(crate) fn spread() -> Record {
    let mut cell = denied_cell(120);
    let mut second = calm_cell(50).episodes.remove(0);
    (cell.episodes[0].to_s, second.from_s, second.to_s) = (60.0, 60.0, 110.0);
    cell.episodes.push(second);
    for instance in &mut cell.instances {
        instance.jwks_requests = vec![fetch(-20.0, "key-1"), fetch(10.0, "key-2")];
        instance.time_to_recover.push(recovered(0.0));
    }
    record("spread", "What does the age of the caches make of a rotation?", cell)
}

/// A run that was stopped before anything happened.
pub(crate) fn aborted() -> Record {
    let mut cell = calm_cell(0);
    cell.episodes.clear();
    cell.events.clear();
    cell.gates.clear();
    cell.instances.clear();
    cell.metrics.all = Traffic::default();
    cell.metrics.streams.clear();
    cell.metrics.false_accepts.clear();
    cell.metrics.fidelity.lateness_ms = None;
    let mut record = record("aborted", "Does a run that was stopped still leave a report?", cell);
    record.verdict = Verdict::Aborted;
    record.reasons = vec!["Stopped by Ctrl-C.".into()];
    record
}

/// As [`no_overlap`], over so many windows, the latencies of which are noisy.
pub(crate) fn long(windows: usize) -> Record {
    record("long", "How large may a report grow?", denied_cell(windows))
}

/// Twelve settings after a rotation, an outage and a revocation.
pub(crate) fn sweep() -> Record {
    let ttls = [("1m", 60.0), ("15m", 900.0), ("1h", 3_600.0), ("6h", 21_600.0)];
    let policies = ["reject", "cooldown", "refetch"];
    let cells =
        ttls.into_iter().flat_map(|ttl| policies.into_iter().map(move |policy| swept_cell(ttl, policy)));
    let axis = |path: &str, values: &[&str]| SweepAxis {
        path: path.into(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let mut record = record("ttl-vs-policy", "Which TTL and which policy?", calm_cell(0));
    record.cells.clear();
    record.engine = Engine::Simulated;
    record.command = "keyquake sweep scenarios/ttl-vs-policy.toml --seed 7 --replications 5".into();
    record.sweep = Some(Sweep {
        axes: vec![
            axis("fleet.policy.ttl", &ttls.map(|(ttl, _)| ttl)),
            axis("fleet.policy.on_unknown_kid", &policies),
        ],
        parameters: BTreeMap::from([("fleet.replicas".into(), "8".into())]),
        replications: 5,
        cells: cells.collect(),
        front: Vec::new(),
        recommended: None,
        findings: findings(),
    });
    record
}

fn swept_cell((ttl, seconds): (&str, f64), policy: &str) -> SweepCell {
    let recovery = match policy {
        "reject" => seconds,
        "cooldown" => 30.0,
        _ => 0.0,
    };
    let volume = 12.0 * 3_600.0 / seconds + if policy == "refetch" { 9.0 } else { 0.5 };
    let sample = |value: f64| Sample {
        mean: value * 0.9,
        low: Some(value * 0.8),
        high: Some(value),
        worst: value,
        replications: 5,
        open: 0,
    };
    let open = |value: f64| Sample { open: 2, ..sample(value) };
    let lasts = recovery > 7_200.0;
    let recovered = if lasts { open(7_200.0) } else { sample(recovery) };
    let limit = gate(Metric::TimeToRecover, Comparison::AtMost, 60.0);
    let state = if recovery <= 60.0 { GateState::Held } else { GateState::Failed };
    SweepCell {
        parameters: [("fleet.policy.ttl", ttl), ("fleet.policy.on_unknown_kid", policy)]
            .map(|(path, value)| (path.to_owned(), value.to_owned()))
            .into(),
        metrics: SweepMetrics {
            denied_share: Some(sample(recovery / 30_000.0)),
            peak_denied_share: Some(sample(if recovery > 0.0 { 1.0 } else { 0.0 })),
            peak_401_share: Some(sample(if recovery > 0.0 { 0.9 } else { 0.0 })),
            time_to_recover_s: Some(recovered),
            jwks_requests: Some(sample(volume * 24.0)),
            jwks_requests_per_replica_hour: Some(sample(volume / 4.0)),
            revocation_exposure_s: Some(sample(if policy == "reject" { seconds } else { 4.0 })),
            outage_survival_s: Some(if seconds > 1_000.0 { open(1_200.0) } else { sample(seconds) }),
            login_storm: Some(sample(recovery.min(900.0))),
        },
        gates: Vec::new(),
        wishes: vec![GateResult {
            state,
            value: Some(recovery),
            margin: Some(60.0 - recovery),
            ..limit.into()
        }],
    }
}

fn findings() -> Vec<Finding> {
    let finding = |extreme, path: &str, gate, policy: &str, outcome| Finding {
        extreme,
        path: path.into(),
        gate,
        episode: (extreme == Extreme::Smallest).then_some(1),
        parameters: BTreeMap::from([("fleet.policy.on_unknown_kid".into(), policy.into())]),
        recommended: policy == "cooldown",
        low: "0s".into(),
        high: "2h".into(),
        tolerance: "10s".into(),
        replications: 5,
        tried: 12,
        outcome,
    };
    let zero = || gate(Metric::Denied, Comparison::Exactly, 0.0);
    let recovers = || gate(Metric::TimeToRecover, Comparison::AtMost, 60.0);
    let between =
        |holds: &str, fails: &str| Outcome::Between { holds: holds.into(), fails: fails.into(), failures: 2 };
    let (smallest, largest) = (Extreme::Smallest, Extreme::Largest);
    let (lead, ttl) = ("rotation[0].lead", "fleet.policy.ttl");
    let never = Outcome::Nowhere { fails: "1m".into(), failures: 5 };
    let why = "error: `refresh_ahead` must be below `ttl`\n  --> x".to_owned();
    vec![
        finding(smallest, lead, zero(), "reject", between("59m54s", "59m44s")),
        finding(smallest, lead, zero(), "refetch", Outcome::Throughout { holds: "0s".into() }),
        finding(largest, ttl, recovers(), "reject", never),
        finding(largest, ttl, recovers(), "cooldown", between("2h", "2h1m")),
        finding(largest, ttl, recovers(), "refetch", Outcome::Unplayable { value: "1s".into(), why }),
    ]
}

/// A gate over the cohort.
pub(crate) fn gate(metric: Metric, comparison: Comparison, limit: f64) -> Gate {
    Gate { metric, of: "cohort".into(), comparison, limit }
}

pub(crate) fn recovered(seconds: f64) -> Recovery {
    Recovery {
        state: RecoveryState::Recovered,
        seconds: Some(seconds),
        last_denial_s: (seconds > 0.0).then_some(seconds - 0.1),
        first_pass_after_s: (seconds > 0.0).then_some(seconds),
        following: 500,
    }
}

pub(crate) fn not_recovered(seconds: f64) -> Recovery {
    Recovery {
        state: RecoveryState::NotRecovered,
        seconds: Some(seconds),
        following: 0,
        ..recovered(seconds)
    }
}

pub(crate) fn inconclusive() -> Recovery {
    Recovery {
        state: RecoveryState::Inconclusive,
        seconds: None,
        last_denial_s: None,
        first_pass_after_s: None,
        following: 7,
    }
}

/// Checks what XML 1.0 asks of tags, attributes and references, as far as these pages use them.
pub(crate) fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml.trim_start_matches("<!DOCTYPE html>");
    while let Some(start) = rest.find('<') {
        assert_text(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_matches('/').split_whitespace().next().expect("a tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "after {} bytes", xml.len() - rest.len());
            continue;
        }
        let attributes = tag.trim_end_matches('/')[name.len()..].split('"').collect::<Vec<_>>();
        assert!(attributes.len() % 2 == 1, "quotes pair up: {tag}");
        assert!(
            attributes.iter().step_by(2).all(|name| name.trim().is_empty() || name.ends_with('=')),
            "{tag}"
        );
        attributes.iter().for_each(|text| assert_text(text));
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_text(rest);
    assert!(open.is_empty(), "{open:?} stay open");
}

fn assert_text(text: &str) {
    assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
    for reference in text.split('&').skip(1) {
        let name = reference.split(';').next().expect("a split has a first part");
        assert!(["amp", "lt", "gt", "quot", "apos", "#39"].contains(&name), "&{name}");
    }
}

fn record(name: &str, question: &str, cell: Cell) -> Record {
    Record {
        schema: SCHEMA,
        keyquake: "0.1.0".into(),
        scenario: Scenario {
            name: name.into(),
            question: Some(question.into()),
            hash: "5f0c2a77b1e94d3a".into(),
        },
        seed: 7,
        engine: Engine::Live,
        speed: 1.0,
        command: format!("keyquake run scenarios/{name}.toml --seed 7"),
        verdict: Verdict::Pass,
        reasons: Vec::new(),
        warnings: vec![
            "retention (0 s) is shorter than token lifetime + skew (65 min): live tokens die early".into(),
        ],
        cells: vec![cell],
        target: None,
        sweep: None,
    }
}

fn recovering(traffic: Traffic, seconds: f64) -> Recovering {
    Recovering { traffic, time_to_recover: recovered(seconds), recovery_lag: recovered(seconds) }
}

fn denied_cell(len: usize) -> Cell {
    let windows = windows(len, true);
    let denied: u64 =
        windows.cohort_false_rejects.iter().sum::<u64>() + windows.cohort_failures.iter().sum::<u64>();
    let failures: u64 = windows.cohort_failures.iter().sum();
    let cohort = traffic(windows.cohort_must_pass.iter().sum(), denied, failures);
    let all = traffic(windows.must_pass.iter().sum(), denied, failures);
    let orphaned = Orphaned { orphaned_rejects: windows.orphaned_rejects.iter().sum(), orphaned_accepts: 31 };
    let jwks = JwksVolume {
        jwks_requests: windows.jwks_requests.iter().sum(),
        jwks_peak_per_second: 10,
        statuses: BTreeMap::from([(200, 20)]),
    };
    let storm = LoginStorm { requests: 181, peak_per_second: 24, locked_out: 12 };
    let event = |kind, key: &str| Event {
        kind,
        key: Some(key.into()),
        detail: None,
        planned_s: 0.0,
        actual_s: Some(0.000_4),
    };
    let events = vec![
        event(EventKind::Publish, "key-2"),
        event(EventKind::Activate, "key-2"),
        event(EventKind::Remove, "key-1"),
    ];
    let episode = Episode {
        title: "no-overlap rotation to key-2".into(),
        from_s: 0.0,
        to_s: windows.start_s(len),
        cohort: "tokens that key-2 signed".into(),
        events: events.clone(),
        metrics: EpisodeMetrics {
            cohort: recovering(cohort, 20.3),
            all: recovering(all.clone(), 19.8),
            streams: BTreeMap::new(),
            jwks: jwks.clone(),
            orphaned,
            false_accepts: false_accepts(),
            login_storm: storm,
            revocation_exposure: Vec::new(),
            outage_survival: None,
            jwks_amplification: Some(8.2),
            causes: BTreeMap::from([("not refreshed".into(), 231), ("fetch in flight".into(), 33)]),
            fidelity: fidelity(),
            by_instance: Some(RecoverySpread {
                p50_s: Some(15.1),
                p95_s: Some(20.3),
                max_s: Some(20.3),
                recovered: 10,
                not_recovered: 0,
                inconclusive: 0,
            }),
            flapping_s: None,
        },
    };
    let mut cell = calm_cell(0);
    cell.metrics = RunMetrics { all, orphaned, jwks, login_storm: storm, ..cell.metrics };
    cell.episodes = vec![episode];
    cell.events = events;
    cell.instances =
        (0..10).map(|replica| instance(replica, recovered(10.0 + 1.145 * f64::from(replica)))).collect();
    cell.windows = windows;
    cell.gates.push(gate(Metric::TimeToRecover, Comparison::AtMost, 10.0).into());
    cell
}

fn calm_cell(len: usize) -> Cell {
    let windows = windows(len, false);
    let cohort = traffic(windows.cohort_must_pass.iter().sum(), 0, 0);
    let all = traffic(windows.must_pass.iter().sum::<u64>().max(1), 0, 0);
    let jwks =
        JwksVolume { jwks_requests: 10, jwks_peak_per_second: 2, statuses: BTreeMap::from([(200, 10)]) };
    let events = overlap_events();
    let seen =
        |traffic| Recovering { traffic, time_to_recover: recovered(0.0), recovery_lag: recovered(0.0) };
    let episode = Episode {
        title: "overlap rotation to key-2".into(),
        from_s: 0.0,
        to_s: windows.start_s(len).max(0.0),
        cohort: "tokens that key-2 signed".into(),
        events: events.clone(),
        metrics: EpisodeMetrics {
            cohort: seen(cohort),
            all: seen(all.clone()),
            streams: BTreeMap::new(),
            jwks: jwks.clone(),
            orphaned: Orphaned::default(),
            false_accepts: false_accepts(),
            login_storm: LoginStorm::default(),
            revocation_exposure: Vec::new(),
            outage_survival: None,
            jwks_amplification: Some(8.2),
            causes: BTreeMap::new(),
            fidelity: fidelity(),
            by_instance: None,
            flapping_s: None,
        },
    };
    Cell {
        parameters: BTreeMap::from([
            ("fleet.policy.on_unknown_kid".into(), "refetch".into()),
            ("fleet.policy.ttl".into(), "6h".into()),
            ("idp.token_lifetime".into(), "1h".into()),
            ("traffic.rate".into(), "200/s".into()),
        ]),
        metrics: RunMetrics {
            all,
            streams: BTreeMap::from([("logins".into(), traffic(400, 0, 0))]),
            jwks,
            orphaned: Orphaned::default(),
            false_accepts: false_accepts(),
            login_storm: LoginStorm::default(),
            blackout_worst: Some(Lasting { seconds: 20.3, at_least: false }),
            fetches_per_unknown_kid: None,
            fidelity: fidelity(),
        },
        episodes: vec![episode],
        instances: (0..10).map(|replica| instance(replica, recovered(0.0))).collect(),
        events,
        windows,
        gates: vec![
            gate(Metric::DeniedShare, Comparison::AtMost, 0.2).into(),
            gate(Metric::FalseAccepts, Comparison::Exactly, 0.0).into(),
            gate(Metric::JwksRequests, Comparison::AtMost, 100.0).into(),
        ],
    }
}

fn overlap_events() -> Vec<Event> {
    let at = |kind, key: &str, planned_s| Event {
        kind,
        key: Some(key.into()),
        detail: None,
        planned_s,
        actual_s: None,
    };
    vec![
        at(EventKind::Publish, "key-2", -8.0),
        at(EventKind::Activate, "key-2", 0.0),
        at(EventKind::Retire, "key-1", 0.0),
        at(EventKind::Remove, "key-1", 40.0),
    ]
}

/// Windows of a second, the first ten of them warm-up. When `denied`, the new key is refused until its instances, one after
/// the other, have fetched it between 10 s and 20.3 s.
fn windows(len: usize, denied: bool) -> Windows {
    let mut windows = Windows { width_s: 1.0, first_s: -10.0, ..Windows::default() };
    for index in 0..len {
        let at = index as i64 - 10;
        let noise = index.wrapping_mul(2_654_435_761) % 97;
        let requests = 190 + noise as u64 / 5;
        let cohort = if at < 0 { 0 } else { (4 + at as u64 / 2).min(requests) };
        let stuck = if denied && (0..=20).contains(&at) { (21 - at as u64).min(10) } else { 0 };
        let refused = cohort * stuck / 10;
        let failures = if (5..9).contains(&at) { refused / 3 } else { 0 };
        windows.requests.push(requests);
        windows.must_pass.push(requests - 2);
        windows.false_rejects.push(refused - failures);
        windows.failures.push(failures);
        windows.cohort_must_pass.push(cohort);
        windows.cohort_false_rejects.push(refused - failures);
        windows.cohort_failures.push(failures);
        windows.orphaned_rejects.push(if denied && at >= 10 { (10 - stuck) * 3 } else { 0 });
        windows.false_accepts.push(0);
        windows.jwks_requests.push(match at {
            -10 => 10,
            10..=20 if denied => 1 + u64::from(at == 15) * 3,
            _ => 0,
        });
        windows.token_requests.push(3 + noise as u64 / 40);
        windows.lateness_p99_ms.push(0.1 + noise as f64 / 1e3);
        windows.latency_p50_ms.push(Some(0.5 + noise as f64 / 500.0));
        windows.latency_p99_ms.push(Some(1.5 + noise as f64 / 20.0 + f64::from(u8::from(at == 12)) * 60.0));
    }
    windows
}

fn traffic(must_pass: u64, denied: u64, failures: u64) -> Traffic {
    let share = |part: u64| (must_pass > 0).then(|| part as f64 / must_pass as f64);
    let quantiles = Quantiles { p50: 0.6, p90: 1.2, p99: 5.9, p999: 21.4, max: 66.0 };
    Traffic {
        requests: must_pass + 120,
        outcomes: BTreeMap::from([
            ("accepted".into(), must_pass - denied),
            ("failed".into(), failures),
            ("rejected".into(), denied - failures + 120),
        ]),
        statuses: BTreeMap::from([
            (200, must_pass - denied),
            (401, denied - failures + 120),
            (500, failures),
        ]),
        rejected_share: share(denied - failures + 120),
        must_pass,
        denied,
        denied_share: share(denied),
        peak_denied_share: (must_pass > 0).then_some(if denied > 0 { 1.0 } else { 0.0 }),
        false_rejects: denied - failures,
        failures,
        latency_ms: Some(quantiles),
        service_time_ms: Some(Quantiles { p50: 0.5, ..quantiles }),
    }
}

fn instance(replica: u32, recovery: Recovery) -> Instance {
    Instance {
        replica,
        worker: 0,
        cache_age_at_start_s: Some(f64::from(replica)),
        must_pass: 1_000,
        denied: 60,
        jwks_requests: vec![fetch(-10.0, "key-1"), fetch(recovery.seconds.unwrap_or(0.0), "key-2")],
        time_to_recover: vec![recovery],
    }
}

fn fetch(at_s: f64, key: &str) -> JwksRequest {
    JwksRequest {
        at_s,
        answered_s: Some(at_s),
        status: Some(200),
        keys: [key.into()].into(),
        asked_s: None,
        received_s: None,
    }
}

fn false_accepts() -> BTreeMap<String, u64> {
    BTreeMap::from([("alg_none".into(), 0), ("bad_signature".into(), 0), ("expired".into(), 0)])
}

fn fidelity() -> Fidelity {
    Fidelity {
        lateness_ms: Some(Quantiles { p50: 0.1, p90: 0.2, p99: 0.4, p999: 1.1, max: 3.2 }),
        shed: 0,
        shed_share: 0.0,
        lateness_limit_ms: 10.0,
        shed_limit: 0.001,
    }
}
