//! Episodes and metrics over made-up requests, whose numbers can be worked out by hand.

use keyquake_core::{Span, Time, UnixTime};
use keyquake_idp::{KeyId, Pace};
use keyquake_reports::judge;
use keyquake_reports::record::{Record, RecoveryState, Verdict};

use super::*;
use crate::arrivals::Arrival;
use crate::observe::{Observation, Outcome};
use crate::oracle::TokenFacts;
use crate::plan::testing::plan;

const ROTATION: &str = "[[rotation]]\nat = \"20s\"\nstyle = \"no-overlap\"\n[fleet]\nreplicas = 2\n";

fn at(millis: i64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// A request every 50 ms, on both replicas in turn; `end` says which key it carries and how it ends.
fn record_of(plan: &Plan, end: impl Fn(i64, u32) -> (&'static str, u16)) -> Record {
    let pace = Pace::new(plan.speed, UnixTime(1_000_000)).unwrap();
    let mut fold = Fold::new(plan, pace);
    for i in 0..1_200 {
        let (millis, replica) = (i * 50, u32::try_from(i % 2).unwrap());
        let (key, status) = end(millis, replica);
        let key: KeyId = key.parse().unwrap();
        fold.take(&Observation {
            arrival: Arrival { at: at(millis), stream: 0, session: Some(0), replica, connection: 0 },
            instance: replica,
            token: TokenFacts { key, expires: UnixTime(2_000_000), forged: None },
            sent: Some(at(millis) + Span::from_millis(1)),
            ended: at(millis) + Span::from_millis(3),
            outcome: Outcome::of_status(status),
        });
    }
    let mut record = Run::new(plan, Engine::Live, fold).record();
    judge(&mut record);
    record.to_json().expect("a record that can be written");
    record
}

#[test]
fn exposure_lasts_until_the_last_token_that_passed() {
    let plan = plan(&ROTATION.replace("no-overlap", "revoke"));
    let exposure = |refused_from: i64| {
        let record = record_of(&plan, |millis, _| match millis {
            // Those who held it have got other tokens by then.
            40_000.. => ("key-2", 200),
            _ if millis < refused_from.max(20_000) => ("key-1", 200),
            _ => ("key-1", 401),
        });
        let exposure = &record.cells[0].episodes[0].metrics.revocation_exposure[0];
        (exposure.lasted.seconds, exposure.lasted.at_least)
    };
    assert_eq!(exposure(30_000), (9.95, false));
    assert_eq!(exposure(90_000), (19.95, true), "nobody tried any more");
    assert_eq!(exposure(0), (0.0, false));
}

#[test]
fn a_rotation_is_measured_on_the_new_keys_tokens() {
    let plan = plan(ROTATION);
    // Replica 0 knows the new key from 25 s on, replica 1 from 30 s on.
    let known_from = [25_000, 30_000];
    let record = record_of(&plan, |millis, replica| match millis {
        ..20_000 => ("key-1", 200),
        _ if millis < known_from[replica as usize] => ("key-2", 401),
        _ => ("key-2", 200),
    });
    let episode = &record.cells[0].episodes[0];
    assert_eq!((episode.from_s, episode.to_s), (20.0, 60.0));
    let cohort = &episode.metrics.cohort;
    assert_eq!(cohort.traffic.must_pass, 800);
    assert_eq!(cohort.traffic.denied, 100 + 50, "both for 5 s, then one of them for 5 s more");
    assert_eq!(cohort.time_to_recover.seconds, Some(9.95));
    assert_eq!(cohort.recovery_lag.seconds, Some(9.95), "the key was there from the start");
    let by_instance = episode.metrics.by_instance.unwrap();
    assert_eq!((by_instance.p50_s, by_instance.max_s), (Some(4.9), Some(9.95)));
    assert_eq!(record.cells[0].windows.cohort_false_rejects[21], 20);
    assert_eq!(record.cells[0].windows.cohort_false_rejects[27], 10);
    assert_eq!(record.verdict, Verdict::Pass, "nothing was asked of it");
}

#[test]
fn orphaned_tokens_are_nobodys_denials() {
    let plan = plan(ROTATION);
    let record = record_of(&plan, |millis, replica| match (millis, replica) {
        (20_000..30_000, 0) => ("key-1", 401),
        (..30_000, _) => ("key-1", 200),
        _ => ("key-2", 200),
    });
    let metrics = &record.cells[0].episodes[0].metrics;
    assert_eq!(metrics.all.traffic.denied, 0);
    assert_eq!((metrics.orphaned.orphaned_rejects, metrics.orphaned.orphaned_accepts), (100, 100));
    assert_eq!(metrics.all.traffic.rejected_share, Some(0.125), "the dashboard sees them all the same");
}

#[test]
fn a_disturbance_before_recovery_belongs_to_the_episode_and_one_after_it_does_not() {
    let fault = "[[fault]]\nfrom = \"22s\"\nfor = \"3s\"\njwks = { status = 503 }\n";
    let plan = plan(&format!("{fault}{ROTATION}"));
    let denied_until = |until: i64| {
        let record = record_of(&plan, |millis, _| match millis {
            ..20_000 => ("key-1", 200),
            _ => ("key-2", if millis < until { 401 } else { 200 }),
        });
        let titles: Vec<_> = record.cells[0].episodes.iter().map(|episode| episode.title.clone()).collect();
        titles
    };
    assert_eq!(denied_until(23_000), ["no-overlap rotation to key-2, JWKS answers 503"]);
    assert_eq!(denied_until(20_200), ["no-overlap rotation to key-2", "JWKS answers 503"]);
}

#[test]
fn a_fault_is_measured_on_all_valid_tokens() {
    let plan =
        plan("[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = { status = 503 }\n[fleet]\nreplicas = 2");
    let record = record_of(&plan, |millis, _| match millis {
        15_000..32_000 => ("key-1", 503),
        _ => ("key-1", 200),
    });
    let cohort = &record.cells[0].episodes[0].metrics.cohort;
    assert_eq!((cohort.traffic.failures, cohort.traffic.false_rejects), (340, 0));
    assert_eq!(cohort.time_to_recover.seconds, Some(21.95));
    assert_eq!(cohort.recovery_lag.seconds, Some(1.95), "after the end of the fault at 30 s");
    assert_eq!(cohort.traffic.peak_denied_share, Some(1.0));
}

#[test]
fn a_flood_is_an_episode_of_all_valid_tokens_and_its_bounds_and_bursts_are_events() {
    let plan = plan(
        "[fleet]\nreplicas = 2\n[traffic]\nrate = \"10/s\"\n[[traffic.stream]]\nname = \"flood\"\nrate = \"5/s\"\n\
         token = \"unknown_kid\"\nfrom = \"10s\"\nuntil = \"30s\"\n[[traffic.stream]]\nname = \"storm\"\n\
         token = \"login\"\nburst = { at = \"20s\", count = 9 }\n",
    );
    let record =
        record_of(&plan, |millis, _| ("key-1", if (12_000..33_000).contains(&millis) { 500 } else { 200 }));
    let episode = &record.cells[0].episodes[0];
    assert_eq!(
        (episode.title.as_str(), episode.cohort.as_str()),
        ("flood of unknown kids", "all valid tokens")
    );
    let cohort = &episode.metrics.cohort;
    assert_eq!(cohort.traffic.must_pass, 1_000, "everyone's from 10 s on");
    assert_eq!(cohort.time_to_recover.seconds, Some(22.95));
    assert_eq!(cohort.recovery_lag.seconds, Some(2.95), "after the end of the flood at 30 s");
    let events = record.cells[0].events.iter();
    let events: Vec<_> = events.map(|event| (event.kind, event.planned_s, event.detail.as_deref())).collect();
    let flood = Some("flood (unknown_kid, 5/s)");
    assert_eq!(
        events,
        [
            (EventKind::StreamOn, 10.0, flood),
            (EventKind::Burst, 20.0, Some("storm (9 × login)")),
            (EventKind::StreamOff, 30.0, flood),
        ]
    );
    assert_eq!(episode.events, record.cells[0].events);
}

#[test]
fn workers_that_disagree_are_flapping() {
    let rotation = "[[rotation]]\nat = \"20s\"\nstyle = \"no-overlap\"\n[fleet]\nreplicas = 1\nworkers = 2\n\
                    [gates]\nflapping = \"<= 4s\"\n";
    let plan = plan(rotation);
    // Worker 0 knows the new key from 25 s on, worker 1 from 30 s on.
    let record = record_of(&plan, |millis, worker| match millis {
        ..20_000 => ("key-1", 200),
        _ if millis < [25_000, 30_000][worker as usize] => ("key-2", 401),
        _ => ("key-2", 200),
    });
    let flapping = record.cells[0].episodes[0].metrics.flapping_s.clone().unwrap();
    assert_eq!(flapping.into_iter().collect::<Vec<_>>(), [(0, 5.05)], "until worker 1 has accepted one");
    assert_eq!(record.verdict, Verdict::Fail, "{:?}", record.reasons);
}

#[test]
fn no_recovery_fails_a_limit_and_says_how_long_it_was_waited_for() {
    let plan = plan(&format!("{ROTATION}[gates]\ntime_to_recover = \"<= 50s\"\n"));
    let record = record_of(&plan, |millis, _| if millis < 20_000 { ("key-1", 200) } else { ("key-2", 401) });
    let recovery = record.cells[0].episodes[0].metrics.cohort.time_to_recover;
    assert_eq!((recovery.state, recovery.seconds), (RecoveryState::NotRecovered, Some(40.0)));
    assert_eq!(record.verdict, Verdict::Fail);
}

#[test]
fn a_generator_that_is_late_makes_the_run_void() {
    let plan = plan(&format!("[limits]\nlateness = \"500us\"\n{ROTATION}"));
    let record = record_of(&plan, |millis, _| (if millis < 20_000 { "key-1" } else { "key-2" }, 200));
    assert_eq!(record.verdict, Verdict::Void, "{:?}", record.reasons);
}

#[test]
fn the_worst_second_slides() {
    let worst = |millis: &[i64]| worst_second(millis.iter().map(|millis| at(*millis)));
    assert_eq!(worst(&[]), 0);
    assert_eq!(worst(&[0, 900, 1_100, 1_200, 5_000]), 3, "900 to 1,200");
    assert_eq!(worst(&[0, 1_000, 2_000]), 1, "a second later is another second");
}
