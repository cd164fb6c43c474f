//! Sweeps, held against what can be worked out by hand.

use std::fs;
use std::path::Path;

use keyquake_reports::Record;
use keyquake_reports::record::{Finding, Outcome, SweepCell, Verdict};

use super::Sweep;
use crate::scenario::{Matrix, Source};

/// What is swept unless a test says otherwise: one rotation without overlap, and caches filled at the start.
const BASE: &str = "name = \"test\"\nduration = \"60s\"\n[[rotation]]\nat = \"20s\"\nlead = \"0s\"\nretention = \"0s\"\n\
     [simulate]\nfetch_time = \"0s\"\n[fleet]\ncache = { age = \"0s\" }\npolicy = { on_unknown_kid = \"reject\" }\n\
     [traffic]\nrate = \"5/s\"\nbackground = { expired = \"0%\", forged = \"0%\" }\n\
     [[traffic.stream]]\nname = \"logins\"\nrate = \"20/s\"\ntoken = \"login\"\n";

fn swept(lines: &str, settings: &[&str], (replications, jobs): (u32, usize)) -> Record {
    let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let source = Source::new("test.toml", &format!("{BASE}{lines}"), &settings).unwrap();
    let sweep = Sweep::check(Matrix::of(&source).unwrap(), replications, jobs).unwrap();
    sweep.play("keyquake sweep", |_| {}).unwrap()
}

fn cells(lines: &str, settings: &[&str]) -> Vec<SweepCell> {
    swept(lines, settings, (2, 2)).sweep.unwrap().cells
}

fn finding(lines: &str, settings: &[&str]) -> Finding {
    swept(lines, settings, (2, 2)).sweep.unwrap().findings.remove(0)
}

const TTLS: &str = "[matrix]\n\"fleet.policy.ttl\" = [\"12s\", \"15s\", \"25s\"]\n";

#[test]
fn one_seed_gives_the_same_bytes_on_any_number_of_threads_and_another_gives_others() {
    let find = "[[find]]\nlargest = \"fleet.policy.ttl\"\nwithin = \"1s..40s\"\nmetric = \"time_to_recover\"\n\
                limit = \"<= 8s\"\ntolerance = \"10s\"\n";
    let json =
        |settings: &[&str], jobs| swept(&format!("{TTLS}{find}"), settings, (2, jobs)).to_json().unwrap();
    let one = json(&[], 1);
    assert_eq!(one, json(&[], 2));
    assert_eq!(one, json(&[], 7));
    assert_ne!(one, json(&["seed=2"], 1));
}

#[test]
fn neither_a_further_cell_nor_a_further_axis_value_moves_the_draws_of_another() {
    let some = cells(TTLS, &["matrix.\"fleet.policy.ttl\"=[\"25s\", \"15s\"]"]);
    let more = cells(TTLS, &[]);
    assert_eq!((&some[0], &some[1]), (&more[2], &more[1]));
    let mut jwks = more.iter().map(|cell| cell.metrics.jwks_requests.unwrap().mean);
    assert!(jwks.next() > jwks.next(), "a shorter ttl fetches more often");
}

#[test]
fn replications_differ_and_are_those_of_fewer_replications_first() {
    let worst = |replications| {
        let sweep = swept(TTLS, &[], (replications, 2)).sweep.unwrap();
        sweep.cells[0].metrics.denied_share.unwrap()
    };
    let (two, four) = (worst(2), worst(4));
    assert!(two.low < two.high && four.replications == 4, "{two:?}");
    assert!(four.worst >= two.worst);
}

#[test]
fn cells_draw_apart_even_if_they_differ_in_nothing_that_matters() {
    let cells = cells("[matrix]\n\"traffic.max_in_flight\" = [100, 200]\n", &[]);
    assert_ne!(cells[0].metrics, cells[1].metrics);
}

