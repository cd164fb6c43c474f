//! Mutated scenarios, for as long as `KEYQUAKE_FUZZ_SECONDS` says.

use std::fs;
use std::path::Path;

use keyquake_core::Time;
use keyquake_fuzz::Target;
use keyquake_idp::Timeline;
use keyquake_reports::record::Engine;

use crate::arrivals::Arrivals;
use crate::plan::Plan;
use crate::scenario::Source;

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
    "speed = 0.01\n",
    "speed = 1e5\n",
    "cache = \"cold\"\n",
    "cache = { age = \"inf\" }\n",
    "ttl = \"inf\"\n",
    "[gates]\n",
    "\"<= 1s\"",
    "\"== 99999999999\"",
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
        }
    });
}

fn assert_sound(plan: &Plan) {
    let shown = format!("{plan:?}");
    assert!(!shown.contains("NaN"), "{shown}");
    assert!((0.01..=1e5).contains(&plan.speed) && (0.0..=1.0).contains(&plan.recover_below), "{shown}");
    assert!(plan.gates.iter().all(|gate| gate.limit >= 0.0), "{shown}");
    assert!(plan.timeline.keys().count() <= Timeline::MAX_KEYS);

    let start = Time::ZERO - plan.warmup;
    for disturbance in &plan.disturbances {
        assert!((Time::ZERO..plan.end()).contains(&disturbance.from), "{disturbance:?}");
        assert!(disturbance.from <= disturbance.until && disturbance.from <= disturbance.curable_from);
    }
    for (key, life) in plan.timeline.keys().skip(1) {
        assert!((Time::ZERO..plan.end()).contains(&life.active), "{key}: {life:?}");
        assert!(life.active <= life.retired && life.retired <= life.removed, "{key}: {life:?}");
    }
    assert!(plan.caches.iter().flatten().all(|filled| *filled <= start), "{shown}");
    let mut before = start;
    for arrival in Arrivals::new(plan).take(20) {
        assert!((before..plan.end()).contains(&arrival.at) && arrival.replica < plan.replicas, "{arrival:?}");
        before = arrival.at;
    }
}
