//! What the benchmark of the simulator starts.

use std::cell::RefCell;

use keyquake_reports::record::Engine;

use super::{Detail, Experience, each, skip};
use crate::plan::Plan;
use crate::scenario::Source;

/// How a simulation goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// At a cost that no rate adds to.
    Skipping,
    /// The same for metrics alone, without curves: what sweeps do. What the first such simulation finds out is known to the
    /// next, as to the replications of a cell.
    Measuring,
    /// One event for each request.
    Request,
}

/// A scenario that is ready to be simulated.
pub struct Prepared {
    plan: Plan,
    experience: RefCell<Experience>,
}

/// What a simulation came to, warm-up excluded.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// Requests of clients.
    pub requests: u64,
    /// Of these, valid ones that were denied.
    pub denied: u64,
    /// Requests for the key set.
    pub jwks_requests: u64,
}

impl Prepared {
    /// Checks a scenario, given as the text of its file.
    ///
    /// # Errors
    ///
    /// The scenario is unsound.
    pub fn new(scenario: &str) -> anyhow::Result<Self> {
        let source = Source::new("scenario", scenario, &[]).map_err(anyhow::Error::msg)?;
        let plan = Plan::check(&source, Engine::Simulated).map_err(anyhow::Error::msg)?;
        Ok(Self { plan, experience: RefCell::default() })
    }

    /// Simulates it, its record included.
    ///
    /// # Errors
    ///
    /// The system has no randomness for keys.
    pub fn simulate(&self, by: By) -> anyhow::Result<Sums> {
        let run = match by {
            By::Skipping => skip::run(&self.plan, "", Detail::Curves, &mut Experience::default())?,
            By::Measuring => skip::run(&self.plan, "", Detail::Metrics, &mut self.experience.borrow_mut())?,
            By::Request => each::run(&self.plan, "")?,
        };
        let metrics = run.record().cells.remove(0).metrics;
        let (requests, denied) = (metrics.all.requests, metrics.all.denied);
        Ok(Sums { requests, denied, jwks_requests: metrics.jwks.jwks_requests })
    }
}
