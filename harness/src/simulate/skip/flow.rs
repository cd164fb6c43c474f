//! Requests that are all alike: those of one stream whose tokens one key signs.

use keyquake_core::{Rejection, Span, Time};
use keyquake_idp::{Forgery, KeyId};

use super::intensity::Intensity;
use crate::observe::Lane;
use crate::oracle::Ruling;
use crate::plan::{Plan, Stream};
use crate::scenario::TokenSource;
use crate::simulate::token::Token;
use crate::simulate::world::World;
use crate::tokens;

/// The number that the probe among strays has, which is sent nowhere. The one before it is the actor's among them.
const PROBE: u64 = u64::MAX;

/// Names the wait of an instance for a request: which instance, and which of its waits.
pub(super) type Call = (u32, u64);

pub(super) struct Flow {
    pub(super) lane: Lane,
    pub(super) source: TokenSource,
    /// What each of its instances gets, as expected.
    pub(super) requests: Intensity<Call>,
    /// Requests per second that an instance gets while all of the stream's tokens are of this key.
    full: f64,
    /// The part of them that is.
    share: f64,
    /// Whether the stream sends at present.
    sends: bool,
    /// Whether an instance gets them.
    places: Vec<bool>,
    /// How many do.
    pub(super) instances: u32,
    /// What an instance had got at each tick, as far as time has come.
    ticks: Vec<f64>,
    start: Time,
    step: Span,
    /// Which kind of token they carry, as a cache and a signature check tell them apart.
    pub(super) kind: usize,
    /// A token as they carry it now; `None` of a key that never was.
    pub(super) token: Option<Token>,
    /// What the checks after the signature say of it.
    pub(super) claims: Result<(), Rejection>,
    pub(super) ruling: Ruling,
    /// Which profile the last of them were counted in.
    pub(super) profile: usize,
    /// At how many instances some of them are still to be counted.
    pub(super) stretches: u32,
    /// At how many instances they are rejected at once, and denied.
    pub(super) rejecting: u32,
    pub(super) denying: u32,
}

impl Flow {
    /// All flows of a plan that ever send. Ticks come at each `step` from `start` on.
    pub(super) fn all(plan: &Plan, start: Time, step: Span) -> Vec<Self> {
        let keys: Vec<KeyId> = plan.timeline.keys().map(|(key, _)| key).collect();
        let of_stream = |(number, stream): (usize, &Stream)| {
            let keys: Vec<KeyId> = match stream.token {
                TokenSource::Key(key) => vec![key],
                _ => keys.clone(),
            };
            let flow = |key| Self::new(plan, Lane { stream: number, key }, start, step);
            keys.into_iter().map(flow).collect::<Vec<_>>()
        };
        let sends = |stream: &Stream| stream.per_second > 0.0 || stream.burst.is_some();
        plan.streams.iter().enumerate().filter(|(_, stream)| sends(stream)).flat_map(of_stream).collect()
    }

    fn new(plan: &Plan, lane: Lane, start: Time, step: Span) -> Self {
        let stream = &plan.streams[lane.stream];
        let mut places = vec![false; plan.instances() as usize];
        for replica in &stream.replicas {
            let workers = replica * plan.workers..(replica + 1) * plan.workers;
            workers.for_each(|instance| places[instance as usize] = true);
        }
        let instances = u32::try_from(places.iter().filter(|there| **there).count()).unwrap_or(u32::MAX);
        Self {
            lane,
            source: stream.token,
            requests: Intensity::new(start),
            full: stream.per_second / f64::from(instances.max(1)),
            share: 0.0,
            sends: false,
            places,
            instances,
            ticks: vec![0.0],
            start,
            step,
            kind: 0,
            token: None,
            claims: Ok(()),
            ruling: Ruling::MustPass,
            profile: 0,
            stretches: 0,
            rejecting: 0,
            denying: 0,
        }
    }

    pub(super) fn is_of_sessions(&self) -> bool {
        self.source == TokenSource::Session
    }

    /// Whether an instance gets its requests.
    pub(super) fn has(&self, instance: u32) -> bool {
        self.places[instance as usize]
    }

    pub(super) fn is_live(&self) -> bool {
        self.requests.per_second() > 0.0
    }

    /// Requests per second that an instance gets of it at most.
    pub(super) fn full(&self) -> f64 {
        self.full
    }

    /// From now on the stream sends, or does not.
    pub(super) fn set_sending(&mut self, now: Time, sends: bool) {
        self.sends = sends;
        self.set_share(now, self.share);
    }

