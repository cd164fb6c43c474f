//! From observations to counts: each request is ruled on once, when it has ended, and folded away.
//!
//! Memory grows with time, keys and instances, never with requests; a trace of them is bounded.

mod durations;
mod tally;
mod trace;
mod track;

use std::collections::{BTreeMap, BTreeSet};

use keyquake_core::{Span, Time};
use keyquake_idp::{KeyId, Pace};

pub(crate) use self::durations::{Durations, Spread};
pub(crate) use self::tally::{Counts, Tally, share};
pub(crate) use self::trace::{Trace, TracedRequest};
pub(crate) use self::track::Track;
use crate::arrivals::Arrival;
use crate::oracle::{Ground, Oracle, Ruling, TokenFacts};
use crate::plan::Plan;

/// The lengths that windows may have, in scenario time: the first with which there are few enough.
const WINDOW_SECONDS: [u64; 9] = [1, 2, 5, 10, 30, 60, 300, 600, 3_600];
/// The most windows of a run, while there is a longer one to choose.
const MAX_WINDOWS: u64 = 3_600;
/// How finely recovery is timed, by the wall clock.
const TRACK_STEP: Span = Span::from_millis(10);
/// How finely the worst second of a run is found, by the wall clock.
const RUN_STEP: Span = Span::from_millis(100);
/// How much longer than the clients' time-out a request can last, by the wall clock: the generator may stall.
const STRAGGLING: Span = Span::from_secs(10);
/// How many denials are kept for their causes.
const MAX_DENIALS: usize = 1_000_000;

/// One request and its end. Latency counts from `arrival.at`; there is no other start.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) arrival: Arrival,
    /// The cache that answered it, or would have.
    pub(crate) instance: u32,
    pub(crate) token: TokenFacts,
    /// When it left; `None` when it could not be sent.
    pub(crate) sent: Option<Time>,
    pub(crate) ended: Time,
    pub(crate) outcome: Outcome,
}

/// How a request ended: exactly one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// 2xx.
    Accepted(u16),
    /// 401 or 403.
    Rejected(u16),
    /// Any other status, or none: reset, refused.
    Failed(Option<u16>),
    TimedOut,
    /// The generator could not send it.
    Shed,
    /// Still under way after the drain.
    Unfinished,
}

/// What statuses mean, where a target has a say in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statuses {
    accepted: Option<Vec<u16>>,
    rejected: Option<Vec<u16>>,
}

impl Statuses {
    pub(crate) fn new(accepted: Option<Vec<u16>>, rejected: Option<Vec<u16>>) -> Self {
        Self { accepted, rejected }
    }

    pub(crate) fn outcome(&self, status: u16) -> Outcome {
        if self.accepts(status) {
            Outcome::Accepted(status)
        } else if self.rejects(status) {
            Outcome::Rejected(status)
        } else {
            Outcome::Failed(Some(status))
        }
    }

    pub(crate) fn means_two_things(&self, status: u16) -> bool {
        self.accepts(status) && self.rejects(status)
    }

    fn accepts(&self, status: u16) -> bool {
        self.accepted.as_ref().map_or((200..=299).contains(&status), |list| list.contains(&status))
    }

    fn rejects(&self, status: u16) -> bool {
        self.rejected.as_ref().map_or([401, 403].contains(&status), |list| list.contains(&status))
    }
}

impl Outcome {
    pub(crate) fn of_status(status: u16) -> Self {
        Statuses::default().outcome(status)
    }

    pub(crate) const fn status(self) -> Option<u16> {
        match self {
            Self::Accepted(status) | Self::Rejected(status) => Some(status),
            Self::Failed(status) => status,
            Self::TimedOut | Self::Shed | Self::Unfinished => None,
        }
    }

    /// The outcome of this name and status, as [`Outcome::name`] and [`Outcome::status`] give them.
    pub(crate) fn read(name: &str, status: Option<u16>) -> Option<Self> {
        let outcome = match (name, status) {
            ("failed", None) => Self::Failed(None),
            ("timed_out", None) => Self::TimedOut,
            ("shed", None) => Self::Shed,
            ("unfinished", None) => Self::Unfinished,
            (_, status) => Self::of_status(status?),
        };
        (outcome.name() == name).then_some(outcome)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Failed(_) => "failed",
            Self::TimedOut => "timed_out",
            Self::Shed => "shed",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Requests of one lane that met the same and are counted together.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) lane: Lane,
    pub(crate) ruling: Ruling,
    pub(crate) outcome: Outcome,
    pub(crate) count: u64,
    /// The planned moments of the first and the last of them, which lie between the same two disturbances.
    pub(crate) first: Time,
    pub(crate) last: Time,
    /// How long each of them took.
    pub(crate) wall: WallTimes,
}

