//! From what was seen to the record: episodes, metrics, windows. Every number of a report is made here.

mod causes;
mod episodes;
mod flapping;
mod jwks;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use keyquake_core::{Span, Time};
use keyquake_idp::{AppliedEvent, Event, Forgery, JwksLogEntry, KeyId, TimedEvent};
use keyquake_reports::record::{
    self, Cell, Engine, EventKind, Fidelity, GateResult, Instance, JwksRequest, Lasting, LoginStorm, Record,
    RecoveryState, RunMetrics, Verdict, Windows,
};

use self::causes::Causes;
use self::episodes::Episode;
pub(crate) use self::jwks::{Bins, CountedFetches};
use crate::observe::{Fold, Segment, Tally, share};
use crate::plan::{Plan, fault_title};
use crate::scenario::TokenSource;
use crate::sut::TimedFetch;
use crate::target::Aftermath;

/// The streams that every run has: sessions, expired and forged tokens.
const ALWAYS: usize = 3;
/// How long the undisturbed fleet has to be watched to know what it asks for.
const CALM_FOR_LONG_ENOUGH: Span = Span::from_secs(10);

/// A run that has ended, early or not.
pub(crate) struct Run<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) engine: Engine,
    /// The command that repeats it.
    pub(crate) command: String,
    pub(crate) fold: Fold,
    pub(crate) applied: Vec<AppliedEvent>,
    /// When each restart of the plan happened, as far as it came.
    pub(crate) restarted: Vec<Time>,
    /// In the order of their arrival.
    pub(crate) jwks: Vec<JwksLogEntry>,
    /// The same requests as the caches saw them, if they say.
    pub(crate) fetches: Vec<TimedFetch>,
    /// Those of a simulation that were counted rather than listed.
    pub(crate) jwks_counted: CountedFetches,
    /// JWKS requests that did not fit into the log.
    pub(crate) jwks_dropped: u64,
    /// What is missing in the list of its requests.
    pub(crate) untraced: Option<String>,
    /// What happened to a target beside its answers.
    pub(crate) aftermath: Option<Aftermath>,
    /// When it ended: the planned end, unless it was cut short.
    pub(crate) ended: Time,
    /// When and why it ended before its planned end.
    pub(crate) cut_short: Option<(Time, Cut)>,
    /// Whether its record is for its metrics alone: then it has neither instances nor events, and of windows what metrics of
    /// sweeps are made of.
    pub(crate) metrics_alone: bool,
}

/// What ends a run before its planned end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Interrupted,
    TargetDied,
}

impl Cut {
    fn sentence(self, at: Time) -> String {
        let at = at.as_secs_f64();
        match self {
            Self::Interrupted => format!("Interrupted at {at:.1} s."),
            Self::TargetDied => format!("No replica of the target lived any more at {at:.1} s."),
        }
    }
}

impl<'p> Run<'p> {
    /// A run of which nothing but its requests is known yet.
    pub(crate) fn new(plan: &'p Plan, engine: Engine, fold: Fold) -> Self {
        Self {
            plan,
            engine,
            command: String::new(),
            fold,
            applied: Vec::new(),
            restarted: Vec::new(),
            jwks: Vec::new(),
            fetches: Vec::new(),
            jwks_counted: CountedFetches::default(),
            jwks_dropped: 0,
            untraced: None,
            aftermath: None,
            ended: plan.end(),
            cut_short: None,
            metrics_alone: false,
        }
    }
}

/// A record of a plan in which nothing is measured yet.
pub(crate) fn blank(plan: &Plan, engine: Engine, command: &str) -> Record {
    Record {
        schema: record::SCHEMA,
        keyquake: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: record::Scenario {
            name: plan.name.clone(),
            question: plan.question.clone(),
            hash: plan.hash.clone(),
        },
        seed: plan.seed,
        engine,
        speed: plan.speed,
        command: command.to_owned(),
        verdict: Verdict::Inconclusive,
        reasons: Vec::new(),
        warnings: Vec::new(),
        cells: Vec::new(),
        target: None,
        sweep: None,
    }
}

