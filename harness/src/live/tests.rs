//! The generator before a fleet that does not behave.

use std::net::TcpListener;

use super::load::{WhenFull, play_plan};
use crate::plan::testing::plan;

const TRAFFIC: &str =
    "[idp]\nalgorithm = \"ES256\"\n[traffic]\nrate = \"5/s\"\nconnections = 2\ntimeout = \"1s\"\n";

#[test]
fn requests_that_are_never_answered_time_out() {
    let plan = plan(&format!("speed = 100\n{TRAFFIC}"));
    // The system accepts connections for it; nobody reads what they say.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let record = play_plan(&plan, silent.local_addr().unwrap(), WhenFull::Shed, || {}).unwrap();
    let all = &record.cells[0].metrics.all;
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
    let shed = |when_full| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let record = play_plan(&plan, silent.local_addr().unwrap(), when_full, || {}).unwrap();
        let all = &record.cells[0].metrics.all;
        assert!(all.outcomes["timed_out"] > 100, "{all:?}");
        all.outcomes.get("shed").copied().unwrap_or_default()
    };
    assert!(shed(WhenFull::Shed) >= 36);
    assert_eq!(shed(WhenFull::Wait), 0);
}
