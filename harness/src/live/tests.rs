//! The generator before a fleet that does not behave.

use std::collections::BTreeSet;

use axum::Router;
use axum::http::StatusCode;
use keyquake_reports::record::Traffic;

use super::issuer::bind;
use super::load::{WhenFull, play_plan};
use super::*;
use crate::plan::testing::plan;

const TRAFFIC: &str =
    "[idp]\nalgorithm = \"ES256\"\n[traffic]\nrate = \"5/s\"\nconnections = 2\ntimeout = \"1s\"\n";

/// What comes of a scenario's requests before a server that reads them and never answers.
fn unanswered(plan: &Plan, when_full: WhenFull) -> Traffic {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(bind(0)).unwrap();
    let server = listener.local_addr().unwrap();
    let silence = Router::new().fallback(std::future::pending::<StatusCode>);
    runtime.spawn(async move { axum::serve(listener, silence).await });
    let record = play_plan(plan, server, when_full, || {}).unwrap();
    record.cells[0].metrics.all.clone()
}

#[test]
fn requests_that_are_never_answered_time_out() {
    let all = unanswered(&plan(&format!("speed = 100\n{TRAFFIC}")), WhenFull::Wait);
    assert!(all.requests > 200, "{all:?}");
    assert_eq!(all.outcomes, [("timed_out".to_owned(), all.requests)].into());
    assert_eq!((all.failures, all.false_rejects), (all.must_pass, 0));
    assert_eq!(all.statuses, [].into());
}

#[test]
fn what_is_due_while_all_places_are_taken_is_shed_or_waits() {
    let burst = "max_in_flight = 4\n[[traffic.stream]]\nname = \"burst\"\ntoken = \"session\"\n\
                 burst = { at = \"30s\", count = 40 }\n";
    let plan = plan(&format!("speed = 100\n{TRAFFIC}{burst}"));
    // How many more are shed depends on the machine: each place is taken for 10 ms at least.
    let shed = unanswered(&plan, WhenFull::Shed).outcomes;
    assert!(shed["shed"] >= 36 && shed["timed_out"] >= 4, "{shed:?}");
    let late = unanswered(&plan, WhenFull::Wait);
    assert_eq!(late.outcomes, [("timed_out".to_owned(), late.requests)].into());
}

/// The grants that sessions ask the IdP for tokens with, before a fleet that answers everything with 401.
fn grants(on_reject: &str) -> BTreeSet<(&'static str, Option<u16>)> {
    let lines = format!(
        "speed = 20\n[idp]\nalgorithm = \"ES256\"\n[traffic]\nrate = \"5/s\"\nsessions = 3\n{on_reject}\n"
    );
    let plan = plan(&lines);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut stage = runtime.block_on(Stage::set(&plan, Path::new(""))).unwrap();
    let listener = runtime.block_on(bind(0)).unwrap();
    let fleet = Connections::new(Door::at(listener.local_addr().unwrap()), plan.traffic.connections);
    stage.generator.replicas = vec![fleet];
    let refusal = Router::new().fallback(async || StatusCode::UNAUTHORIZED);
    runtime.spawn(async move { axum::serve(listener, refusal).await });
    let prepared = stage.minter.start(Arrivals::new(&plan)).unwrap();
    generate(stage.generator, prepared, Arc::default()).unwrap();
    stage
        .provider
        .with(|idp, _| idp.token_counts().iter().map(|(grant, status, _)| (grant, status)).collect())
}

#[test]
fn rejected_sessions_renew_with_what_they_got_or_log_in_anew() {
    assert_eq!(grants(""), [("refresh_token", Some(200))].into());
    assert_eq!(grants("on_reject = \"relogin\""), [("client_credentials", Some(200))].into());
    assert_eq!(grants("on_reject = \"keep\""), [].into());
}

/// The simulator's fleet begins when the warm-up does. If this one did before, its timers would run ahead of the plan.
#[test]
fn the_fleet_begins_with_the_warm_up_and_not_before() {
    let plan = plan(&format!(
        "warmup = \"2s\"\n[fleet]\ncache = \"cold\"\npolicy = {{ init = \"async\" }}\n{TRAFFIC}"
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stage = runtime.block_on(Stage::set(&plan, Path::new(""))).unwrap();
    let start = Time::ZERO - plan.warmup;
    runtime.block_on(stage.fleet.begin(start, stage.clock));
    let asked = || stage.fleet.fetches().first().map(|fetch| fetch.asked);
    while asked().is_none() {
        std::thread::yield_now();
    }
    assert!(asked().is_some_and(|asked| asked >= start), "{:?}", asked());
}
