//! Mutated scenarios, for as long as `KEYQUAKE_FUZZ_SECONDS` says.

use std::fs;
use std::path::Path;

use keyquake_core::Time;
use keyquake_fuzz::Target;
use keyquake_idp::Timeline;
use keyquake_reports::record::Engine;

use crate::arrivals::Arrivals;
use crate::plan::{Plan, Runbook};
use crate::scenario::{Chosen, Matrix, Source, TokenSource};

const WORDS: &[&str] = &[
    "\"inf\"",
    "\"0s\"",
    "\"-3s\"",
    "\"106751d\"",
    "\"1ns\"",
    "\"0%\"",
    "\"100%\"",
    "\"1/106751d\"",
    "\"50000/s\"",
    "style = \"late\"\n",
    "style = \"rekey\"\n",
    "style = \"revoke\"\n",
    "lead = \"24h\"\n",
    "retention = \"0s\"\n",
    "replace = false\n",
    "[[rotation]]\nat = \"1s\"\nstyle = \"just-in-time\"\n",
    "[[fault]]\nfrom = \"1s\"\nfor = \"1s\"\njwks = { status = 503 }\n",
    "phase = \"spread\"\nevery = \"1s\"\ntimes = 200\n",
    "discovery = { delay = \"1s\" }\n",
    "token = { status = 429, retry_after = \"1s\" }\n",
    "probability = \"50%\"\n",
    "replicas = \"20%\"\n",
    "{ keys = [\"unknown_kty\", \"akp\", \"null\"] }",
    "{ keys = \"swapped\", stale = \"1h\", body = \"bom\" }",
    "{ body = \"truncated\", delay = \"inf\" }",
    "{ headers = { age = \"1\", etag = \"\" }, drop = true }",
    "{ redirect = \"/elsewhere\" }",
    "{ hang = true }",
    "{ reset = true }",
    "[[runbook]]\nwhen = \"1s\"\ndo = { restart = { rolling = \"1s\" } }\n",
    "rolling = \"inf\"",
    "workers = 64\n",
    "[[traffic.stream]]\nname = \"probe\"\ntoken = \"key:key-1\"\nrate = \"5/s\"\n",
    "\"key:key-2\"",
    "\"key:key-4294967295\"",
    "\"session\"",
    "\"login\"",
    "\"unknown_kid\"",
    "burst = { at = \"1s\", count = 100000 }\n",
    "fresh = true\n",
    "from = \"1s\"\nuntil = \"2s\"\n",
    "replicas = [0]\nalone = true\n",
    "endpoint = \"/session\"\n",
    "[[gate]]\nmetric = \"false_accepts\"\nof = \"probe\"\nlimit = \"== 0\"\n",
    "speed = 0.01\n",
    "speed = 1e5\n",
    "cache = \"cold\"\n",
    "cache = { age = \"inf\" }\n",
    "ttl = \"inf\"\n",
    "[gates]\n",
    "[matrix]\n\"fleet.policy.ttl\" = [\"1s\", \"1m\"]\n",
    "\"rotation[0].at\" = [\"1s\"]\n",
    "include = [{ \"fleet.policy.ttl\" = \"1s\", \"fleet.replicas\" = 2 }]\n",
    "exclude = [{ \"fleet.policy.ttl\" = \"1s\" }]\n",
    "[[find]]\nsmallest = \"fleet.policy.ttl\"\nwithin = \"1s..1m\"\nmetric = \"denied\"\nlimit = \"== 0\"\n",
    "[recommend]\n",
    "\"<= 1s\"",
    "\"== 99999999999\"",
    "[target]\ncommand = [\"true\", \"{port}\"]\n",
    "[target]\nurl = [\"http://127.0.0.1:1/x\"]\n[idp]\nport = 8400\n",
    "ready = \"tcp\"\naccepted = [200]\nrejected = [302, 401]\n",
    "[guard]\nallow = [\"a.example=5/s\"]\n",
    "'''",
    "\"\"\"",
    "#",
];

/// A scenario that can be run is finite in every number, and all that is planned lies within the run. One that cannot
/// is answered with a text.
#[test]
fn scenario() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = Vec::new();
    for folder in ["../scenarios", "tests/broken"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                seeds.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    // Cases follow from the order too.
    seeds.sort();
    Target::new("scenario", seeds.into_iter().map(|(_, text)| text)).words(WORDS).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        // Its last line is laid over the others, as a flag would be.
        let (file, setting) = text.trim_end().rsplit_once('\n').unwrap_or((text, ""));
        for overrides in [vec![], vec![setting.to_owned()]] {
            match Source::new("fuzz.toml", file, &overrides)
                .and_then(|source| Plan::check(&source, Engine::Live))
            {
                Ok(plan) => assert_sound(&plan),
                Err(complaint) => assert!(complaint.starts_with("error: "), "{complaint}"),
            }
            if let Err(complaint) = cells(file, &overrides) {
                assert!(complaint.starts_with("error: "), "{complaint}");
            }
        }
    });
}

