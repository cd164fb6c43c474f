//! Requests that change nothing are counted, not played: what they meet is known beforehand.
//!
//! At each instance each flow is in one of three modes. While its requests all end alike, their number is drawn when
//! that changes. While the next one acts on the cache, that one is played. While one waits for a fetch, those that come
//! follow it and meet what it meets. An instance at which nothing is under way walks from one known state to the next.

mod clients;
mod counts;
mod delays;
mod flow;
mod groups;
mod intensity;
mod leaders;
mod leap;
mod rounds;
mod states;
#[cfg(test)]
mod tests;
mod waits;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use keyquake_core::{Span, Time};
use keyquake_idp::Pace;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use self::clients::Clients;
use self::counts::{Counts, Stretch};
use self::flow::Flow;
use self::groups::Groups;
use self::leaders::{Crowd, Leader};
use self::rounds::Rounds;
use self::states::States;
use self::walk::Walk;
use super::agenda::Agenda;
use super::fleet::{Ticket, cold};
use super::service::{Service, Verdict};
use super::world::{Known, World};
use super::{Detail, EPOCH};
use crate::measure::Run;
use crate::observe::{Fold, Outcome};
use crate::oracle::Ruling;
use crate::plan::Plan;
use crate::scenario::TokenSource;
use crate::seed;
use crate::tokens;

/// In how many steps a run is measured at least, while steps are shorter than windows.
const STEPS: usize = 3_600;
/// The most steps that a window has.
const STEPS_PER_WINDOW: usize = 10;
/// Later than a moment that was rounded to a nanosecond.
const ROUNDING: Span = Span::from_nanos(10);
/// How much longer caches are followed than they wait for anything: in another run they may be older.
const MARGIN: f64 = 2.0;
/// The most gaps that a stretch has.
const GAPS: usize = 64;

/// What was found out about a plan: what caches go through, and what the provider answers.
#[derive(Default)]
pub(crate) struct Experience {
    states: Option<States>,
    provider: Option<Known>,
}

/// Simulates a plan whose requests may be counted together. What is known from another run, which differs in nothing but the
/// seed, need not be found again.
///
/// # Errors
///
/// The system has no randomness for keys.
pub(super) fn run<'p>(
    plan: &'p Plan,
    command: &str,
    detail: Detail,
    experience: &mut Experience,
) -> anyhow::Result<Run<'p>> {
    let mut simulation = Simulation::new(plan, detail, std::mem::take(experience))?;
    simulation.play()?;
    let Simulation { counts, mut fold, flows, mut rng, service, states, .. } = simulation;
    let metrics_alone = detail == Detail::Metrics;
    let told_apart = counts.told_apart(&fold, &flows, detail);
    counts.finish(&mut fold, &flows, &told_apart, &mut rng);
    let (world, log) = service.into_parts();
    let states = Some(states).filter(States::are_few);
    *experience = Experience { states, provider: Some(world.into_known()) };
    Ok(Run { metrics_alone, ..super::conclude(plan, command, fold, log) })
}

struct Simulation<'p> {
    plan: &'p Plan,
    now: Time,
    service: Service<'p>,
    clients: Clients<'p>,
    flows: Vec<Flow>,
    /// Those of them that send at present.
    live: Vec<usize>,
    /// Room for those of them that act somewhere.
    acting: Vec<usize>,
    /// Each flow at each instance: those of one instance together.
    cells: Vec<Cell>,
    instances: Vec<Instance>,
    /// Instances that get the same flows.
    groups: Groups,
    /// What caches at rest go through.
    states: States,
    rounds: Rounds,
    /// Instances whose verdicts are to be looked at again.
    alarms: Agenda<u32>,
    /// When something changes that the plan says.
    turns: VecDeque<Turn>,
    /// Requests that have no answer yet.
    leaders: BTreeMap<Ticket, Leader>,
    started: Ticket,
    waits: u64,
    counts: Counts,
    fold: Fold,
    /// Draws for the fleet as a whole.
    rng: ChaCha8Rng,
}

