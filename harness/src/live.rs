//! A run over real HTTP: the IdP, the fleet and the generator, each on ports of its own.

mod answer;
mod connections;
mod credentials;
pub(crate) mod descriptors;
mod door;
mod fleet;
mod generator;
mod issuer;
pub mod load;
mod minter;
mod pacer;
mod progress;
mod reference;
#[cfg(test)]
mod tests;
mod token_client;
mod workers;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use keyquake_core::{Span, Time};
use keyquake_idp::{Clock, JwksLogEntry, Provider};
use keyquake_reports::record::Engine;
use tokio::sync::{Notify, oneshot};
use tokio::task::LocalSet;

use self::connections::{Broken, Connections};
use self::fleet::Fleet;
use self::generator::{Generator, Line};
use self::issuer::Issuer;
use self::load::WhenFull;
use self::minter::{Batch, Minter};
use self::progress::Gauge;
use self::reference::Reference;
use self::token_client::TokenClient;
use crate::arrivals::Arrivals;
use crate::cli::Unusable;
use crate::interrupt::Interrupt;
use crate::measure::{Cut, Run};
use crate::observe::{Fold, Trace};
use crate::plan::{self, Plan, Stream};
use crate::scenario::Endpoint;
use crate::target::{self, Families, Target};
use crate::terminal::{counted, say};

pub(crate) use self::door::Door;

/// For whom the tokens of a run are.
const AUDIENCE: &str = "keyquake";
/// Between the start of the clock and the first arrival, by wall time: connections are opened in it.
const SETTLING: Duration = Duration::from_millis(300);

/// Runs a plan and returns what was seen, also when it ended early. Requests are listed in `folder`, and what a target
/// prints is kept there.
///
/// # Errors
///
/// What kept it from starting.
pub(crate) fn run<'p>(
    plan: &'p Plan,
    command: &str,
    folder: &Path,
    interrupt: &mut Interrupt,
) -> anyhow::Result<Run<'p>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = runtime.block_on(async {
        let mut stage = Stage::set(plan, folder).await?;
        let trace = Trace::start(plan, stage.clock.pace(), folder).context("cannot list the requests")?;
        stage.generator.fold.get_mut().trace = Some(trace);
        interrupt.defer();
        stage.play(command, interrupt).await
    });
    // What still serves has nobody left to serve.
    runtime.shutdown_timeout(Duration::from_millis(100));
    run
}

/// Everything in place, and the clock running.
struct Stage<'p> {
    plan: &'p Plan,
    clock: Clock,
    provider: Arc<Provider>,
    fleet: Arc<Fleet>,
    gauge: Arc<Gauge>,
    minter: Minter,
    generator: Generator,
    issuer: String,
}

impl<'p> Stage<'p> {
    async fn set(plan: &'p Plan, folder: &Path) -> anyhow::Result<Self> {
        let settling = Span::from_nanos(SETTLING.as_nanos() as u64).scale(plan.speed);
        let lead_in = plan.warmup.saturating_add(settling);
        let issuer = Issuer::open(plan, lead_in).await?;
        let provider = Arc::clone(&issuer.provider);
        let target = match &plan.target {
            Some(target) => Some(start_target(plan, target, &issuer, folder).await?),
            None => None,
        };
        // Tokens are made before the clock starts, so that no signature competes with the first requests.
        let zero = issuer::today()? + lead_in;
        let sessions = provider.with(|idp, _| credentials::log_in(plan, idp, zero - plan.warmup))?;

        let clock = match target {
            // It reads the clock on the wall.
            Some(_) => Clock::start_today(lead_in, plan.speed)?,
            None => Clock::start(lead_in, plan.speed, zero)?,
        };
        provider.restart(clock);
        let site = Site { plan, issuer: &issuer, clock };
        let fleet = match target {
            Some(target) => Fleet::Target(target.follow(clock)),
            None => Fleet::Reference(Reference::start(site).await?),
        };
        let timeout = Duration::from(plan.traffic.timeout.scale(1.0 / plan.speed));
        let gauge = Arc::new(Gauge::default());
        let connections = |door: &Arc<_>| Connections::new(Arc::clone(door), plan.traffic.connections);
        let generator = Generator {
            clock,
            timeline: plan.timeline.clone(),
            lines: lines(plan),
            statuses: plan.statuses.clone(),
            timeout,
            max_in_flight: plan.traffic.max_in_flight as usize,
            when_full: WhenFull::Shed,
            workers: plan.workers,
            replicas: fleet.doors().iter().map(connections).collect(),
            opens_ahead: plan.target.is_none(),
            sessions: RefCell::new(sessions),
            token_client: TokenClient::new(site, timeout)?,
            fold: RefCell::new(Fold::new(plan, clock.pace())),
            gauge: Arc::clone(&gauge),
            under_way: RefCell::default(),
            queue: RefCell::default(),
            queued: Notify::new(),
            idle_workers: Cell::default(),
            rescheduled: Notify::new(),
            ended: Notify::new(),
        };
        let minter = Minter::new(plan, &issuer.url, issuer.keys, clock);
        let fleet = Arc::new(fleet);
        Ok(Self { plan, clock, provider, fleet, gauge, minter, generator, issuer: issuer.url })
    }