    /// From now on this part of the stream's requests carries this key.
    pub(super) fn set_share(&mut self, now: Time, share: f64) {
        self.share = share;
        let per_second = if self.sends { self.full * share } else { 0.0 };
        if per_second != self.requests.per_second() {
            self.tick(now);
            self.requests.set(now, per_second);
        }
    }

    /// Two tokens of each kind that flows carry at this moment, which they are told of.
    pub(super) fn kinds(flows: &mut [Self], plan: &Plan, world: &World, now: Time) -> Vec<[Token; 2]> {
        let mut kinds: Vec<[Token; 2]> = Vec::new();
        for flow in flows {
            flow.issue(plan, world, now);
            let Some((token, other)) = flow.token.clone().zip(flow.token(world, PROBE - 1)) else { continue };
            flow.kind = kinds.iter().position(|[known, _]| known.is_like(&token)).unwrap_or(kinds.len());
            if flow.kind == kinds.len() {
                kinds.push([token, other]);
            }
        }
        kinds
    }

    /// Has its token made anew. Only what has expired already is any closer to that: sessions renew in time, and others make new
    /// ones or such as outlast the run.
    pub(super) fn issue(&mut self, plan: &Plan, world: &World, now: Time) {
        let stream = &plan.streams[self.lane.stream];
        let has_expired = stream.token == TokenSource::Forged(Forgery::Expired);
        let made = if has_expired { now } else { plan.end() };
        let facts = tokens::facts(plan, stream, self.lane.key, world.pace().unix(made));
        self.token = Token::new(facts, world, PROBE);
        if let Some(token) = &self.token {
            self.claims = token.check(world.pace().unix(now), plan.policy.leeway);
        }
    }

    /// A token for a request of its own: strays have names of their own.
    pub(super) fn token(&self, world: &World, number: u64) -> Option<Token> {
        match self.source {
            TokenSource::Forged(Forgery::UnknownKid) => Token::new(self.token.as_ref()?.facts, world, number),
            _ => self.token.clone(),
        }
    }

    /// Notes what an instance has got at all ticks up to `now`, since when the rate has been what it is.
    pub(super) fn tick(&mut self, now: Time) {
        let end = self.tick_before(now) + 1;
        // While nothing comes, it stays what it was.
        if now < self.start || end <= self.ticks.len() || !self.is_live() {
            return;
        }
        let idle = self.tick_before(self.requests.since()) + 1;
        if self.ticks.len() < idle {
            self.ticks.resize(idle.min(end), self.requests.mass(self.requests.since()));
        }
        let next = self.ticks.len();
        let first = self.requests.mass(self.tick_at(next));
        let more = self.requests.per_second() * self.step.as_secs_f64();
        self.ticks.extend((0..end - next).map(|tick| first + more * tick as f64));
    }

    pub(super) fn tick_at(&self, number: usize) -> Time {
        self.start + Span::from_nanos(self.step.as_nanos().saturating_mul(number as u64))
    }

    /// The number of the last tick by a moment.
    pub(super) fn tick_before(&self, at: Time) -> usize {
        usize::try_from(at.since(self.start).as_nanos() / self.step.as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    /// What an instance had got at a tick that lies behind.
    pub(super) fn ticked(&self, number: usize) -> f64 {
        self.ticks[number.min(self.ticks.len() - 1)]
    }

    /// When an instance had got this part of what it got between two moments, at which it had got so much. Within a step what
    /// came is taken as even.
    pub(super) fn moment(&self, part: f64, (from, until): (Time, Time), masses: (f64, f64)) -> Time {
        let mass = masses.0 + (masses.1 - masses.0) * part;
        let next = self.first_tick_beyond(mass, from + until.since(from).scale(part));
        let before = next.saturating_sub(1);
        let (after, length) = match self.ticks.get(next) {
            Some(after) => (*after, self.step),
            None => (masses.1, until.since(self.tick_at(before))),
        };
        let part = (mass - self.ticks[before]) / (after - self.ticks[before]);
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        (self.tick_at(before) + length.scale(part)).clamp(from, until)
    }

    /// The number of the first tick by which an instance had got more. At an even rate that is the one after this moment.
    fn first_tick_beyond(&self, mass: f64, even: Time) -> usize {
        let guess = self.tick_before(even) + 1;
        let is_it =
            self.ticks.get(guess).is_some_and(|ticked| *ticked > mass) && self.ticks[guess - 1] <= mass;
        if is_it { guess } else { self.ticks.partition_point(|ticked| *ticked <= mass) }
    }
}