/// A moment at which something changes that the plan says.
#[derive(Clone, Copy)]
struct Turn {
    at: Time,
    /// Whether a cache is replaced then or a request is played: no fetch is foreseen beyond it.
    is_abrupt: bool,
}

struct Instance {
    rng: ChaCha8Rng,
    /// Its next alarm.
    alarm: Time,
    /// Its requests that wait for keys and were played.
    leaders: BTreeSet<Ticket>,
    /// Those that follow them, while any do.
    crowd: Option<Crowd>,
    /// Where it is, while its cache is one that is known.
    walk: Option<Walk>,
    /// Until then nothing happens to it that is not counted already.
    lands: Time,
    /// When something may happen then without a turn.
    acts: Time,
}

/// What the requests of a flow meet at an instance.
#[derive(Debug, Default)]
struct Cell {
    mode: Mode,
    /// They all meet this, or did until another mode interrupted it.
    stretch: Option<Stretch>,
    /// The one that waits, and whose fate the next will share.
    leader: Option<Ticket>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    /// None come.
    #[default]
    Away,
    /// They are counted; an instance had got this much when that began.
    Counted(f64),
    /// The next one is played. The number tells this wait from others.
    Played(u64),
    /// They follow the leader; an instance had got this much when that began.
    Follows(f64),
}

impl<'p> Simulation<'p> {
    fn new(plan: &'p Plan, detail: Detail, known: Experience) -> anyhow::Result<Self> {
        let pace = Pace::new(1.0, EPOCH)?;
        let start = Time::ZERO - plan.warmup;
        let world = World::with(plan, pace, known.provider)?;
        let fold = Fold::new(plan, pace);
        let steps = (STEPS / fold.windows.len().max(1)).clamp(1, STEPS_PER_WINDOW);
        let step = fold.window.scale(1.0 / steps as f64);
        let mut fold = fold.in_steps(step);
        fold.sessions_each = Clients::each_stands_for(plan);
        let mut flows = Flow::all(plan, start, step);
        let kinds = Flow::kinds(&mut flows, plan, &world, start);
        let oldest = plan.caches.iter().flatten().copied().min().unwrap_or(start).min(start);
        let longest = plan.end().since(oldest).saturating_add(Span::from_secs(1));
        let states = match known.states.filter(|known| known.reach(longest)) {
            Some(known) => known,
            None => States::new(cold(plan, 0, start)?.cache, kinds, longest.scale(MARGIN)),
        };
        let cells = flows.len() * plan.instances() as usize;
        let instance = |number: u32| Instance {
            rng: seed::generator(plan.seed, "requests of instance", u64::from(number)),
            alarm: Time::NEVER,
            leaders: BTreeSet::new(),
            crowd: None,
            walk: None,
            lands: start,
            acts: start,
        };
        Ok(Self {
            plan,
            now: start,
            clients: Clients::new(plan, detail, &world, start),
            service: Service::new(plan, world, &plan.runbook.restarts)?,
            groups: Groups::new(&flows, plan, start),
            flows,
            live: Vec::new(),
            acting: Vec::new(),
            cells: std::iter::repeat_with(Cell::default).take(cells).collect(),
            instances: (0..plan.instances()).map(instance).collect(),
            rounds: Rounds::default(),
            states,
            alarms: Agenda::default(),
            turns: turns(plan, start),
            leaders: BTreeMap::new(),
            started: 0,
            waits: 0,
            counts: Counts::default(),
            fold,
            rng: seed::generator(plan.seed, "requests of the fleet", 0),
        })
    }

    /// Plays from the start of the warm-up until the last request has ended.
    fn play(&mut self) -> anyhow::Result<()> {
        while let Some((next, call)) = self.next() {
            if next >= self.plan.end() && self.turns.is_empty() && self.leaders.is_empty() {
                break;
            }
            self.now = self.now.max(next);
            let turns = self.next_turn() <= self.now;
            if turns {
                self.turn();
            }
            self.advance_service()?;
            // Only now: what restarts at a turn has another cache by then.
            if turns {
                self.burst()?;
                self.turns.pop_front();
                self.look_beyond_turn();
            }
            if self.next_of_clients() <= self.now {
                self.advance_clients();
            }
            while let Some(instance) = self.alarms.due(self.now) {
                self.wake(instance);
            }
            if call <= self.now {
                self.call();
            }
        }
        Ok(())
    }

