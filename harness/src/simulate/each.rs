//! One event for each request: slow, and simple enough to believe.

use std::collections::BTreeMap;
use std::convert::Infallible;

use keyquake_core::Time;
use keyquake_idp::{KeyId, Pace};

use super::EPOCH;
use super::agenda::Agenda;
use super::fleet::Ticket;
use super::service::Service;
use super::token::{Name, Token};
use super::world::World;
use crate::arrivals::{Arrival, Arrivals};
use crate::measure::Run;
use crate::observe::{Fold, Observation, Outcome};
use crate::oracle::TokenFacts;
use crate::plan::Plan;
use crate::sessions::{Held, Renewal, Sessions};
use crate::tokens;

/// Simulates a plan request by request.
///
/// # Errors
///
/// The system has no randomness for keys.
pub(super) fn run<'p>(plan: &'p Plan, command: &str) -> anyhow::Result<Run<'p>> {
    let mut simulation = Simulation::new(plan)?;
    simulation.play()?;
    Ok(super::conclude(plan, command, simulation.fold, simulation.service.into_parts().1))
}

struct Simulation<'p> {
    plan: &'p Plan,
    now: Time,
    service: Service<'p>,
    sessions: Sessions<TokenFacts>,
    /// Tokens that sessions have asked for.
    renewals: Agenda<(Renewal, Option<TokenFacts>)>,
    fold: Fold,
    /// Requests that have not ended.
    under_way: BTreeMap<Ticket, Request>,
    started: Ticket,
    /// Tokens that are sent again and again, by stream and key.
    repeated: BTreeMap<(usize, KeyId), TokenFacts>,
}

struct Request {
    arrival: Arrival,
    instance: u32,
    token: TokenFacts,
    name: Name,
}

impl<'p> Simulation<'p> {
    fn new(plan: &'p Plan) -> anyhow::Result<Self> {
        let pace = Pace::new(1.0, EPOCH)?;
        let start = Time::ZERO - plan.warmup;
        let first_key = tokens::signing_key(&plan.timeline, start);
        let Ok(sessions) = Sessions::log_in(plan, plan.traffic.sessions, |_, age| {
            let expires = pace.unix(start) - age + plan.token_lifetime;
            Ok::<_, Infallible>(TokenFacts { key: first_key, expires, forged: None })
        });
        Ok(Self {
            plan,
            now: start,
            service: Service::new(plan, World::new(plan, pace)?, &plan.runbook.restarts)?,
            sessions,
            renewals: Agenda::default(),
            fold: Fold::new(plan, pace),
            under_way: BTreeMap::new(),
            started: 0,
            repeated: BTreeMap::new(),
        })
    }

    /// Plays all requests to their ends.
    fn play(&mut self) -> anyhow::Result<()> {
        let mut arrivals = Arrivals::new(self.plan).peekable();
        loop {
            let arrival = arrivals.peek().map(|arrival| arrival.at);
            if arrival.is_none() && self.service.is_idle() {
                return Ok(());
            }
            // After the last request nobody needs another token.
            let asks = self.sessions.next_due().filter(|_| arrival.is_some());
            let others = [self.service.next(), self.renewals.next(), asks].into_iter().flatten().min();
            self.now = self.now.max([others, arrival].into_iter().flatten().min().unwrap_or(self.now));
            // Of what falls into one instant, the requests come last.
            if others.is_some_and(|at| at <= self.now) {
                self.advance()?;
            } else if let Some(arrival) = arrivals.next() {
                self.send(arrival);
            }
        }
    }

    /// Everything that is due, but requests.
    fn advance(&mut self) -> anyhow::Result<()> {
        self.service.advance(self.now)?;
        self.settle();
        while let Some((renewal, token)) = self.renewals.due(self.now) {
            match token {
                Some(token) => self.sessions.renewed(renewal.session, token, self.now),
                None => self.sessions.not_renewed(renewal, self.now),
            }
        }
        while let Some(renewal) = self.sessions.due(self.now) {
            self.renew(renewal);
        }
        Ok(())
    }

    fn renew(&mut self, renewal: Renewal) {
        self.fold.token_requested(self.now, renewal.forced);
        let world = &mut self.service.world;
        let issued = world.issue(self.now);
        let ready = issued.at.from(self.now);
        let patience = self.now + self.plan.traffic.timeout;
        let expires = world.pace().unix(self.now) + self.plan.token_lifetime;
        let token = issued.key.filter(|_| ready < patience);
        let token = token.map(|key| TokenFacts { key, expires, forged: None });
        self.renewals.add(ready.min(patience), (renewal, token));
    }

    fn send(&mut self, arrival: Arrival) {
        let ticket = self.started;
        let Some((facts, name)) = self.token_for(&arrival, ticket) else { return };
        self.started += 1;
        let Some(token) = Token::new(facts, &self.service.world, ticket) else { return };
        let instance = arrival.replica * self.plan.workers + arrival.connection % self.plan.workers;
        self.under_way.insert(ticket, Request { arrival, instance, token: facts, name });
        self.service.enter(ticket, token.named(name), instance, self.now);
        self.settle();
    }

    /// What a request carries: its session's token, or one that is made for it. `None` for a login that no key signs.
    fn token_for(&mut self, arrival: &Arrival, ticket: Ticket) -> Option<(TokenFacts, Name)> {
        if let Some(session) = arrival.session {
            let Held { token, number } = self.sessions.held(session);
            return Some((*token, Name::Held(session, *number)));
        }
        let stream = &self.plan.streams[arrival.stream];
        let key = tokens::signer(stream.token, &self.plan.timeline, arrival.at)?;
        let issued = self.service.world.pace().unix(arrival.at);
        let made = || tokens::facts(self.plan, stream, key, issued);
        Some(if stream.fresh {
            (made(), Name::Fresh(ticket))
        } else {
            let token = *self.repeated.entry((arrival.stream, key)).or_insert_with(made);
            (token, Name::Repeated(arrival.stream, key))
        })
    }

    /// Folds away what has ended, and lets sessions react.
    fn settle(&mut self) {
        for (ticket, outcome) in self.service.ended() {
            if let Some(request) = self.under_way.remove(&ticket) {
                self.note(&request, outcome);
            }
        }
    }

    fn note(&mut self, request: &Request, outcome: Outcome) {
        let denied = self.fold.take(&Observation {
            arrival: request.arrival,
            instance: request.instance,
            token: request.token,
            // It left when it was planned, which says nothing about a generator.
            sent: None,
            ended: self.now,
            outcome,
        });
        if let Name::Held(session, number) = request.name
            && self.sessions.ended(session, number, (outcome, denied), self.now)
        {
            self.fold.locked_out(self.now, session);
        }
    }
}
