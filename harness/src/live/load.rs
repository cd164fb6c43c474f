//! The load generator alone, before a server of somebody else's: so is its own cost seen, and what it does when a
//! fleet misbehaves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use keyquake_reports::Record;
use keyquake_reports::record::Engine;

use super::{Connections, Door, Stage, generate};
use crate::arrivals::Arrivals;
use crate::measure::Run;
use crate::plan::Plan;
use crate::scenario::Source;

/// What becomes of a request that is due while as many as allowed are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is given up, and the record says so: what a run does.
    Shed,
    /// It is late. A burst then keeps all connections busy until its end.
    Wait,
}

/// Sends a scenario's requests to `server`, in the place of all its replicas. `ready` is called once, when keys and
/// tokens are made and the first request can be sent.
///
/// # Errors
///
/// The scenario is not sound, there is no port for its IdP, or the server does not answer.
pub fn play(
    scenario: &str,
    server: SocketAddr,
    when_full: WhenFull,
    ready: impl FnOnce(),
) -> anyhow::Result<Record> {
    let plan = Source::new("scenario", scenario, &[]).and_then(|source| Plan::check(&source, Engine::Live));
    play_plan(&plan.map_err(|complaint| anyhow!(complaint))?, server, when_full, ready)
}

pub(super) fn play_plan(
    plan: &Plan,
    server: SocketAddr,
    when_full: WhenFull,
    ready: impl FnOnce(),
) -> anyhow::Result<Record> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let Stage { minter, mut generator, .. } = runtime.block_on(Stage::set(plan, Path::new("")))?;
    generator.replicas =
        (0..plan.replicas).map(|_| Connections::new(Door::at(server), plan.traffic.connections)).collect();
    generator.when_full = when_full;
    let prepared = minter.start(Arrivals::new(plan))?;
    ready();
    let fold = generate(generator, prepared, Arc::default())?;
    Ok(Run::new(plan, Engine::Live, fold).record())
}