    /// When something happens next, and when the next request comes that is waited for.
    fn next(&self) -> Option<(Time, Time)> {
        let calls = self.live.iter().map(|flow| self.flows[*flow].requests.next());
        let call = calls.fold(self.groups.next(), Time::min);
        let others = [self.service.next(), self.alarms.next()];
        let next = call.min(self.next_of_clients()).min(self.next_turn());
        let next = others.into_iter().flatten().fold(next, Time::min);
        (next < Time::NEVER).then_some((next, call))
    }

    /// Lets the requests come that are waited for, as far as they are due.
    fn call(&mut self) {
        for place in 0..self.live.len() {
            let flow = self.live[place];
            while let Some(call) = self.flows[flow].requests.due(self.now) {
                self.called(flow, call);
            }
        }
        while let Some(call) = self.groups.due(self.now) {
            self.called_by_any(call);
        }
    }

    /// When something changes next that the plan says.
    fn next_turn(&self) -> Time {
        self.turns.front().map_or(Time::NEVER, |turn| turn.at)
    }

    /// When something happens to a session next. After the last request nobody needs another token.
    fn next_of_clients(&self) -> Time {
        let next = self.clients.next();
        if next < self.plan.end() { next } else { Time::NEVER }
    }

    /// Something changes that the plan says.
    fn turn(&mut self) {
        let now = self.now;
        self.catch_up();
        self.clients.turn(now);
        let disturbed = self.plan.disturbances.iter().any(|it| [it.from, it.curable_from].contains(&now));
        let is_bound = disturbed || [Time::ZERO, self.plan.end()].contains(&now);
        for number in 0..self.flows.len() {
            let ruling = self.ruling(number);
            if is_bound || ruling != self.flows[number].ruling {
                self.interrupt(number);
            }
            self.flows[number].ruling = ruling;
            self.reschedule(number);
        }
        self.share_keys();
        self.some_come_or_go();
        self.rounds.forget();
    }

    /// What the oracle says of a flow's tokens from now on.
    fn ruling(&mut self, number: usize) -> Ruling {
        let flow = &mut self.flows[number];
        flow.issue(self.plan, &self.service.world, self.now);
        let token = flow.token.as_ref();
        token.map_or(Ruling::MustPass, |token| self.fold.rule(&token.facts, self.now, self.now))
    }

    /// Has a flow send as its stream does from now on, and as much as its key is used.
    fn reschedule(&mut self, number: usize) {
        let now = self.now;
        let flow = &mut self.flows[number];
        let stream = &self.plan.streams[flow.lane.stream];
        flow.set_sending(now, stream.from <= now && now < stream.until.min(self.plan.end()));
        if !flow.is_of_sessions() {
            let signer = tokens::signer(stream.token, &self.plan.timeline, now);
            flow.set_share(now, if signer == Some(flow.lane.key) { 1.0 } else { 0.0 });
        }
    }

    /// Has the flows of sessions send as many as hold their keys.
    fn share_keys(&mut self) {
        for flow in self.flows.iter_mut().filter(|flow| flow.is_of_sessions()) {
            flow.set_share(self.now, self.clients.share(flow.lane.key));
        }
        self.groups.sum_up(&self.flows, self.now);
    }

