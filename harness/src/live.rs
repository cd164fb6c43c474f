//! A run over real HTTP: the IdP, the fleet and the generator in one process, each on ports of its own.

mod answer;
mod connections;
mod credentials;
pub(crate) mod descriptors;
mod generator;
pub mod load;
mod minter;
mod pacer;
mod progress;
#[cfg(test)]
mod tests;
mod token_client;
mod workers;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use keyquake_core::{Span, Time};
use keyquake_idp::{Clock, Guard, Idp, KeyRing, Provider, Settings, Tls};
use keyquake_reports::record::Engine;
use rand::Rng;
use reqwest::Certificate;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::LocalSet;

use self::connections::{Broken, Connections};
use self::generator::Generator;
use self::load::WhenFull;
use self::minter::{Batch, Minter};
use self::progress::Gauge;
use self::token_client::TokenClient;
use crate::arrivals::Arrivals;
use crate::interrupt::Interrupt;
use crate::measure::Run;
use crate::observe::{Fold, Trace};
use crate::plan::Plan;
use crate::scenario::Endpoint;
use crate::seed;
use crate::sut::{self, FetchLog, Replica};
use crate::terminal::say;

/// For whom the tokens of a run are.
const AUDIENCE: &str = "keyquake";
/// Between the start of the clock and the first arrival, by wall time: connections are opened in it.
const SETTLING: Duration = Duration::from_millis(300);
/// Runs a plan and returns what was seen, also when an interruption ended it early. Requests are listed in `folder`.
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
        let mut stage = Stage::set(plan).await?;
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
    gauge: Arc<Gauge>,
    minter: Minter,
    generator: Generator,
    restarted: Arc<Mutex<Vec<Time>>>,
    fetches: FetchLog,
    issuer: String,
}

impl<'p> Stage<'p> {
    async fn set(plan: &'p Plan) -> anyhow::Result<Self> {
        let idp_listener = bind().await?;
        let scheme = if plan.tls { "https" } else { "http" };
        let issuer = format!("{scheme}://{}", idp_listener.local_addr()?);
        // This also wakes the crypto library's random generator, whose first use in a process takes tens of milliseconds:
        // the clock does not run yet.
        let keys = KeyRing::generate(&plan.timeline, plan.algorithm).context("cannot generate keys")?;
        let settling = Span::from_nanos(SETTLING.as_nanos() as u64).scale(plan.speed);
        let lead_in = plan.warmup.saturating_add(settling);
        let mut idp =
            Idp::new(settings(plan, &issuer), plan.timeline.clone(), keys.clone(), Time::ZERO - lead_in)?;
        // Tokens are made before the clock starts, so that no signature competes with the first requests.
        let today = Clock::start_today(Span::ZERO, 1.0)?;
        let zero = today.unix(today.now()) + lead_in;
        let sessions = credentials::log_in(plan, &mut idp, zero - plan.warmup)?;
        let tls = plan.tls.then(|| Tls::generate(today.unix(today.now()), &[])).transpose()?;
        let ca = tls.as_ref().map(|tls| Certificate::from_pem(tls.ca_pem().as_bytes())).transpose()?;

        let clock = Clock::start(lead_in, plan.speed, zero)?;
        let guard = Guard::new(Ipv4Addr::LOCALHOST.into(), None)?;
        let provider = Arc::new(Provider::new(idp, clock, guard));
        tokio::spawn(keyquake_idp::serve(idp_listener, tls, Arc::clone(&provider), std::future::pending()));
        let fetches = FetchLog::default();
        let site = Site { plan, issuer: &issuer, ca: ca.as_ref(), keys: &keys, clock, fetches: &fetches };
        let (mut fleet, mut replicas) = (Vec::new(), Vec::new());
        for number in 0..plan.replicas {
            let (replica, address) = site.start_replica(number).await?;
            fleet.push(replica);
            replicas.push(Connections::new(address, plan.traffic.connections));
        }
        let restarted = Arc::default();
        tokio::spawn(keep_restarting(plan.runbook.restarts.clone(), fleet, clock, Arc::clone(&restarted)));
        let timeout = Duration::from(plan.traffic.timeout.scale(1.0 / plan.speed));
        let gauge = Arc::new(Gauge::default());
        let generator = Generator {
            clock,
            timeline: plan.timeline.clone(),
            paths: plan.streams.iter().map(|stream| path(stream.endpoint)).collect(),
            timeout,
            max_in_flight: plan.traffic.max_in_flight as usize,
            when_full: WhenFull::Shed,
            workers: plan.workers,
            replicas,
            sessions: RefCell::new(sessions),
            token_client: TokenClient::new(&site, timeout)?,
            fold: RefCell::new(Fold::new(plan, clock.pace())),
            gauge: Arc::clone(&gauge),
            under_way: RefCell::default(),
            queue: RefCell::default(),
            queued: Notify::new(),
            idle_workers: Cell::default(),
            rescheduled: Notify::new(),
            ended: Notify::new(),
        };
        let minter = Minter::new(plan, &issuer, keys, clock);
        Ok(Self { plan, clock, provider, gauge, minter, generator, restarted, fetches, issuer })
    }