/// The first and the last cell of a sweep of it, and the ends of what it searches.
fn cells(file: &str, overrides: &[String]) -> Result<(), String> {
    let source = Source::new("fuzz.toml", file, overrides)?;
    let matrix = Matrix::of(&source)?;
    for cell in [0, matrix.len() - 1] {
        let plan = Plan::of(&matrix.document(cell, None)?, Engine::Simulated)?;
        assert_sound(&plan);
        for search in &plan.searches {
            for end in [search.range.low, search.range.high] {
                let tried = Chosen::by_search(search.number, &search.path, &search.range.shown(end));
                assert_sound(&Plan::of(&matrix.document(cell, Some(&tried))?, Engine::Simulated)?);
            }
        }
    }
    Ok(())
}

fn assert_sound(plan: &Plan) {
    let shown = format!("{plan:?}");
    assert!(!shown.contains("NaN"), "{shown}");
    assert!((0.01..=1e5).contains(&plan.speed) && (0.0..=1.0).contains(&plan.recover_below), "{shown}");
    assert!(plan.gates.iter().all(|gate| gate.limit >= 0.0), "{shown}");
    assert!(plan.timeline.keys().count() <= Timeline::MAX_KEYS);

    for disturbance in &plan.disturbances {
        assert!((Time::ZERO..plan.end()).contains(&disturbance.from), "{disturbance:?}");
        assert!(disturbance.from <= disturbance.until && disturbance.from <= disturbance.curable_from);
    }
    for (key, life) in plan.timeline.keys().skip(1) {
        assert!((Time::ZERO..plan.end()).contains(&life.active), "{key}: {life:?}");
        assert!(life.active <= life.retired && life.retired <= life.removed, "{key}: {life:?}");
    }
    for window in plan.timeline.events().iter().filter_map(|timed| plan.timeline.fault(timed.event.fault()?))
    {
        assert!((Time::ZERO..plan.end()).contains(&window.from) && window.from < window.until, "{window:?}");
        assert_eq!(window.fault.check(), Ok(()), "{window:?}");
    }
    assert_sound_fleet(plan);
    assert_sound_traffic(plan);
}

fn assert_sound_fleet(plan: &Plan) {
    assert_eq!(plan.caches.len(), plan.instances() as usize);
    let start = Time::ZERO - plan.warmup;
    assert!(plan.caches.iter().flatten().all(|filled| *filled <= start), "{:?}", plan.caches);
    let Runbook { actions, restarts } = &plan.runbook;
    assert!(actions.is_sorted() && restarts.is_sorted(), "{restarts:?}");
    let during = Time::ZERO..plan.end();
    assert!(actions.iter().all(|(at, _)| during.contains(at)), "{actions:?}");
    let is_sound = |(at, replica): &(Time, u32)| during.contains(at) && *replica < plan.replicas;
    assert!(restarts.iter().all(is_sound), "{restarts:?}");
}

fn assert_sound_traffic(plan: &Plan) {
    let start = Time::ZERO - plan.warmup;
    for (i, stream) in plan.streams.iter().enumerate() {
        assert!(stream.per_second.is_finite() && stream.per_second >= 0.0, "{stream:?}");
        assert!(start <= stream.from && stream.from <= stream.until && stream.until <= plan.end());
        let within = |at: Time| start <= at && at < plan.end();
        assert!(stream.burst.is_none_or(|(at, count)| within(at) && count > 0), "{stream:?}");
        assert!(!stream.replicas.is_empty() && stream.replicas.iter().all(|number| *number < plan.replicas));
        let others = plan.streams.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
        assert!(others.clone().all(|other| other.name != stream.name), "{stream:?}");
        let mut louder = others.filter(|other| !other.alone).flat_map(|other| &other.replicas);
        assert!(!stream.alone || !louder.any(|replica| stream.replicas.contains(replica)), "{stream:?}");
    }
    let mut before = start;
    for arrival in Arrivals::new(plan).take(20) {
        let stream = &plan.streams[arrival.stream];
        assert!((before..plan.end()).contains(&arrival.at), "{arrival:?}");
        let in_burst = stream.burst.is_some_and(|(at, _)| at == arrival.at);
        assert!(in_burst || (stream.from..stream.until).contains(&arrival.at), "{arrival:?} of {stream:?}");
        assert!(stream.replicas.contains(&arrival.replica), "{arrival:?} of {stream:?}");
        assert_eq!(arrival.session.is_some(), stream.token == TokenSource::Session);
        before = arrival.at;
    }
}
