//! The generator before a fleet that does not behave.

use std::net::TcpListener;

use super::*;
use crate::plan::testing::plan;

/// Plays a plan before this listener instead of its fleet.
fn play_before(listener: &TcpListener, plan: &Plan) -> keyquake_reports::Record {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut stage = runtime.block_on(Stage::set(plan)).unwrap();
    let fleet = Connections::new(listener.local_addr().unwrap(), plan.traffic.connections);
    stage.generator.replicas = vec![fleet];
    let prepared = stage.minter.start(Arrivals::new(plan)).unwrap();
    let fold = generate(stage.generator, prepared, Arc::default()).unwrap();
    let run = Run {
        plan,
        engine: Engine::Live,
        command: String::new(),
        fold,
        applied: Vec::new(),
        restarted: Vec::new(),
        jwks: Vec::new(),
        fetches: Vec::new(),
        jwks_dropped: 0,
        ended: plan.end(),
        cut_short: None,
    };
    run.record()
}

const TRAFFIC: &str =
    "[idp]\nalgorithm = \"ES256\"\n[traffic]\nrate = \"5/s\"\nconnections = 2\ntimeout = \"1s\"\n";

#[test]
fn requests_that_are_never_answered_time_out() {
    let plan = plan(&format!("speed = 100\n{TRAFFIC}"));
    // The system accepts connections for it; nobody reads what they say.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let record = play_before(&silent, &plan);
    let all = &record.cells[0].metrics.all;
    assert!(all.requests > 200, "{all:?}");
    assert_eq!(all.outcomes, [("timed_out".to_owned(), all.requests)].into());
    assert_eq!((all.failures, all.false_rejects), (all.must_pass, 0));
    assert_eq!(all.statuses, [].into());
}