    async fn play(self, command: &str, interrupt: &mut Interrupt) -> anyhow::Result<Run<'p>> {
        let Self { plan, clock, provider, gauge, minter, generator, restarted, fetches, issuer } = self;
        say(&format!("the IdP is {issuer}, before {} replicas", plan.replicas));
        let stop = Arc::new(AtomicBool::new(false));
        let (done, mut generated) = oneshot::channel();
        let prepared = minter.start(Arrivals::new(plan))?;
        let its_stop = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || drop(done.send(generate(generator, prepared, its_stop))))?;
        let mut interrupted_at = None;
        let fold = tokio::select! {
            fold = &mut generated => fold,
            never = progress::show(plan, clock, &gauge, &provider) => match never {},
            () = interrupt.asked() => {
                interrupted_at = Some(clock.now());
                stop.store(true, Ordering::Relaxed);
                say("interrupted: waiting for what is under way");
                generated.await
            }
        };
        let mut fold = fold.context("the load generator broke down")??;
        let untraced = fold.trace.take().and_then(|trace| trace.finish().err());
        Ok(provider.with(|idp, _| Run {
            command: command.to_owned(),
            applied: idp.event_log().to_vec(),
            restarted: restarted.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            jwks: idp.jwks_log().entries().to_vec(),
            fetches: fetches.entries(),
            jwks_dropped: idp.jwks_log().dropped(),
            untraced,
            ended: interrupted_at.unwrap_or(plan.end()).min(plan.end()),
            cut_short: interrupted_at.map(|at| format!("Interrupted at {:.1} s.", at.as_secs_f64())),
            ..Run::new(plan, Engine::Live, fold)
        }))
    }
}

async fn bind() -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot open a port on 127.0.0.1")
}

fn settings(plan: &Plan, issuer: &str) -> Settings {
    Settings {
        issuer: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        algorithm: plan.algorithm,
        token_lifetime: plan.token_lifetime,
        cache_control: plan.cache_control.clone(),
        seed: plan.seed,
    }
}

fn path(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Api => "/api",
        Endpoint::Session => "/session",
    }
}

/// What those share who call on the IdP.
struct Site<'a> {
    plan: &'a Plan,
    issuer: &'a str,
    ca: Option<&'a Certificate>,
    keys: &'a KeyRing,
    clock: Clock,
    fetches: &'a FetchLog,
}

impl Site<'_> {
    /// Starts the workers of a replica behind one port.
    async fn start_replica(&self, number: u32) -> anyhow::Result<(Vec<Arc<Replica>>, SocketAddr)> {
        let listener = bind().await?;
        let address = listener.local_addr()?;
        let mut workers = Vec::new();
        for instance in number * self.plan.workers..(number + 1) * self.plan.workers {
            workers.push(self.start_worker(instance)?);
        }
        workers::serve(listener, workers.iter().map(|worker| worker.router()).collect());
        Ok((workers, address))
    }

    fn start_worker(&self, instance: u32) -> anyhow::Result<Arc<Replica>> {
        let Self { plan, issuer, ca, keys, clock, fetches } = *self;
        let worker = Replica::new(sut::Settings {
            replica: instance,
            issuer: issuer.to_owned(),
            audience: AUDIENCE.to_owned(),
            jwks_url: format!("{issuer}/instances/{instance}/.well-known/jwks.json").parse()?,
            ca: ca.cloned(),
            algorithm: plan.algorithm,
            policy: plan.policy.clone(),
            capacity: plan.capacity,
            jitter_seed: seed::generator(plan.seed, "cache jitter", u64::from(instance)).next_u64(),
            clock,
            fetch_log: fetches.clone(),
        })?;
        if let Some(at) = plan.caches[instance as usize] {
            worker.preload(&published_then(plan, keys, at), plan.freshness, at)?;
        }
        worker.start();
        Ok(worker)
    }
}

/// The body of the JWKS as it was at a moment.
fn published_then(plan: &Plan, keys: &KeyRing, at: Time) -> Vec<u8> {
    let published = plan.timeline.keys().filter(|(_, life)| life.state(at).published);
    let jwks: Vec<_> = published.filter_map(|(id, _)| Some(keys.get(id)?.key.public_jwk().clone())).collect();
    serde_json::json!({ "keys": jwks }).to_string().into_bytes()
}

/// Restarts replicas at their moments, and notes when each was.
async fn keep_restarting(
    restarts: Vec<(Time, u32)>,
    fleet: Vec<Vec<Arc<Replica>>>,
    clock: Clock,
    restarted: Arc<Mutex<Vec<Time>>>,
) {
    for (at, replica) in restarts {
        tokio::time::sleep_until(clock.instant(at).into()).await;
        if fleet[replica as usize].iter().all(|worker| worker.restart().is_ok()) {
            restarted.lock().unwrap_or_else(PoisonError::into_inner).push(clock.now());
        }
    }
    // The fleet serves on.
    std::future::pending().await
}

/// Generates the load, on a thread of its own.
fn generate(generator: Generator, prepared: Receiver<Batch>, stop: Arc<AtomicBool>) -> anyhow::Result<Fold> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let generator = Rc::new(generator);
    local.block_on(&runtime, async {
        generator.open_connections().await.map_err(|Broken| anyhow!("the fleet does not answer"))?;
        let (due, pacer) = pacer::start(prepared, generator.clock, Arc::clone(&stop))?;
        Rc::clone(&generator).run(due, || stop.load(Ordering::Relaxed)).await;
        pacer.join().map_err(|_| anyhow!("the pacer broke down"))
    })?;
    // Its tasks hold the generator.
    drop(local);
    let generator = Rc::into_inner(generator).context("the load generator is still at work")?;
    Ok(generator.fold.into_inner())
}
