//! Requests that wait for keys: those that are played, and those that came meanwhile and share their fate.

use keyquake_core::{Span, Time};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};

use super::counts::poisson;
use super::{Mode, ROUNDING, Simulation};
use crate::arrivals::Arrival;
use crate::observe::{Batch, Observation, Outcome, WallTimes};
use crate::oracle::TokenFacts;
use crate::simulate::fleet::Ticket;

/// How often a draw is tried that may not fit.
const TRIES: usize = 100;
/// In how many groups those that wait for one answer are counted at least, and how many a step has at most.
const GROUPS: u64 = 8;

/// A request that was played and has no answer, and those that wait with it.
pub(super) struct Leader {
    instance: u32,
    flow: usize,
    arrival: Arrival,
    token: TokenFacts,
    /// Which of its session's tokens it carries, if a session's.
    token_number: u64,
    /// How many follow it, as expected, and in which time they came.
    followers: f64,
    from: Time,
    until: Time,
    /// What [`super::Clients::survival`] said when it came.
    survival: f64,
    given_up: bool,
}

/// Those that wait for keys at an instance without being played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// How many there is room for.
    room: usize,
    /// How many are expected when the last of them comes: a sum of as many exponential amounts.
    limit: f64,
    is_full: bool,
}

impl Simulation<'_> {
    /// Plays a request.
    pub(super) fn send(&mut self, flow: usize, instance: u32) {
        self.get_up(instance);
        let ticket = self.started;
        self.started += 1;
        self.catch_up();
        let it = &self.flows[flow];
        let Some(token) = it.token(&self.service.world, ticket) else { return };
        let holder = if it.is_of_sessions() { self.clients.any_holder(it.lane.key) } else { None };
        let arrival = Arrival {
            at: self.now,
            stream: it.lane.stream,
            session: holder.map(|(session, _)| session),
            replica: instance / self.plan.workers,
            connection: 0,
        };
        let leader = Leader {
            instance,
            flow,
            arrival,
            token: token.facts,
            token_number: holder.map_or(0, |(_, number)| number),
            followers: 0.0,
            from: self.now,
            until: self.now,
            survival: self.clients.survival(it.lane.key),
            given_up: false,
        };
        self.leaders.insert(ticket, leader);
        self.instances[instance as usize].leaders.insert(ticket);
        let cell = self.cell(instance, flow);
        // Who followed another stays with that one.
        if matches!(self.cells[cell].mode, Mode::Follows(_)) {
            self.pause(instance, flow);
        }
        self.service.enter(ticket, token, instance, self.now);
        self.cells[cell].leader = Some(ticket);
        self.settle();
    }

    /// The requests of a flow wait for a fetch: with a leader, if one of them waits already.
    pub(super) fn wait(&mut self, instance: u32, flow: usize, room: usize) -> Time {
        let cell = self.cell(instance, flow);
        let is_full = self.instances[instance as usize].crowd.is_some_and(|crowd| crowd.is_full);
        if self.cells[cell].leader.is_none() && !is_full {
            self.await_next(instance, flow);
            return Time::NEVER;
        }
        let (following, per_second) = self.following(instance);
        let own = &mut self.instances[instance as usize];
        let crowd = own.crowd.get_or_insert_with(|| Crowd::new(room, &mut own.rng));
        // Each that is played takes the place of one that is not.
        let left = crowd.limit - (crowd.room - room.min(crowd.room)) as f64 - following;
        if crowd.is_full || left <= 0.0 {
            crowd.is_full = true;
            self.resume(instance, flow, self.service.shed());
            return Time::NEVER;
        }
        if !matches!(self.cells[cell].mode, Mode::Follows(_)) {
            self.pause(instance, flow);
            self.cells[cell].mode = Mode::Follows(self.flows[flow].requests.mass(self.now));
        }
        let per_second = per_second.max(self.flows[flow].requests.per_second());
        self.now + Span::from_secs(1).scale(left / per_second) + ROUNDING
    }

    /// How many follow leaders at an instance, and how many more each second.
    fn following(&self, instance: u32) -> (f64, f64) {
        let leaders = self.instances[instance as usize].leaders.iter();
        let leaders = leaders.filter_map(|ticket| self.leaders.get(ticket));
        let closed: f64 = leaders.map(|leader| leader.followers).sum();
        self.flows.iter().enumerate().fold(
            (closed, 0.0),
            |(following, per_second), (number, flow)| match self.cells[self.cell(instance, number)].mode {
                Mode::Follows(since) => (
                    following + flow.requests.mass(self.now) - since,
                    per_second + flow.requests.per_second(),
                ),
                _ => (following, per_second),
            },
        )
    }

    pub(super) fn ended(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(leader) = self.leaders.get_mut(&ticket) else { return };
        if !leader.given_up {
            leader.given_up = outcome == Outcome::TimedOut;
            self.fold.take(&Observation {
                arrival: leader.arrival,
                instance: leader.instance,
                token: leader.token,
                sent: None,
                ended: self.now,
                outcome,
            });
            if let (Some(session), Outcome::Rejected(_)) = (leader.arrival.session, outcome) {
                self.clients.reject(session, leader.token_number, self.now);
            }
            if outcome == Outcome::TimedOut {
                return;
            }
        }
        let (instance, flow) = (leader.instance, leader.flow);
        let cell = self.cell(instance, flow);
        if self.cells[cell].leader == Some(ticket) {
            if matches!(self.cells[cell].mode, Mode::Follows(_)) {
                self.pause(instance, flow);
            }
            self.cells[cell].leader = None;
        }
        if let Some(leader) = self.leaders.remove(&ticket) {
            self.follow(&leader, outcome);
        }
        let own = &mut self.instances[instance as usize];
        own.leaders.remove(&ticket);
        if own.leaders.is_empty() {
            own.crowd = None;
        }
    }

    /// Those who waited with a request meet what it has met, unless they have lost patience.
    fn follow(&mut self, leader: &Leader, outcome: Outcome) {
        let own = &mut self.instances[leader.instance as usize];
        let count = own.crowd.map_or(0, |crowd| crowd.count(leader.followers, &mut own.rng));
        let rng = &mut own.rng;
        let steps = leader.until.since(leader.from).as_secs_f64() / self.fold.track_step.as_secs_f64();
        let groups = count.min(GROUPS * (1 + steps as u64));
        let length = leader.until.since(leader.from).scale(1.0 / groups.max(1) as f64);
        // Rounded at random, or the first groups would be the smallest.
        let luck: f64 = rng.random();
        let by = |group: u64| ((count as f64 * group as f64 / groups as f64) + luck) as u64;
        for group in 0..groups {
            let from = leader.from + Span::from_nanos(length.as_nanos().saturating_mul(group));
            let at = from + length.scale(rng.random());
            let count = by(group + 1) - by(group);
            let patience = at + self.plan.traffic.timeout;
            let (outcome, ended) =
                if patience <= self.now { (Outcome::TimedOut, patience) } else { (outcome, self.now) };
            let waited = std::time::Duration::from_nanos(ended.since(at).as_nanos());
            let waited = outcome.status().map(|_| waited);
            let batch = Batch {
                lane: self.flows[leader.flow].lane,
                ruling: self.fold.rule(&leader.token, at, ended),
                outcome,
                count,
                first: at,
                last: at,
                wall: WallTimes { lateness: None, latency: waited, service: waited },
            };
            self.fold.count(&batch);
            self.fold.count_at(leader.instance, &batch, ended);
            if self.flows[leader.flow].is_of_sessions() && matches!(outcome, Outcome::Rejected(_)) {
                let waited = ended.since(at).as_secs_f64() / ended.since(leader.from).as_secs_f64();
                self.clients.rejected(leader.token.key, count, (leader.survival, waited), self.now);
            }
        }
    }
}

impl Leader {
    /// So many more follow it, as expected, who came by then.
    pub(super) fn followed_by(&mut self, more: f64, until: Time) {
        (self.followers, self.until) = (self.followers + more, until);
    }
}

impl Crowd {
    fn new(room: usize, rng: &mut ChaCha8Rng) -> Self {
        let limit = Gamma::new(room as f64, 1.0).map_or(0.0, |gamma| gamma.sample(rng));
        Self { room, limit, is_full: false }
    }

    /// How many came, of so many expected. When it is full, their sum is known.
    fn count(self, expected: f64, rng: &mut ChaCha8Rng) -> u64 {
        let room = self.room as u64;
        if !self.is_full {
            let fits = |count: &u64| *count < room;
            let mut draws = std::iter::repeat_with(|| poisson(expected, rng)).take(TRIES);
            return draws.find(fits).unwrap_or(room.saturating_sub(1));
        }
        let share = self.room as f64 * expected / self.limit;
        (share + rng.random::<f64>()) as u64
    }
}