impl Batch {
    /// Valid, and not accepted.
    fn is_denied(&self) -> bool {
        self.ruling == Ruling::MustPass && !matches!(self.outcome, Outcome::Accepted(_))
    }
}

/// Requests of one stream whose tokens one key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) stream: usize,
    pub(crate) key: KeyId,
}

/// What was seen between one disturbance and the next.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) tallies: BTreeMap<Lane, Tally>,
    /// Fine-grained counts of requests that must pass, by lane. Nothing is to be timed before the first disturbance, so
    /// the first segment keeps none.
    pub(crate) tracks: BTreeMap<Lane, Track>,
    /// The same of each instance.
    pub(crate) instance_tracks: BTreeMap<Lane, Vec<Track>>,
    pub(crate) forced_renewals: Vec<Time>,
    pub(crate) locked_out: BTreeSet<u32>,
}

/// One window.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) counts: Counts,
    pub(crate) lateness: Spread,
    pub(crate) latency: Spread,
    /// Of each key's tokens; there are few keys in a window.
    by_key: Vec<(KeyId, Denials)>,
    pub(crate) token_requests: u64,
}

/// Requests that must pass, and those of them that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Denials {
    pub(crate) must_pass: u64,
    pub(crate) false_rejects: u64,
    pub(crate) failures: u64,
}

/// How long tokens of a revoked key were accepted, by their planned moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Afterlife {
    pub(crate) last_accepted: Option<Time>,
    pub(crate) last_refused: Option<Time>,
}

/// Requests that one instance denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// The planned moment of the first.
    pub(crate) at: Time,
    /// When the last had its answer.
    pub(crate) ended: Time,
    pub(crate) lane: Lane,
    pub(crate) instance: u32,
    pub(crate) count: u64,
}

/// One instance's share of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceCounts {
    pub(crate) must_pass: u64,
    pub(crate) denied: u64,
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Fold {
    oracle: Oracle,
    pace: Pace,
    boundaries: Vec<Time>,
    pub(crate) track_step: Span,
    pub(crate) start: Time,
    /// The length of a window.
    pub(crate) window: Span,
    pub(crate) segments: Vec<Segment>,
    pub(crate) windows: Vec<Window>,
    /// How many of them get no more requests.
    closed: usize,
    /// How long after its planned moment a request has ended at the latest.
    patience: Span,
    pub(crate) instances: Vec<InstanceCounts>,
    /// Requests that must pass, all together, for the worst second of the run.
    pub(crate) run_track: Track,
    /// Tokens of revoked keys, by lane and instance.
    pub(crate) afterlives: BTreeMap<(Lane, u32), Afterlife>,
    /// The first denials of the run, whose causes can be found.
    pub(crate) denials: Vec<Denial>,
    /// How many sessions one that is told of stands for.
    pub(crate) sessions_each: f64,
    /// Lists the requests one by one, if anyone wants that.
    pub(crate) trace: Option<Trace>,
}

impl Fold {
    pub(crate) fn new(plan: &Plan, pace: Pace) -> Self {
        let start = Time::ZERO - plan.warmup;
        let count = |window: Span| plan.end().since(start).as_nanos().div_ceil(window.as_nanos());
        let lengths = WINDOW_SECONDS.map(Span::from_secs);
        let window = lengths.into_iter().find(|window| count(*window) <= MAX_WINDOWS).unwrap_or(lengths[8]);
        let boundaries: Vec<Time> = plan.disturbances.iter().map(|disturbance| disturbance.from).collect();
        Self {
            oracle: Oracle::new(plan.timeline.clone(), plan.policy.leeway),
            pace,
            segments: std::iter::repeat_with(Segment::default).take(boundaries.len() + 1).collect(),
            boundaries,
            track_step: TRACK_STEP.scale(plan.speed),
            start,
            window,
            windows: std::iter::repeat_with(Window::default)
                .take(usize::try_from(count(window)).unwrap_or(usize::MAX))
                .collect(),
            closed: 0,
            patience: plan.traffic.timeout.saturating_add(STRAGGLING.scale(plan.speed)),
            instances: vec![InstanceCounts::default(); plan.instances() as usize],
            run_track: Track::new(RUN_STEP.scale(plan.speed)),
            afterlives: BTreeMap::new(),
            denials: Vec::new(),
            sessions_each: 1.0,
            trace: None,
        }
    }

