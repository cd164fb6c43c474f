//! One event for each request: slow, and simple enough to believe. The other engine is held against it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use keyquake_core::{Answer, Event, KeyVersion, Keys, Rejection, Time, UnixTime};
use keyquake_idp::{AppliedEvent, KeyId, Pace};
use keyquake_reports::record::Engine;

use super::fleet::{Fleet, Pending, Reaction, Ticket};
use super::token::Token;
use super::world::World;
use crate::arrivals::{Arrival, Arrivals};
use crate::measure::Run;
use crate::observe::{Fold, Observation, Outcome};
use crate::oracle::TokenFacts;
use crate::plan::Plan;
use crate::sessions::{Held, Renewal, Sessions};
use crate::sut::{self, candidates};
use crate::tokens;

/// The date at which event time starts: any will do, as long as it is always the same.
const EPOCH: UnixTime = UnixTime(1_800_000_000);

/// Simulates a plan request by request.
///
/// # Errors
///
/// The system refuses randomness for keys.
pub(crate) fn run<'p>(plan: &'p Plan, command: &str) -> anyhow::Result<Run<'p>> {
    let mut simulation = Simulation::new(plan)?;
    simulation.play()?;
    let (jwks, jwks_dropped) = simulation.fleet.into_log();
    let events = plan.timeline.events().iter();
    let within = events.filter(|event| Time::ZERO - plan.warmup < event.at && event.at < plan.end());
    Ok(Run {
        plan,
        engine: Engine::Simulated,
        command: command.to_owned(),
        fold: simulation.fold,
        applied: within
            .map(|timed| AppliedEvent { event: timed.event, planned: timed.at, applied: timed.at })
            .collect(),
        restarted: plan.runbook.restarts.iter().map(|(at, _)| *at).collect(),
        jwks,
        jwks_dropped,
        ended: plan.end(),
        cut_short: None,
    })
}

struct Simulation<'p> {
    plan: &'p Plan,
    now: Time,
    world: World,
    fleet: Fleet,
    sessions: Sessions<TokenFacts>,
    fold: Fold,
    agenda: BinaryHeap<Reverse<Appointment>>,
    appointments: u64,
    /// Requests that have not ended.
    under_way: BTreeMap<Ticket, Request>,
    started: Ticket,
    /// Tokens that are sent again and again, by stream and key.
    repeated: BTreeMap<(usize, KeyId), TokenFacts>,
}

struct Request {
    arrival: Arrival,
    token: Token,
    /// Which of its session's tokens it carries, if a session's.
    token_number: u64,
    instance: u32,
    /// Which cache it asks: it stays with that one when its instance restarts.
    cache: usize,
    /// The keys that did not verify it, once it has asked for others.
    tried: Option<KeyVersion>,
}

/// Something that will happen. Of two in one instant, the one that was arranged first comes first.
struct Appointment {
    at: Time,
    number: u64,
    what: Due,
}

enum Due {
    Restart(u32),
    Fleet(Pending),
    Renewed(Renewal, Option<TokenFacts>),
    /// The client has waited long enough.
    GiveUp(Ticket),
}

impl<'p> Simulation<'p> {
    fn new(plan: &'p Plan) -> anyhow::Result<Self> {
        let pace = Pace::new(1.0, EPOCH)?;
        let world = World::new(plan, pace)?;
        let start = Time::ZERO - plan.warmup;
        let first_key = tokens::signing_key(&plan.timeline, start);
        let Ok(sessions) = Sessions::log_in(plan, |_, age| {
            let expires = pace.unix(start) - age + plan.token_lifetime;
            Ok::<_, std::convert::Infallible>(TokenFacts { key: first_key, expires, forged: None })
        });
        let mut simulation = Self {
            plan,
            now: start,
            fleet: Fleet::new(plan, &world)?,
            world,
            sessions,
            fold: Fold::new(plan, pace),
            agenda: BinaryHeap::new(),
            appointments: 0,
            under_way: BTreeMap::new(),
            started: 0,
            repeated: BTreeMap::new(),
        };
        for (at, replica) in &plan.runbook.restarts {
            simulation.arrange(*at, Due::Restart(*replica));
        }
        Ok(simulation)
    }

    /// Plays all requests to their ends.
    fn play(&mut self) -> anyhow::Result<()> {
        let mut arrivals = Arrivals::new(self.plan).peekable();
        loop {
            let arrival = arrivals.peek().map(|arrival| arrival.at);
            if arrival.is_none() && self.under_way.is_empty() {
                return Ok(());
            }
            let renewal = self.sessions.next_due().filter(|_| arrival.is_some());
            let due = self.agenda.peek().map(|Reverse(appointment)| appointment.at);
            let next = [due, renewal, arrival].into_iter().flatten().min().unwrap_or(self.now);
            self.now = self.now.max(next);
            if due.is_some_and(|at| at <= next) {
                if let Some(Reverse(appointment)) = self.agenda.pop() {
                    self.keep(appointment.what)?;
                }
            } else if renewal.is_some_and(|at| at <= next) {
                self.renew_sessions();
            } else if let Some(arrival) = arrivals.next() {
                self.send(arrival);
            }
        }
    }

    fn arrange(&mut self, at: Time, what: Due) {
        self.appointments += 1;
        self.agenda.push(Reverse(Appointment { at, number: self.appointments, what }));
    }