    async fn play(self, command: &str, interrupt: &mut Interrupt) -> anyhow::Result<Run<'p>> {
        let Self { plan, clock, provider, fleet, gauge, minter, generator, issuer } = self;
        say(&format!("the IdP is {issuer}, before {}", counted(plan.replicas, "replica")));
        let restarted = Arc::default();
        let restarts = plan.runbook.restarts.clone();
        let (its_fleet, its_restarted) = (Arc::clone(&fleet), Arc::clone(&restarted));
        let start = Time::ZERO - plan.warmup;
        let restarting = tokio::spawn(async move {
            its_fleet.begin(start, clock).await;
            its_fleet.keep_restarting(restarts, clock, its_restarted).await;
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (done, mut generated) = oneshot::channel();
        let prepared = minter.start(Arrivals::new(plan))?;
        let its_stop = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || drop(done.send(generate(generator, prepared, its_stop))))?;
        let mut cut = None;
        let fold = tokio::select! {
            fold = &mut generated => fold,
            never = progress::show(plan, clock, &gauge, &provider) => match never {},
            () = interrupt.asked() => {
                cut = Some((clock.now(), Cut::Interrupted));
                stop.store(true, Ordering::Relaxed);
                say("interrupted: waiting for what is under way");
                generated.await
            }
            () = fleet.died() => {
                cut = Some((clock.now(), Cut::TargetDied));
                stop.store(true, Ordering::Relaxed);
                say("nobody is left to answer: waiting for what is under way");
                generated.await
            }
        };
        // What is about to be started has nothing to do any more.
        restarting.abort();
        let aftermath = fleet.end().await;
        let mut fold = fold.context("the load generator broke down")??;
        let untraced = fold.trace.take().and_then(|trace| trace.finish().err());
        Ok(provider.with(|idp, _| Run {
            command: command.to_owned(),
            applied: idp.event_log().to_vec(),
            restarted: restarted.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            jwks: attributed(plan, idp.jwks_log().entries()),
            fetches: fleet.fetches(),
            jwks_dropped: idp.jwks_log().dropped(),
            untraced,
            aftermath,
            ended: cut.map_or(plan.end(), |(at, _)| at).min(plan.end()),
            cut_short: cut,
            ..Run::new(plan, Engine::Live, fold)
        }))
    }
}

/// What those share who call on the IdP.
#[derive(Clone, Copy)]
struct Site<'a> {
    plan: &'a Plan,
    issuer: &'a Issuer,
    clock: Clock,
}

/// Starts the user's service, which may ask the IdP from its first moment on.
async fn start_target(
    plan: &Plan,
    target: &plan::Target,
    issuer: &Issuer,
    folder: &Path,
) -> anyhow::Result<Arc<Target>> {
    let families = Families::default();
    let known = families.clone();
    issuer.provider.attribute_by(move |ends| known.owner(ends));
    let ca = issuer.ca.as_ref().map(|(pem, _)| pem.clone());
    let known = target::Known { issuer: issuer.url.clone(), audience: AUDIENCE.to_owned(), ca };
    let site = target::Site { replicas: plan.replicas, families, folder: folder.to_owned() };
    say(&format!("waiting until {}", target.readiness()));
    Ok(Target::start(target.clone(), known, site).await.map_err(Unusable)?)
}

/// The requests for the key set, each with the cache that asked, if that is known.
fn attributed(plan: &Plan, log: &[JwksLogEntry]) -> Vec<JwksLogEntry> {
    let mut log = log.to_vec();
    log.sort_by_key(|entry| entry.at);
    if plan.target.is_some() {
        let alone = (plan.instances() == 1).then_some(0);
        for entry in &mut log {
            // Whoever runs alone asked, whatever path it took.
            entry.instance = alone.or(entry.instance.filter(|instance| *instance < plan.instances()));
        }
    }
    log
}

/// Where each stream goes.
fn lines(plan: &Plan) -> Vec<Line> {
    let path = |endpoint| match (&plan.target, endpoint) {
        (Some(target), _) => target.path.clone(),
        (None, Endpoint::Api) => "/api".to_owned(),
        (None, Endpoint::Session) => "/session".to_owned(),
    };
    let line = |stream: &Stream| Line { path: path(stream.endpoint), replicas: stream.replicas.clone() };
    plan.streams.iter().map(line).collect()
}

/// Generates the load, on a thread of its own.
fn generate(generator: Generator, prepared: Receiver<Batch>, stop: Arc<AtomicBool>) -> anyhow::Result<Fold> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let generator = Rc::new(generator);
    local.block_on(&runtime, async {
        if generator.opens_ahead {
            generator.open_connections().await.map_err(|Broken| anyhow!("the fleet does not answer"))?;
        }
        let (due, pacer) = pacer::start(prepared, generator.clock, Arc::clone(&stop))?;
        Rc::clone(&generator).run(due, || stop.load(Ordering::Relaxed)).await;
        pacer.join().map_err(|_| anyhow!("the pacer broke down"))
    })?;
    // Its tasks hold the generator.
    drop(local);
    let generator = Rc::into_inner(generator).context("the load generator is still at work")?;
    Ok(generator.fold.into_inner())
}