    /// Plays the requests that come at this moment, which is a turn until they have: nobody may leap over them.
    fn burst(&mut self) -> anyhow::Result<()> {
        let plan = self.plan;
        let bursts = plan.streams.iter().enumerate().filter_map(|(number, stream)| {
            let (_, count) = stream.burst.filter(|(at, _)| *at == self.now)?;
            Some((number, stream, count))
        });
        let bursts: Vec<_> = bursts.collect();
        if !bursts.is_empty() {
            self.look_everywhere();
        }
        for (number, stream, count) in bursts {
            for _ in 0..count {
                let key = match stream.token {
                    TokenSource::Session => Some(self.clients.any_key()),
                    token => tokens::signer(token, &self.plan.timeline, self.now),
                };
                let flow = self
                    .flows
                    .iter()
                    .position(|flow| flow.lane.stream == number && Some(flow.lane.key) == key);
                let replica = stream.replicas[self.rng.random_range(0..stream.replicas.len())];
                let worker = self.rng.random_range(0..self.plan.workers);
                if let Some(flow) = flow {
                    self.send(flow, replica * self.plan.workers + worker);
                    // A fetch may take no time at all.
                    self.advance_service()?;
                }
            }
        }
        Ok(())
    }

    /// Lets everything happen to the fleet that is due.
    fn advance_service(&mut self) -> anyhow::Result<()> {
        if self.service.next().is_some_and(|at| at <= self.now) {
            self.service.advance(self.now)?;
            self.settle();
        }
        Ok(())
    }

    /// Lets sessions renew whose renewals nobody has waited for.
    fn catch_up(&mut self) {
        self.clients.catch_up(self.now, &mut self.service.world, &mut self.fold);
    }

    fn advance_clients(&mut self) {
        if self.clients.advance(self.now, &mut self.service.world, &mut self.fold) {
            self.share_keys();
            if self.some_come_or_go() {
                self.look_everywhere();
            }
        }
    }

    /// Notes which flows send at present: those that do not any more meet nothing. Returns whether some are other flows.
    fn some_come_or_go(&mut self) -> bool {
        let is_live = |flow: &usize| self.flows[*flow].is_live();
        if (0..self.flows.len()).filter(is_live).eq(self.live.iter().copied()) {
            return false;
        }
        let live: Vec<usize> = (0..self.flows.len()).filter(is_live).collect();
        for flow in std::mem::replace(&mut self.live, live) {
            if !self.flows[flow].is_live() {
                (0..self.plan.instances()).for_each(|instance| self.pause(instance, flow));
            }
        }
        // What a round is made of is the same for all shares of keys, while there is any of each.
        self.rounds.forget();
        true
    }

    /// The flows that send to an instance.
    fn flows_to(&self, instance: u32) -> impl Iterator<Item = usize> {
        self.live.iter().copied().filter(move |flow| self.flows[*flow].has(instance))
    }

    fn look_everywhere(&mut self) {
        for instance in 0..self.plan.instances() {
            self.look_again(instance);
        }
    }

    /// Draws what a flow has come to at all instances, so that what comes is counted apart.
    fn interrupt(&mut self, flow: usize) {
        if self.flows[flow].stretches == 0 {
            return;
        }
        for instance in 0..self.plan.instances() {
            let cell = self.cell(instance, flow);
            let goes_on = matches!(self.cells[cell].mode, Mode::Counted(_));
            if goes_on {
                self.pause(instance, flow);
            }
            if let Some(outcome) = self.cells[cell].stretch.as_ref().map(|stretch| stretch.outcome) {
                self.count(instance, flow);
                self.cells[cell].stretch = None;
                self.flows[flow].stretches -= 1;
                if goes_on {
                    self.resume(instance, flow, outcome);
                }
            }
        }
    }

    fn cell(&self, instance: u32, flow: usize) -> usize {
        instance as usize * self.flows.len() + flow
    }

    /// The alarm of an instance went off.
    fn wake(&mut self, instance: u32) {
        if self.instances[instance as usize].alarm <= self.now {
            self.instances[instance as usize].alarm = Time::NEVER;
            self.look_again(instance);
        }
    }