    /// Has recovery and the worst second measured in steps of this length, of a simulation that counts most requests only when
    /// all have ended: until then no window is closed.
    pub(crate) fn in_steps(self, step: Span) -> Self {
        Self { track_step: step, run_track: Track::new(step), patience: Span::INFINITE, ..self }
    }

    /// What a validator should do with a token that is sent and answered at these moments.
    pub(crate) fn rule(&self, token: &TokenFacts, sent: Time, answered: Time) -> Ruling {
        let dated = |at| (at, self.pace.unix(at));
        self.oracle.rule(token, dated(sent), dated(answered))
    }

    /// Folds one request away, and says whether it was denied: valid, and not accepted.
    pub(crate) fn take(&mut self, seen: &Observation) -> bool {
        if let Some(trace) = &mut self.trace {
            trace.add(seen);
        }
        let at = seen.arrival.at;
        let sent = seen.sent.unwrap_or(at);
        let ruling = self.rule(&seen.token, sent, seen.ended);
        let batch = Batch {
            lane: Lane { stream: seen.arrival.stream, key: seen.token.key },
            ruling,
            outcome: seen.outcome,
            count: 1,
            first: at,
            last: at,
            wall: WallTimes::of(seen, self.pace),
        };
        self.close_windows(seen.ended);
        self.count(&batch);
        self.count_at(seen.instance, &batch, seen.ended);
        batch.is_denied()
    }

    /// Counts requests as those of the fleet.
    pub(crate) fn count(&mut self, batch: &Batch) {
        self.count_when(batch);
        if batch.last >= Time::ZERO {
            self.sum_up(batch, self.segment_number(batch.last));
        }
    }

    /// Counts when requests of the fleet fell.
    pub(crate) fn count_when(&mut self, batch: &Batch) {
        let Batch { lane, ruling, outcome, count, first, last, wall } = batch;
        let must_pass = *ruling == Ruling::MustPass;
        if let Some(window) = self.window(*last) {
            window.counts.add(*outcome, *ruling, *count);
            window.lateness.extend(wall.lateness, *count);
            window.latency.extend(wall.latency, *count);
            if must_pass {
                window.denials_of(lane.key).add(*outcome, *count);
            }
        }
        if *last >= Time::ZERO && must_pass {
            self.run_track.add((*first, *last), *count, batch.is_denied());
            let number = self.segment_number(*last);
            if number > 0 {
                let tracks = &mut self.segments[number].tracks;
                let track = tracks.entry(*lane).or_insert_with(|| Track::new(self.track_step));
                track.add((*first, *last), *count, batch.is_denied());
            }
        }
    }

    /// Counts what requests of the fleet met in a segment, whenever in it they fell.
    pub(crate) fn sum_up(&mut self, batch: &Batch, segment: usize) {
        let Batch { lane, ruling, outcome, count, wall, .. } = batch;
        self.segments[segment].tallies.entry(*lane).or_default().add(*outcome, *ruling, *count, wall);
    }

    /// Whether requests that are ruled on so are told apart by the instances that answered them.
    pub(crate) const fn counts_by_instance(ruling: Ruling) -> bool {
        matches!(ruling, Ruling::MustPass | Ruling::MustRefuse(Ground::RevokedKey))
    }

    /// Counts the same requests as those of the instance that answered them, the last of them at `ended`.
    pub(crate) fn count_at(&mut self, instance: u32, batch: &Batch, ended: Time) {
        let Batch { lane, ruling, outcome, last, .. } = *batch;
        if last < Time::ZERO {
            return;
        }
        match ruling {
            Ruling::MustPass => self.must_pass(instance, batch, ended),
            Ruling::MustRefuse(Ground::RevokedKey) => {
                let afterlife = self.afterlives.entry((lane, instance)).or_default();
                let accepted = matches!(outcome, Outcome::Accepted(_));
                let noted = if accepted { &mut afterlife.last_accepted } else { &mut afterlife.last_refused };
                *noted = (*noted).max(Some(last));
            }
            Ruling::MustRefuse(_) | Ruling::Either(_) => {}
        }
    }

    fn must_pass(&mut self, instance: u32, batch: &Batch, ended: Time) {
        let Batch { lane, count, first, last, .. } = *batch;
        let denied = batch.is_denied();
        let counts = &mut self.instances[instance as usize];
        counts.must_pass += count;
        counts.denied += if denied { count } else { 0 };
        if denied && self.denials.len() < MAX_DENIALS {
            self.denials.push(Denial { at: first, ended, lane, instance, count });
        }
        let segment = self.segment_number(last);
        if segment > 0 {
            let none = || vec![Track::new(self.track_step); self.instances.len()];
            let tracks = self.segments[segment].instance_tracks.entry(lane).or_insert_with(none);
            tracks[instance as usize].add((first, last), count, denied);
        }
    }