#[test]
fn a_gate_is_held_against_the_worst_replication() {
    let lines =
        format!("{TTLS}[gates]\ntime_to_recover = \"<= 1s\"\n[recommend]\ndenied_share = \"<= 1%\"\n");
    for cell in swept(&lines, &["fleet.cache=staggered"], (4, 2)).sweep.unwrap().cells {
        let (recovery, denied) =
            (cell.metrics.time_to_recover_s.unwrap(), cell.metrics.denied_share.unwrap());
        assert!(recovery.low < recovery.high);
        assert_eq!(cell.gates[0].value, Some(recovery.worst));
        assert_eq!(cell.wishes[0].value, Some(denied.worst));
    }
}

/// A cache that rejects unknown keys learns of the new one when it expires: filled at 0 s and again at each multiple of its
/// ttl, at most a ttl after the rotation.
#[test]
fn a_cell_recovers_when_its_caches_expire() {
    let recovered: Vec<f64> =
        cells(TTLS, &[]).iter().map(|cell| cell.metrics.time_to_recover_s.unwrap().worst).collect();
    for (recovered, expected) in recovered.iter().zip([4.0, 10.0, 5.0]) {
        // Each fill comes with the first request after an expiry.
        assert!((*recovered - expected).abs() < 1.5, "{recovered} s, and not {expected} s");
    }
}

/// Rotations that repeat over the age of the cache meet every age, also in a sweep.
#[test]
fn spread_rotations_meet_all_ages() {
    let rotation = "at = '30s', every = '60s', times = 6, lead = '0s', retention = '0s'";
    let lines = format!("[matrix]\nrotation = [[{{ {rotation} }}], [{{ {rotation}, phase = 'spread' }}]]\n");
    let settings = ["duration=420s", "fleet.policy.ttl=30s"];
    let worst: Vec<f64> =
        cells(&lines, &settings).iter().map(|cell| cell.metrics.time_to_recover_s.unwrap().worst).collect();
    assert!(worst[1] > worst[0] && worst[1] > 20.0, "{worst:?}");
}

#[test]
fn the_verdict_is_that_of_the_worst_cell_and_the_recommendation_keeps_the_wishes() {
    let lines = format!("{TTLS}[gates]\ntime_to_recover = \"<= 8s\"\n");
    let record = swept(&lines, &[], (2, 2));
    assert_eq!(record.verdict, Verdict::Fail, "{:?}", record.reasons);
    assert_eq!(record.reasons[0], "In 1 of 3 cells a gate failed.");
    let lines = format!("{TTLS}[recommend]\ntime_to_recover = \"<= 8s\"\n");
    let record = swept(&lines, &[], (2, 2));
    assert_eq!(record.verdict, Verdict::Pass, "a wish fails nothing: {:?}", record.reasons);
    assert_eq!(record.sweep.unwrap().recommended.unwrap().cell, 2);
}

/// With `reject` only an expiry brings a new key. The caches are filled anew a second before the rotation, plus the wait for
/// a request, so the key must be published about a ttl less that second before it.
#[test]
fn the_smallest_lead_without_denials_is_the_ttl() {
    for ttl in [30.0, 60.0] {
        let find = "[[find]]\nsmallest = \"rotation[0].lead\"\nwithin = \"0s..110s\"\nmetric = \"denied\"\n\
                    limit = \"== 0\"\ntolerance = \"500ms\"\n";
        let ttl_setting = format!("fleet.policy.ttl={ttl}s");
        let settings = ["duration=180s", "rotation=[{ at='119s', lead='0s', retention='0s' }]", &ttl_setting];
        let finding = finding(find, &settings);
        let Outcome::Between { holds, fails, failures } = &finding.outcome else { panic!("{finding:?}") };
        let seconds = |text: &str| text.parse::<keyquake_core::Span>().unwrap().as_secs_f64();
        let (holds, fails) = (seconds(holds), seconds(fails));
        assert!(fails < holds && holds - fails <= 0.5 && *failures > 0, "{finding:?}");
        assert!((ttl - 2.0..ttl).contains(&holds), "{finding:?}");
        assert!(finding.tried < 15 && finding.replications == 2, "{finding:?}");
    }
}

