//! What the benchmark of the simulator starts.

use std::time::{Duration, Instant};

use keyquake_reports::record::Engine;

use super::{each, skip};
use crate::plan::Plan;
use crate::scenario::Source;

/// How a simulation goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// At a cost that no rate adds to.
    Skipping,
    /// One event for each request.
    Request,
}

/// What a simulation came to, and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// From the plan to the record.
    pub took: Duration,
    /// Requests of clients, warm-up excluded.
    pub requests: u64,
    /// Of these, valid ones that were denied.
    pub denied: u64,
    /// Requests for the key set, warm-up excluded.
    pub jwks_requests: u64,
}

/// Simulates a scenario, given as the text of its file.
///
/// # Errors
///
/// The scenario is unsound, or the system has no randomness for keys.
pub fn timed(scenario: &str, by: By) -> anyhow::Result<Timed> {
    let source = Source::new("scenario", scenario, &[]).map_err(anyhow::Error::msg)?;
    let plan = Plan::check(&source, Engine::Simulated).map_err(anyhow::Error::msg)?;
    let began = Instant::now();
    let run = match by {
        By::Skipping => skip::run(&plan, "")?,
        By::Request => each::run(&plan, "")?,
    };
    let record = run.record();
    let took = began.elapsed();
    let metrics = &record.cells[0].metrics;
    let (requests, denied) = (metrics.all.requests, metrics.all.denied);
    Ok(Timed { took, requests, denied, jwks_requests: metrics.jwks.jwks_requests })
}