    /// Notes that a session asked for a new token; `forced` when a rejection made it.
    pub(crate) fn token_requested(&mut self, at: Time, forced: bool) {
        if let Some(window) = self.window(at) {
            window.token_requests += 1;
        }
        if forced && at >= Time::ZERO {
            let number = self.segment_number(at);
            self.segments[number].forced_renewals.push(at);
        }
    }

    /// Notes that a session asked for new tokens in time: at each cycle from a moment on, so many times. Nobody asks before the
    /// run has started.
    pub(crate) fn tokens_requested(&mut self, first: Time, cycle: Span, times: u64) {
        let mut since_start = first.since(self.start).as_nanos();
        for _ in 0..times {
            let number = usize::try_from(since_start / self.window.as_nanos()).unwrap_or(usize::MAX);
            if let Some(window) = self.windows.get_mut(number) {
                window.token_requests += 1;
            }
            since_start = since_start.saturating_add(cycle.as_nanos());
        }
    }

    /// Notes that a session was denied three times in a row.
    pub(crate) fn locked_out(&mut self, at: Time, session: u32) {
        if at >= Time::ZERO {
            let number = self.segment_number(at);
            self.segments[number].locked_out.insert(session);
        }
    }

    /// Whether every denial is among those whose causes can be found.
    pub(crate) fn knows_all_denials(&self) -> bool {
        self.denials.len() < MAX_DENIALS
    }

    /// The number of the segment that a moment lies in: how many disturbances have begun by then.
    pub(crate) fn segment_number(&self, at: Time) -> usize {
        self.boundaries.partition_point(|boundary| *boundary <= at)
    }

    /// Sums up the windows that get no more requests.
    fn close_windows(&mut self, now: Time) {
        let over = self.window_number(now - self.patience).unwrap_or_default();
        for window in self.windows.get_mut(self.closed..over).unwrap_or_default() {
            window.lateness.close();
            window.latency.close();
        }
        self.closed = self.closed.max(over);
    }

    fn window(&mut self, at: Time) -> Option<&mut Window> {
        let number = self.window_number(at)?;
        self.windows.get_mut(number)
    }

    /// The window that a moment lies in, if it lies in the run.
    pub(crate) fn window_number(&self, at: Time) -> Option<usize> {
        let number = usize::try_from(at.since(self.start).as_nanos() / self.window.as_nanos()).ok()?;
        (self.start <= at && number < self.windows.len()).then_some(number)
    }
}

impl Window {
    fn denials_of(&mut self, key: KeyId) -> &mut Denials {
        let place = self.by_key.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            self.by_key.push((key, Denials::default()));
            self.by_key.len() - 1
        });
        &mut self.by_key[place].1
    }

    /// Those with tokens of these keys.
    pub(crate) fn denials_of_all(&self, keys: impl Fn(KeyId) -> bool) -> Denials {
        let mut sum = Denials::default();
        self.by_key.iter().filter(|(key, _)| keys(*key)).for_each(|(_, denials)| sum.merge(denials));
        sum
    }
}

impl Denials {
    /// Counts requests that must pass.
    fn add(&mut self, outcome: Outcome, count: u64) {
        self.must_pass += count;
        match outcome {
            Outcome::Rejected(_) => self.false_rejects += count,
            Outcome::Accepted(_) => {}
            _ => self.failures += count,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.must_pass += other.must_pass;
        self.false_rejects += other.false_rejects;
        self.failures += other.failures;
    }
}

/// How long a request took, by the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallTimes {
    /// From the planned moment to the sending.
    pub(crate) lateness: Option<std::time::Duration>,
    /// From the planned moment to the end of the answer, where one came.
    pub(crate) latency: Option<std::time::Duration>,
    /// From the sending to the end of the answer.
    pub(crate) service: Option<std::time::Duration>,
}

impl WallTimes {
    fn of(seen: &Observation, pace: Pace) -> Self {
        let answered = seen.outcome.status().is_some();
        let sent = seen.sent;
        Self {
            lateness: sent.map(|sent| pace.wall(sent.since(seen.arrival.at))),
            latency: answered.then(|| pace.wall(seen.ended.since(seen.arrival.at))),
            service: sent.filter(|_| answered).map(|sent| pace.wall(seen.ended.since(sent))),
        }
    }
}