    /// Finds out what each flow meets at an instance from now on.
    fn look_again(&mut self, instance: u32) {
        let own = &self.instances[instance as usize];
        if self.now < own.lands {
            return self.alarm(instance, own.acts);
        }
        let timer_is_due = self.walk_on(instance);
        self.settle_down(instance);
        if timer_is_due {
            self.act(instance, None);
            return;
        }
        if self.leap(instance) {
            return;
        }
        if self.look_on_walk(instance) {
            return;
        }
        let mut until = Time::NEVER;
        for place in 0..self.live.len() {
            let flow = self.live[place];
            if self.flows[flow].has(instance) {
                until = until.min(self.look_at(instance, flow));
            }
        }
        self.alarm(instance, until);
    }

    /// Has an instance looked at again at this moment, if it is not before.
    fn alarm(&mut self, instance: u32, at: Time) {
        let own = &mut self.instances[instance as usize];
        if at < own.alarm {
            own.alarm = at;
            self.alarms.add(at, instance);
        }
    }

    /// Finds out what a flow that sends meets at an instance from now on, and returns until when.
    fn look_at(&mut self, instance: u32, flow: usize) -> Time {
        let it = &self.flows[flow];
        let Some(token) = &it.token else { return Time::NEVER };
        match self.service.verdict(instance, token, self.now) {
            Verdict::Ends(checked, until) => {
                let outcome = self.service.outcome(checked.and(it.claims));
                self.resume(instance, flow, outcome);
                until
            }
            Verdict::Waits(until) => self.wait(instance, flow).min(until),
            Verdict::Acts(until) => {
                self.await_next(instance, flow);
                until
            }
        }
    }

    /// From now on all requests of a flow end like this at an instance.
    #[inline]
    fn resume(&mut self, instance: u32, flow: usize, outcome: Outcome) {
        let cell = &self.cells[self.cell(instance, flow)];
        let goes_on = cell.stretch.as_ref().is_some_and(|stretch| self.may_go_on(flow, stretch, outcome));
        if !(goes_on && matches!(cell.mode, Mode::Counted(_))) {
            self.count_from_now(instance, flow, outcome, goes_on);
        }
    }

    /// From now on requests of a flow are counted at an instance, with those of its last stretch if that goes on.
    fn count_from_now(&mut self, instance: u32, flow: usize, outcome: Outcome, goes_on: bool) {
        let (now, cell) = (self.now, self.cell(instance, flow));
        let mode = self.cells[cell].mode;
        self.pause(instance, flow);
        let mass = self.flows[flow].requests.mass(now);
        // Nothing came but what has acted, if that is counted with the others.
        let bridges = goes_on && matches!(mode, Mode::Played(_)) && self.acts_alike(instance, flow, outcome);
        match &mut self.cells[cell].stretch {
            Some(stretch) if goes_on => stretch.go_on(now, mass, !bridges),
            stretch => {
                if stretch.is_some() {
                    self.count(instance, flow);
                } else {
                    self.flows[flow].stretches += 1;
                }
                self.cells[cell].stretch = Some(Stretch::new(outcome, now, mass));
            }
        }
        self.cells[cell].mode = Mode::Counted(mass);
        self.endanger(flow, outcome, true);
    }

    /// Whether requests of a flow that end like this are of one stretch with those before.
    fn may_go_on(&self, flow: usize, stretch: &Stretch, outcome: Outcome) -> bool {
        // Why valid tokens are denied may be another reason after every fetch.
        let may_last = matches!(outcome, Outcome::Accepted(_)) || self.flows[flow].ruling != Ruling::MustPass;
        may_last && stretch.outcome == outcome && stretch.gaps.len() < GAPS
    }