    fn keep(&mut self, due: Due) -> anyhow::Result<()> {
        match due {
            Due::Restart(replica) => {
                for instance in replica * self.plan.workers..(replica + 1) * self.plan.workers {
                    self.fleet.restart(self.plan, instance)?;
                }
            }
            Due::Fleet(pending) => {
                let reaction = self.fleet.resume(pending, self.now, &mut self.world);
                self.carry_out(reaction);
            }
            Due::Renewed(renewal, Some(token)) => self.sessions.renewed(renewal.session, token, self.now),
            Due::Renewed(renewal, None) => self.sessions.not_renewed(renewal, self.now),
            Due::GiveUp(ticket) => self.end(ticket, Outcome::TimedOut),
        }
        Ok(())
    }

    fn renew_sessions(&mut self) {
        for renewal in self.sessions.due(self.now) {
            self.fold.token_requested(self.now, renewal.forced);
            let issued = self.world.issue(self.now);
            let ready = issued.at.from(self.now) + self.plan.fetch_time;
            let patience = self.now + self.plan.traffic.timeout;
            let token = issued.key.filter(|_| ready < patience).map(|key| TokenFacts {
                key,
                expires: self.world.pace().unix(self.now) + self.plan.token_lifetime,
                forged: None,
            });
            self.arrange(ready.min(patience), Due::Renewed(renewal, token));
        }
    }

    fn send(&mut self, arrival: Arrival) {
        let Some((facts, token_number)) = self.token_for(&arrival) else { return };
        let ticket = self.started;
        self.started += 1;
        let Some(token) = Token::new(facts, &self.world, ticket) else { return };
        let workers = self.plan.workers;
        let instance = arrival.replica * workers + arrival.connection % workers;
        let cache = self.fleet.cache_of(instance);
        let class = token.class.clone();
        let request = Request { arrival, token, token_number, instance, cache, tried: None };
        if self.under_way.len() >= self.plan.traffic.max_in_flight as usize {
            self.note(&request, Outcome::Shed);
            return;
        }
        self.under_way.insert(ticket, request);
        match class {
            Some(class) => {
                let reaction =
                    self.fleet.handle(cache, Event::Lookup { class, ticket }, self.now, &mut self.world);
                self.carry_out(reaction);
            }
            None => self.refuse(ticket, Rejection::AlgorithmDenied),
        }
        if self.under_way.contains_key(&ticket) {
            self.arrange(self.now + self.plan.traffic.timeout, Due::GiveUp(ticket));
        }
    }

    /// What a request carries: its session's token, or one that is made for it. `None` for a login that no key signs.
    fn token_for(&mut self, arrival: &Arrival) -> Option<(TokenFacts, u64)> {
        if let Some(session) = arrival.session {
            let Held { token, number } = self.sessions.held(session);
            return Some((*token, *number));
        }
        let stream = &self.plan.streams[arrival.stream];
        let key = tokens::signer(stream.token, self.world.timeline(), arrival.at)?;
        let issued = self.world.pace().unix(arrival.at);
        let made = || tokens::facts(self.plan, stream, key, issued);
        Some((
            if stream.fresh {
                made()
            } else {
                *self.repeated.entry((arrival.stream, key)).or_insert_with(made)
            },
            0,
        ))
    }

    fn carry_out(&mut self, reaction: Reaction) {
        for (at, pending) in reaction.pending {
            self.arrange(at, Due::Fleet(pending));
        }
        for (ticket, answer) in reaction.answers {
            self.answered(ticket, answer);
        }
    }

    /// Goes on with a request whose lookup was answered, as a validator does.
    fn answered(&mut self, ticket: Ticket, answer: Answer<()>) {
        // The client may be gone.
        let Some(request) = self.under_way.get_mut(&ticket) else { return };
        match candidates(answer) {
            Ok(keys) if request.token.is_signed_by(&keys) => {
                let date = self.world.pace().unix(self.now);
                match request.token.check(date, self.plan.policy.leeway) {
                    Ok(()) => self.end(ticket, Outcome::Accepted(200)),
                    Err(rejection) => self.refuse(ticket, rejection),
                }
            }
            Ok(keys) if request.tried.is_none() => self.ask_for_others(ticket, &keys),
            Ok(_) => self.refuse(ticket, Rejection::BadSignature),
            Err(rejection) => self.refuse(ticket, rejection),
        }
    }

    fn ask_for_others(&mut self, ticket: Ticket, keys: &Keys<()>) {
        let Some(request) = self.under_way.get_mut(&ticket) else { return };
        let (tried, cache) = (keys.version(), request.cache);
        request.tried = Some(tried);
        let Some(class) = request.token.class.clone() else { return };
        let event = Event::BadSignature { class, tried, ticket };
        let reaction = self.fleet.handle(cache, event, self.now, &mut self.world);
        self.carry_out(reaction);
    }

    fn refuse(&mut self, ticket: Ticket, rejection: Rejection) {
        let status = sut::status(rejection, &self.plan.policy);
        self.end(ticket, Outcome::of_status(status.as_u16()));
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(request) = self.under_way.remove(&ticket) {
            self.note(&request, outcome);
        }
    }

    /// Folds a request away and lets its session react.
    fn note(&mut self, request: &Request, outcome: Outcome) {
        let seen = Observation {
            arrival: request.arrival,
            instance: request.instance,
            token: request.token.facts,
            // It left when it was planned, which says nothing about a generator.
            sent: None,
            ended: self.now,
            outcome,
        };
        let denied = self.fold.take(&seen);
        if let Some(session) = request.arrival.session
            && self.sessions.ended(session, request.token_number, (outcome, denied), self.now)
        {
            self.fold.locked_out(self.now, session);
        }
    }
}

impl PartialEq for Appointment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Appointment {}

impl PartialOrd for Appointment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Appointment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