/// Caches that expire once after the rotation at 20 s recover when they do.
#[test]
fn the_largest_ttl_that_recovers_in_time_is_as_long_as_that_allows() {
    let find = "[[find]]\nlargest = \"fleet.policy.ttl\"\nwithin = \"21s..50s\"\nmetric = \"time_to_recover\"\n\
                limit = \"<= 10s\"\ntolerance = \"200ms\"\n";
    let finding = finding(find, &[]);
    let Outcome::Between { holds, .. } = &finding.outcome else { panic!("{finding:?}") };
    let holds = holds.parse::<keyquake_core::Span>().unwrap().as_secs_f64();
    assert!((29.0..=30.2).contains(&holds), "{finding:?}");
}

#[test]
fn a_search_says_when_there_is_nothing_to_find() {
    let lead = |limit: &str| {
        format!(
            "[[find]]\nsmallest = \"rotation[0].lead\"\nwithin = \"0s..15s\"\nmetric = \"denied\"\nlimit = \"{limit}\"\n"
        )
    };
    let refetch = ["fleet.policy.on_unknown_kid=refetch", "fleet.policy.limiter=none"];
    let everywhere = finding(&lead("== 0"), &refetch).outcome;
    assert_eq!(everywhere, Outcome::Throughout { holds: "0s".to_owned() });
    let nowhere = finding(&lead("< 0"), &[]).outcome;
    assert_eq!(nowhere, Outcome::Nowhere { fails: "15s".to_owned(), failures: 2 });
    // With the second ttl this crosses.
    let find = "[[find]]\nlargest = \"fleet.policy.refresh_ahead\"\nwithin = \"1s..30s\"\nmetric = \"denied\"\n\
                limit = \">= 0\"\n[matrix]\n\"fleet.policy.ttl\" = [\"60s\", \"10s\"]\n";
    let crossed = swept(find, &[], (1, 1)).sweep.unwrap().findings.remove(1).outcome;
    assert!(
        matches!(&crossed, Outcome::Unplayable { value, why } if value == "30s" && why.contains("ttl = 10s")),
        "{crossed:?}"
    );
}

/// A second rotation that nothing can make harmless is no matter when only the first one counts.
#[test]
fn a_search_can_be_of_one_episode() {
    let find = |episode: &str| {
        format!(
            "[[find]]\nsmallest = \"rotation[0].lead\"\nwithin = \"0s..15s\"\nmetric = \"denied\"\nlimit = \"== 0\"\n\
             tolerance = \"1s\"\n{episode}[[rotation]]\nat = \"40s\"\nstyle = \"revoke\"\n"
        )
    };
    let outcome = |episode: &str| finding(&find(episode), &["fleet.policy.ttl=11s"]).outcome;
    assert!(matches!(outcome(""), Outcome::Nowhere { .. }));
    assert!(matches!(outcome("episode = 1\n"), Outcome::Between { .. }));
    assert!(matches!(outcome("episode = 7\n"), Outcome::Nowhere { .. }), "there is none");
}

#[test]
fn rows_are_what_differs_in_more_than_the_field_that_is_searched() {
    let find = "[[find]]\nlargest = \"fleet.policy.ttl\"\nwithin = \"10s..20s\"\nmetric = \"denied\"\nlimit = \">= 0\"\n\
                [matrix]\n\"fleet.policy.ttl\" = [\"10s\", \"15s\"]\n\"fleet.replicas\" = [1, 2, 3]\n";
    let findings = swept(find, &[], (1, 2)).sweep.unwrap().findings;
    let replicas: Vec<&str> = findings.iter().map(|it| &*it.parameters["fleet.replicas"]).collect();
    assert_eq!(replicas, ["1", "2", "3"]);
    assert_eq!(findings.iter().filter(|it| it.recommended).count(), 1);
}

#[test]
fn every_sweep_of_the_repository_ends_as_it_promises() {
    let mut sweeps = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if !text.contains("\n[matrix]") {
            continue;
        }
        // CI makes the searches: they take long without optimisation.
        let source = Source::new("", &text, &["find=[]".to_owned()]).unwrap();
        let sweep = Sweep::check(Matrix::of(&source).unwrap(), 1, 2).unwrap();
        let record = sweep.play("", |_| {}).unwrap();
        assert_eq!(record.verdict, Verdict::Pass, "{}: {:?}", path.display(), record.reasons);
        sweeps += 1;
    }
    assert!(sweeps > 0);
}