    /// Ends the mode that a flow is in at an instance.
    fn pause(&mut self, instance: u32, flow: usize) {
        let cell = self.cell(instance, flow);
        match std::mem::take(&mut self.cells[cell].mode) {
            Mode::Away | Mode::Played(_) => {}
            Mode::Counted(since) => {
                let mass = self.flows[flow].requests.mass(self.now);
                if let Some(stretch) = &mut self.cells[cell].stretch {
                    stretch.land(self.now, mass);
                    stretch.expected += mass - since;
                    (stretch.until, stretch.mass.1) = (self.now, mass);
                    let outcome = stretch.outcome;
                    self.endanger(flow, outcome, false);
                }
            }
            Mode::Follows(_) => {
                let mass = self.flows[flow].requests.mass(self.now);
                let leader = self.cells[cell].leader.and_then(|ticket| self.leaders.get_mut(&ticket));
                if let Some(leader) = leader {
                    leader.followed_until(self.now, mass);
                }
                if let Some(stretch) = &mut self.cells[cell].stretch {
                    stretch.is_broken = true;
                }
            }
        }
    }

    /// At one more instance, or one less, the requests of a flow end like this.
    fn endanger(&mut self, flow: usize, outcome: Outcome, more: bool) {
        let it = &mut self.flows[flow];
        if !it.is_of_sessions() || matches!(outcome, Outcome::Accepted(_)) {
            return;
        }
        let change = |count: u32| if more { count + 1 } else { count - 1 };
        if matches!(outcome, Outcome::Rejected(_)) {
            it.rejecting = change(it.rejecting);
        }
        it.denying = change(it.denying);
        let key = it.lane.key;
        let of_session = |flow: &&Flow| flow.is_of_sessions() && flow.lane.key == key;
        let each = 1.0 / f64::from(self.plan.traffic.sessions.max(1));
        let hazards = self.flows.iter().filter(of_session).map(|flow| {
            let per_second = self.plan.streams[flow.lane.stream].per_second * each;
            let part = |count: u32| f64::from(count) / f64::from(flow.instances.max(1));
            let denied = if flow.ruling == Ruling::MustPass { part(flow.denying) } else { 0.0 };
            (per_second * part(flow.rejecting), per_second * three_in_a_row(denied))
        });
        let hazard = hazards.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        self.catch_up();
        self.clients.set_hazard(key, self.now, hazard);
    }

    /// Counts the stretch of a flow at an instance, if there is one.
    fn count(&mut self, instance: u32, flow: usize) {
        let cell = self.cell(instance, flow);
        if let Some(stretch) = &self.cells[cell].stretch {
            let rng = &mut self.instances[instance as usize].rng;
            self.counts.add(&mut self.fold, (instance, &mut self.flows[flow]), stretch, rng);
        }
    }

    /// Notes what has ended, and looks again at the instances at which something happened.
    fn settle(&mut self) {
        self.catch_up();
        for (ticket, outcome) in self.service.ended() {
            self.ended(ticket, outcome);
        }
        for instance in self.service.touched() {
            // If it walked, it has got another cache.
            self.instances[instance as usize].walk = None;
            self.look_again(instance);
        }
    }
}

/// When something changes that the plan says: keys, faults, streams, and what is measured apart.
fn turns(plan: &Plan, start: Time) -> VecDeque<Turn> {
    let keys = plan.timeline.events().iter().map(|timed| timed.at);
    let streams = plan.streams.iter().flat_map(|stream| [stream.from, stream.until]);
    let disturbances = plan.disturbances.iter().flat_map(|it| [it.from, it.curable_from]);
    let gentle = keys.chain(streams).chain(disturbances).chain([start, Time::ZERO, plan.end()]);
    let bursts = plan.streams.iter().filter_map(|stream| stream.burst).map(|(at, _)| at);
    let restarts = plan.runbook.restarts.iter().map(|(at, _)| *at);
    // Where both come at once, the turn is abrupt.
    let all: BTreeMap<Time, bool> =
        gentle.map(|at| (at, false)).chain(restarts.chain(bursts).map(|at| (at, true))).collect();
    all.range(start..=plan.end()).map(|(at, is_abrupt)| Turn { at: *at, is_abrupt: *is_abrupt }).collect()
}

/// How often a run of three denials ends, a request, when each is denied with this probability.
fn three_in_a_row(denied: f64) -> f64 {
    if denied >= 1.0 { 1.0 / 3.0 } else { denied.powi(3) * (1.0 - denied) / (1.0 - denied.powi(3)) }
}