impl Run<'_> {
    /// Everything that reports are drawn from. Gates are not judged yet.
    pub(crate) fn record(&self) -> Record {
        let plan = self.plan;
        let mut warnings = plan.warnings.clone();
        if self.jwks_dropped > 0 {
            warnings.push(format!(
                "the JWKS log was full: {} later requests are in no count of JWKS requests",
                self.jwks_dropped
            ));
        }
        warnings.extend(self.untraced.clone());
        warnings.extend(self.target_warnings());
        Record {
            verdict: if self.cut_short.is_some() { Verdict::Aborted } else { Verdict::Inconclusive },
            reasons: self.cut_short.iter().map(|(at, cut)| cut.sentence(*at)).collect(),
            warnings,
            target: self.target(),
            cells: vec![self.cell()],
            ..blank(plan, self.engine, &self.command)
        }
    }

    fn cell(&self) -> Cell {
        let episodes = Episode::all(self);
        let events = if self.metrics_alone { Vec::new() } else { self.events() };
        // Where nothing was denied nobody asks what the log shows.
        let log = if self.fold.denials.is_empty() { &[] } else { &self.jwks[..] };
        let causes = Causes::new(&self.plan.timeline, log, &self.plan.caches);
        Cell {
            parameters: self.plan.parameters.clone(),
            metrics: self.run_metrics(&episodes),
            episodes: episodes.iter().map(|episode| episode.record(self, &events, &causes)).collect(),
            instances: if self.metrics_alone { Vec::new() } else { self.instances(&episodes) },
            windows: if self.metrics_alone { self.denial_windows() } else { self.windows(&episodes) },
            events,
            gates: self.plan.gates.iter().cloned().map(GateResult::from).collect(),
        }
    }

    fn run_metrics(&self, episodes: &[Episode<'_>]) -> RunMetrics {
        let segments = &self.fold.segments;
        let tally = Tally::merged(segments.iter().flat_map(|segment| segment.tallies.values()));
        RunMetrics {
            all: tally.traffic(self.fold.run_track.worst_second()),
            streams: self
                .named_streams()
                .map(|(stream, name)| {
                    let lanes = segments.iter().flat_map(|segment| &segment.tallies);
                    let tallies = lanes.filter(|(lane, _)| lane.stream == stream).map(|(_, tally)| tally);
                    (name, Tally::merged(tallies).traffic(None))
                })
                .collect(),
            jwks: self.jwks_volume(Time::ZERO, self.ended),
            orphaned: tally.counts.orphaned,
            false_accepts: tally.false_accepts_by_name(),
            login_storm: login_storm(segments, self.fold.sessions_each),
            blackout_worst: self.blackout_worst(episodes),
            fetches_per_unknown_kid: self.fetches_per_unknown_kid(),
            fidelity: self.fidelity(&tally),
        }
    }

    /// The longest recovery from a rotation.
    fn blackout_worst(&self, episodes: &[Episode<'_>]) -> Option<Lasting> {
        let rotations = episodes.iter().filter(|episode| episode.is_rotation());
        let lasting = rotations.filter_map(|episode| {
            let recovery = episode.recovery(self);
            let at_least = recovery.state == RecoveryState::NotRecovered;
            recovery.seconds.map(|seconds| Lasting { seconds, at_least })
        });
        lasting.max_by(|a, b| a.seconds.total_cmp(&b.seconds).then(a.at_least.cmp(&b.at_least)))
    }

    /// JWKS requests per second before anything disturbs the fleet; `None` unless it was watched for long enough.
    fn calm_jwks_rate(&self) -> Option<f64> {
        let calm = self.plan.disturbances.first().map_or(self.ended, |first| first.from.min(self.ended));
        let length = calm.since(Time::ZERO);
        let requests = self.jwks_count(Time::ZERO, calm) as f64;
        (length >= CALM_FOR_LONG_ENOUGH).then(|| requests / length.as_secs_f64())
    }

    /// JWKS requests that each stray caused, while strays came that come for part of the run only.
    fn fetches_per_unknown_kid(&self) -> Option<f64> {
        let (number, stream) = self.plan.streams.iter().enumerate().find(|(_, stream)| {
            stream.token == TokenSource::Forged(Forgery::UnknownKid) && stream.from > Time::ZERO
        })?;
        let lanes = self.fold.segments.iter().flat_map(|segment| &segment.tallies);
        let of_stream = lanes.filter(|(lane, _)| lane.stream == number);
        let strays: u64 = of_stream.map(|(_, tally)| tally.counts.requests).sum();
        let length = stream.until.since(stream.from).as_secs_f64();
        let requests = self.jwks_count(stream.from, stream.until) as f64;
        let caused = requests - self.calm_jwks_rate()? * length;
        (strays > 0).then(|| caused.max(0.0) / strays as f64)
    }

    /// The streams that the scenario names, with their numbers.
    fn named_streams(&self) -> impl Iterator<Item = (usize, String)> {
        self.plan
            .streams
            .iter()
            .enumerate()
            .skip(ALWAYS)
            .map(|(number, stream)| (number, stream.name.clone()))
    }

    fn fidelity(&self, tally: &Tally) -> Fidelity {
        let limits = &self.plan.limits;
        let tenth_of_latency = tally.latency.quantiles().map_or(0.0, |latency| latency.p99 / 10.0);
        Fidelity {
            lateness_ms: tally.lateness.quantiles(),
            shed: tally.shed(),
            shed_share: share(tally.shed(), tally.counts.requests).unwrap_or_default(),
            lateness_limit_ms: (limits.lateness.as_secs_f64() * 1_000.0).max(tenth_of_latency),
            shed_limit: limits.shed.fraction(),
        }
    }

    fn instances(&self, episodes: &[Episode<'_>]) -> Vec<Instance> {
        let recoveries: Vec<_> = episodes.iter().map(|episode| episode.recoveries(self)).collect();
        let counts = self.fold.instances.iter().zip(&self.plan.caches).zip(0..);
        counts
            .zip(self.jwks_requests())
            .map(|(((counts, loaded), instance), jwks_requests)| Instance {
                replica: instance / self.plan.workers,
                worker: instance % self.plan.workers,
                cache_age_at_start_s: loaded.map(|at| Time::ZERO.since(at).as_secs_f64()),
                must_pass: counts.must_pass,
                denied: counts.denied,
                jwks_requests,
                time_to_recover: recoveries.iter().map(|each| each[instance as usize]).collect(),
            })
            .collect()
    }

    /// The JWKS requests of each instance, in their order.
    fn jwks_requests(&self) -> Vec<Vec<JwksRequest>> {
        let mut fetches: BTreeMap<u32, VecDeque<&TimedFetch>> = BTreeMap::new();
        for fetch in &self.fetches {
            fetches.entry(fetch.instance).or_default().push_back(fetch);
        }
        let mut labels: BTreeMap<&[KeyId], Arc<[String]>> = BTreeMap::new();
        let mut requests = vec![Vec::new(); self.fold.instances.len()];
        for entry in &self.jwks {
            let Some(instance) = entry.instance else { continue };
            let Some(of_instance) = requests.get_mut(instance as usize) else { continue };
            // A cache's fetches arrive in their order.
            let fetch = fetches.get_mut(&instance).and_then(VecDeque::pop_front);
            let keys = labels.entry(&entry.keys);
            of_instance.push(JwksRequest {
                at_s: entry.at.as_secs_f64(),
                // A connection that was broken off has no answer.
                answered_s: entry.status.and(entry.answered).map(Time::as_secs_f64),
                status: entry.status,
                keys: keys.or_insert_with(|| entry.keys.iter().map(ToString::to_string).collect()).clone(),
                asked_s: fetch.map(|fetch| fetch.asked.as_secs_f64()),
                received_s: fetch.and_then(|fetch| fetch.received).map(Time::as_secs_f64),
            });
        }
        requests
    }

    /// What was planned within the run, and when it happened.
    fn events(&self) -> Vec<record::Event> {
        let within = |at: Time| self.fold.start < at && at < self.plan.end();
        let idp = self.plan.timeline.events().iter().filter(|event| within(event.at));
        let runbook = self.plan.runbook.actions.iter().map(|(at, action)| record::Event {
            kind: EventKind::Runbook,
            key: None,
            detail: Some(action.clone()),
            planned_s: at.as_secs_f64(),
            actual_s: self.restarted_at(*at).map(Time::as_secs_f64),
        });
        let idp = idp.map(|event| self.idp_event(event));
        let streams = self.stream_events().filter(|(_, at, _)| within(*at));
        let streams = streams.map(|(kind, at, detail)| record::Event {
            kind,
            key: None,
            detail: Some(detail),
            planned_s: at.as_secs_f64(),
            // Nothing but the plan begins or ends a stream; how late its requests were is in their lateness.
            actual_s: (at < self.ended).then_some(at.as_secs_f64()),
        });
        let mut events: Vec<_> = idp.chain(streams).chain(runbook).chain(self.deaths()).collect();
        // Of those at one instant the runbook's come last, as they are.
        events.sort_by(|a, b| a.planned_s.total_cmp(&b.planned_s));
        events
    }

    /// When streams that are not always there begin, end and burst.
    fn stream_events(&self) -> impl Iterator<Item = (EventKind, Time, String)> {
        self.plan.streams.iter().flat_map(|stream| {
            let lasts = stream.per_second > 0.0;
            let bounds = [(EventKind::StreamOn, stream.from), (EventKind::StreamOff, stream.until)];
            let bounds = bounds.into_iter().filter(move |_| lasts);
            let bounds = bounds.map(|(kind, at)| (kind, at, stream.title()));
            bounds.chain(stream.titled_burst().map(|(at, title)| (EventKind::Burst, at, title)))
        })
    }

    fn idp_event(&self, planned: &TimedEvent) -> record::Event {
        let applied =
            |applied: &&AppliedEvent| (applied.event, applied.planned) == (planned.event, planned.at);
        let fault = planned.event.fault().and_then(|fault| self.plan.timeline.fault(fault));
        record::Event {
            kind: kind(planned.event),
            key: planned.event.key().map(|key| key.to_string()),
            detail: fault.map(|window| fault_title(&window.fault)),
            planned_s: planned.at.as_secs_f64(),
            actual_s: self.applied.iter().find(applied).map(|event| event.applied.as_secs_f64()),
        }
    }

    /// When the first of the restarts that were planned for this moment happened.
    fn restarted_at(&self, planned: Time) -> Option<Time> {
        let first = self.plan.runbook.restarts.iter().position(|(at, _)| *at == planned)?;
        self.restarted.get(first).copied()
    }

    /// Windows with nothing but valid requests and how many of them were rejected.
    fn denial_windows(&self) -> Windows {
        let denials = || self.fold.windows.iter().map(|window| window.counts.denials);
        Windows {
            width_s: self.fold.window.as_secs_f64(),
            first_s: self.fold.start.as_secs_f64(),
            must_pass: denials().map(|denials| denials.must_pass).collect(),
            false_rejects: denials().map(|denials| denials.false_rejects).collect(),
            ..Windows::default()
        }
    }

    fn windows(&self, episodes: &[Episode<'_>]) -> Windows {
        let mut columns = Windows {
            width_s: self.fold.window.as_secs_f64(),
            first_s: self.fold.start.as_secs_f64(),
            ..Windows::default()
        };
        let jwks_requests = self.jwks_by_window();
        let mut start = self.fold.start;
        for (window, jwks_requests) in self.fold.windows.iter().zip(jwks_requests) {
            if start >= self.ended {
                break;
            }
            let end = start + self.fold.window;
            let denials = &window.counts.denials;
            let episode = episodes.iter().rfind(|episode| episode.from < end && start < episode.until);
            let cohort = episode.map(|episode| episode.cohort_denials(window)).unwrap_or_default();
            columns.requests.push(window.counts.requests);
            columns.must_pass.push(denials.must_pass);
            columns.false_rejects.push(denials.false_rejects);
            columns.failures.push(denials.failures);
            columns.cohort_must_pass.push(cohort.must_pass);
            columns.cohort_false_rejects.push(cohort.false_rejects);
            columns.cohort_failures.push(cohort.failures);
            columns.orphaned_rejects.push(window.counts.orphaned.orphaned_rejects);
            columns.false_accepts.push(window.counts.false_accepts);
            columns.jwks_requests.push(jwks_requests);
            let token_requests = window.token_requests as f64 * self.fold.sessions_each;
            columns.token_requests.push(token_requests.round() as u64);
            let lateness = window.lateness.quantiles();
            columns.lateness_p99_ms.push(lateness.map_or(0.0, |lateness| lateness.p99));
            let latency = window.latency.quantiles();
            columns.latency_p50_ms.push(latency.map(|latency| latency.p50));
            columns.latency_p99_ms.push(latency.map(|latency| latency.p99));
            start = end;
        }
        columns
    }
}

fn kind(event: Event) -> EventKind {
    match event {
        Event::FaultOff(_) => EventKind::FaultOff,
        Event::FaultOn(_) => EventKind::FaultOn,
        Event::Publish(_) => EventKind::Publish,
        Event::Activate(_) => EventKind::Activate,
        Event::Retire(_) => EventKind::Retire,
        Event::Remove(_) => EventKind::Remove,
        Event::Revoke(_) => EventKind::Revoke,
    }
}

fn login_storm<'s>(segments: impl IntoIterator<Item = &'s Segment>, sessions_each: f64) -> LoginStorm {
    let sessions = |followed: u64| (followed as f64 * sessions_each).round() as u64;
    let mut renewals = Vec::new();
    let mut locked_out: BTreeSet<u32> = BTreeSet::new();
    for segment in segments {
        renewals.extend(&segment.forced_renewals);
        locked_out.extend(&segment.locked_out);
    }
    renewals.sort_unstable();
    LoginStorm {
        requests: sessions(renewals.len() as u64),
        peak_per_second: sessions(worst_second(renewals.iter().copied())),
        locked_out: sessions(locked_out.len() as u64),
    }
}

/// The most of these sorted moments that lie within any second.
fn worst_second(sorted: impl Iterator<Item = Time> + Clone) -> u64 {
    let second = Span::from_secs(1);
    let mut from = sorted.clone().peekable();
    let (mut held, mut worst) = (0, 0);
    for at in sorted {
        held += 1;
        while from.next_if(|first| *first + second <= at).is_some() {
            held -= 1;
        }
        worst = worst.max(held);
    }
    worst
}
