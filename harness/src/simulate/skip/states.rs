//! What caches at rest go through: found out once, however many of them come by.
//!
//! A cache without a fetch under way is in a state, whatever its past and whenever that is. What tokens meet from then on
//! follows from the time that passes, in phases; and what a fetch leads to from who causes it in which phase, and from how
//! it is served. That is tried on a copy, early and late in the phase: where both come to the same, so does all between.

use keyquake_core::{Answer, Decision, Event, FetchId, KeyCache, KeyVersion, Rejection, Rest, Span, Time};

use crate::simulate::fleet::Ticket;
use crate::simulate::service::{Verdict, verdict};
use crate::simulate::token::Token;
use crate::simulate::world::Served;
use crate::sut::candidates;

/// The most states that are known, phases that one has, and answers of the IdP that are told apart.
const MAX_STATES: usize = 256;
const MAX_PHASES: usize = 8;
const MAX_SERVED: usize = 64;
/// Which part of these is few.
const FEW: usize = 4;

/// The states of caches of one policy.
pub(super) struct States {
    /// A cache of the policy, to try things on.
    blank: KeyCache<(), Ticket>,
    kinds: Vec<[Token; 2]>,
    states: Vec<State>,
    steps: Vec<Found>,
    served: Vec<Served>,
    /// No cache waits longer for anything.
    longest: Span,
}

/// Names a state.
pub(super) type StateId = usize;
/// Names a step.
pub(super) type StepId = usize;

struct State {
    rest: Rest<()>,
    phases: Vec<Phase>,
    /// After this long it acts by itself.
    wakes: Option<Span>,
    steps: Vec<(Deed, Option<StepId>)>,
}

/// A part of the time after a cache has entered a state.
pub(super) struct Phase {
    pub(super) from: Span,
    /// What becomes of the signature of a token of each kind; `None` when the next one acts.
    pub(super) meets: Vec<Option<Result<(), Rejection>>>,
}

/// What makes a cache act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    /// A token of this kind.
    Token(usize),
    Timer,
}

/// A cache acts in this phase, and the fetch that it starts is served so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) phase: usize,
    pub(super) actor: Actor,
    /// Names what was served.
    pub(super) served: usize,
}

/// What a deed leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The state that the cache enters when the fetch has ended.
    pub(super) to: StateId,
    /// Until when that holds.
    pub(super) holds: Holds,
    /// What becomes of the token that acts.
    pub(super) actor: Option<Acted>,
    pub(super) took: Span,
}

/// What becomes of a token that acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acted {
    /// What becomes of its signature.
    pub(super) checked: Result<(), Rejection>,
    /// Whether it waits for the fetch.
    pub(super) waits: bool,
}

/// Until when a state holds that a step leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// As long as the state before.
    AsBefore,
    /// So long after the cache had got to the state before.
    For(Span),
    Forever,
}

/// A step that was found.
struct Found {
    step: Step,
    /// What tokens of each kind meet while the fetch is under way, as far as somebody has asked; `None` when that is not
    /// foreseen.
    during: Vec<Option<Option<During>>>,
    /// Early and late in the phase.
    flights: [Flight; 2],
    served: usize,
}

/// What tokens meet that come while a fetch is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    Ends(Result<(), Rejection>),
    /// They wait until it has ended.
    Joins(Result<(), Rejection>),
    /// They start another.
    Acts,
}

impl During {
    /// What becomes of their signatures; `None` if the next one acts.
    pub(super) fn checked(self) -> Option<Result<(), Rejection>> {
        match self {
            Self::Ends(checked) | Self::Joins(checked) => Some(checked),
            Self::Acts => None,
        }
    }
}

impl States {
    /// No state is known yet. `kinds` has two tokens of each kind, which name different keys if all of the kind do.
    pub(super) fn new(blank: KeyCache<(), Ticket>, kinds: Vec<[Token; 2]>, longest: Span) -> Self {
        Self { blank, kinds, states: Vec::new(), steps: Vec::new(), served: Vec::new(), longest }
    }

    /// Whether there are so few of them that another run has as much room as this had, or nearly: where each run has states of
    /// its own, those of another are in the way.
    pub(super) fn are_few(&self) -> bool {
        self.states.len() <= MAX_STATES / FEW && self.served.len() <= MAX_SERVED / FEW
    }

    /// Whether caches were followed for so long.
    pub(super) fn reach(&self, longest: Span) -> bool {
        self.longest >= longest
    }

    /// The state of a cache at rest; `None` when it would be one too many.
    pub(super) fn of(&mut self, rest: Rest<()>) -> Option<StateId> {
        if let Some(known) = self.states.iter().position(|state| state.rest == rest) {
            return Some(known);
        }
        if self.states.len() == MAX_STATES {
            return None;
        }
        let cache = self.cache(&rest);
        let wakes = cache.deadline().map(|deadline| deadline.at.since(Time::ZERO));
        let phases = self.phases_of(&cache, wakes)?;
        self.states.push(State { rest, phases, wakes, steps: Vec::new() });
        Some(self.states.len() - 1)
    }

    pub(super) fn rest(&self, state: StateId) -> &Rest<()> {
        &self.states[state].rest
    }

    pub(super) fn phases(&self, state: StateId) -> &[Phase] {
        &self.states[state].phases
    }

    /// After this long in a state a cache acts by itself.
    pub(super) fn wakes(&self, state: StateId) -> Option<Span> {
        self.states[state].wakes
    }

    /// When a phase is over.
    pub(super) fn end(&self, state: StateId, phase: usize) -> Span {
        let State { phases, wakes, .. } = &self.states[state];
        phases.get(phase + 1).map(|next| next.from).or(*wakes).unwrap_or(self.longest)
    }

    /// Names what was served; `None` when there are too many such names.
    pub(super) fn served(&mut self, served: &Served) -> Option<usize> {
        if let Some(known) = self.served.iter().position(|known| known == served) {
            return Some(known);
        }
        let has_room = self.served.len() < MAX_SERVED;
        has_room.then(|| {
            self.served.push(served.clone());
            self.served.len() - 1
        })
    }

    /// What a deed leads to whose fetch ends within its phase; `None` when that depends on more than on the deed, or takes
    /// more than one fetch.
    pub(super) fn step(&mut self, state: StateId, deed: Deed) -> Option<StepId> {
        if let Some((_, step)) = self.states[state].steps.iter().find(|(known, _)| *known == deed) {
            return *step;
        }
        let step = self.find_step(state, deed).map(|found| {
            self.steps.push(found);
            self.steps.len() - 1
        });
        self.states[state].steps.push((deed, step));
        step
    }

    pub(super) fn found(&self, step: StepId) -> &Step {
        &self.steps[step].step
    }

    /// What becomes of a token of a kind that has the fetch of a step begin, in its place.
    pub(super) fn acted(&mut self, state: StateId, phase: usize, step: StepId, kind: usize) -> Option<Acted> {
        let deed = Deed { phase, actor: Actor::Token(kind), served: self.steps[step].served };
        let step = self.step(state, deed)?;
        self.found(step).actor
    }

    /// What tokens of a kind meet while the fetch of a step is under way; `None` when that is not foreseen.
    pub(super) fn during(&mut self, step: StepId, kind: usize) -> Option<During> {
        if let Some(known) = self.steps[step].during[kind] {
            return known;
        }
        let Found { flights: [early, late], served, .. } = &self.steps[step];
        let meanwhile = |flight: &Flight| flight.meanwhile(&self.kinds[kind][0], &self.served[*served]);
        let during = meanwhile(early).filter(|during| meanwhile(late) == Some(*during));
        self.steps[step].during[kind] = Some(during);
        during
    }

    fn find_step(&mut self, state: StateId, deed: Deed) -> Option<Found> {
        let State { rest, phases, wakes, .. } = &self.states[state];
        let served = &self.served[deed.served];
        let from = phases[deed.phase].from;
        let (early, late) = match deed.actor {
            Actor::Timer => ((*wakes)?, (*wakes)?),
            Actor::Token(_) => (from, self.end(state, deed.phase).saturating_sub(served.took()?)),
        };
        if late < early {
            return None;
        }
        let cache = self.cache(rest);
        let flights = [
            self.perform(&cache, deed.actor, early, served)?,
            self.perform(&cache, deed.actor, late, served)?,
        ];
        let [Flight { landing, .. }, other] = &flights;
        if *landing != other.landing {
            return None;
        }
        let took = served.took()?;
        let Landing { rest, holds, actor } = landing.clone();
        let to = self.of(rest)?;
        let during = vec![None; self.kinds.len()];
        Some(Found { step: Step { to, holds, actor, took }, during, flights, served: deed.served })
    }

    /// A cache that rests so, and for so long that it makes no difference.
    fn cache(&self, rest: &Rest<()>) -> KeyCache<(), Ticket> {
        let mut cache = self.blank.clone();
        cache.resume((rest, self.far()), Time::ZERO);
        cache
    }

    /// A moment later than all that matters, and before [`Time::NEVER`].
    fn far(&self) -> Time {
        Time::ZERO + self.longest.scale(2.0)
    }

    fn phases_of(&self, cache: &KeyCache<(), Ticket>, wakes: Option<Span>) -> Option<Vec<Phase>> {
        let mut phases = Vec::new();
        let mut at = Time::ZERO;
        let end = Time::ZERO + wakes.unwrap_or(self.longest);
        while at < end {
            if phases.len() == MAX_PHASES {
                return None;
            }
            let mut next = Time::NEVER;
            let mut meets = Vec::with_capacity(self.kinds.len());
            for [token, _] in &self.kinds {
                let (met, until) = match verdict(cache, token, at) {
                    Verdict::Ends(checked, until) => (Some(checked), until),
                    Verdict::Acts(until) => (None, until),
                    Verdict::Waits(_) => return None,
                };
                meets.push(met);
                next = next.min(until);
            }
            phases.push(Phase { from: at.since(Time::ZERO), meets });
            at = next;
        }
        Some(phases)
    }

    /// Has a cache act after so long, and ends the fetch that it starts.
    fn perform(
        &self,
        cache: &KeyCache<(), Ticket>,
        actor: Actor,
        after: Span,
        served: &Served,
    ) -> Option<Flight> {
        let asked = Time::ZERO + after;
        let ended = asked + served.took()?;
        let mut trial = Trial { cache: cache.clone(), request: None, ticket: 0, fetch: None, fetches: 0 };
        match actor {
            Actor::Token(kind) => trial.ask(&self.kinds[kind][1], asked),
            Actor::Timer => trial.handle(Event::Timeout, asked),
        }
        if trial.cache.deadline().is_none_or(|deadline| deadline.at <= ended) {
            return None;
        }
        let (under_way, at_once) = (trial.clone(), trial.checked());
        let (rest, holds_until) = trial.end(served, ended)?;
        let holds = match holds_until {
            Time::NEVER => Holds::Forever,
            until if until == self.far() => Holds::AsBefore,
            until => Holds::For(until.since(Time::ZERO)),
        };
        let checked = trial.checked();
        if actor != Actor::Timer && checked.is_none() {
            return None;
        }
        let actor = checked.map(|checked| Acted { checked, waits: at_once.is_none() });
        Some(Flight { under_way, times: (asked, ended), landing: Landing { rest, holds, actor } })
    }
}

/// What came of a deed on a copy.
struct Flight {
    /// While the fetch is under way.
    under_way: Trial,
    /// When it was.
    times: (Time, Time),
    landing: Landing,
}

/// What a deed comes to.
#[derive(Clone, PartialEq)]
struct Landing {
    rest: Rest<()>,
    holds: Holds,
    actor: Option<Acted>,
}

impl Flight {
    /// What a token meets that comes meanwhile; `None` if that changes, or what comes of the fetch with it.
    fn meanwhile(&self, token: &Token, served: &Served) -> Option<During> {
        let (asked, ended) = self.times;
        match verdict(&self.under_way.cache, token, asked) {
            Verdict::Ends(checked, until) => (until >= ended).then_some(During::Ends(checked)),
            Verdict::Acts(_) => Some(During::Acts),
            Verdict::Waits(until) => {
                let mut joined = self.under_way.clone();
                joined.ask(token, asked);
                let (rest, _) = joined.end(served, ended)?;
                joined.checked().filter(|_| until >= ended && rest == self.landing.rest).map(During::Joins)
            }
        }
    }
}

/// A copy of a cache, and the last request that was sent to it.
#[derive(Clone)]
struct Trial {
    cache: KeyCache<(), Ticket>,
    request: Option<Request>,
    /// Names that request.
    ticket: Ticket,
    fetch: Option<FetchId>,
    fetches: u32,
}

#[derive(Clone)]
struct Request {
    token: Token,
    tried: Option<KeyVersion>,
    /// What became of its signature, once that is known.
    checked: Option<Result<(), Rejection>>,
}

impl Trial {
    fn ask(&mut self, token: &Token, now: Time) {
        let Some(class) = token.class.clone() else { return };
        self.request = Some(Request { token: token.clone(), tried: None, checked: None });
        self.ticket += 1;
        self.handle(Event::Lookup { class, ticket: self.ticket }, now);
    }

    /// What became of the signature of the last request, if that is known.
    fn checked(&self) -> Option<Result<(), Rejection>> {
        self.request.as_ref().and_then(|request| request.checked)
    }

    fn handle(&mut self, event: Event<(), Ticket>, now: Time) {
        let mut decisions = Vec::new();
        self.cache.handle(event, now, &mut decisions);
        for decision in decisions {
            match decision {
                Decision::Fetch(id) => (self.fetch, self.fetches) = (Some(id), self.fetches + 1),
                Decision::Cancel(_) => self.fetch = None,
                Decision::Answer(ticket, answer) if ticket == self.ticket => self.answered(answer, now),
                // An earlier one's.
                Decision::Answer(..) => {}
            }
        }
    }

    fn answered(&mut self, answer: Answer<()>, now: Time) {
        let Some(request) = &mut self.request else { return };
        match candidates(answer) {
            Ok(keys) if request.token.is_signed_by(&keys) => request.checked = Some(Ok(())),
            Ok(keys) if request.tried.is_none() => {
                let tried = keys.version();
                request.tried = Some(tried);
                if let Some(class) = request.token.class.clone() {
                    self.handle(Event::BadSignature { class, tried, ticket: self.ticket }, now);
                }
            }
            Ok(_) => request.checked = Some(Err(Rejection::BadSignature)),
            Err(rejection) => request.checked = Some(Err(rejection)),
        }
    }

    /// Ends the one fetch. Returns how the cache rests then; `None` if it does not, or has fetched more than once.
    fn end(&mut self, served: &Served, ended: Time) -> Option<(Rest<()>, Time)> {
        let fetch = self.fetch.filter(|_| self.fetches == 1)?;
        self.handle(Event::Fetched(fetch, served.response()), ended);
        self.cache.rest(ended).filter(|_| self.fetches == 1)
    }
}

#[cfg(test)]
mod tests {
    use keyquake_idp::Pace;

    use super::*;
    use crate::plan::testing::simulated;
    use crate::simulate::EPOCH;
    use crate::simulate::fleet::cold;
    use crate::simulate::skip::flow::Flow;
    use crate::simulate::world::World;

    /// The states of a plan's caches, the first of them that of a cache that was filled at the start, and its provider.
    fn states(lines: &str) -> (States, StateId, World) {
        let plan = simulated(lines);
        let world = World::new(&plan, Pace::new(1.0, EPOCH).unwrap()).unwrap();
        let start = Time::ZERO - plan.warmup;
        let mut flows = Flow::all(&plan, start, Span::from_secs(1));
        let kinds = Flow::kinds(&mut flows, &plan, &world, start);
        let blank = cold(&plan, 0, start).unwrap().cache;
        let mut filled = blank.clone();
        filled.handle(Event::Preload(world.published(start), plan.freshness, start), start, &mut Vec::new());
        let mut states = States::new(blank, kinds, plan.end().since(start));
        let first = states.of(filled.rest(start).unwrap().0).unwrap();
        (states, first, world)
    }

    /// The kind of the sessions' first tokens, which come first.
    const VALID: usize = 0;

    #[test]
    fn a_lazy_refresh_leads_back_to_the_state_that_it_came_from() {
        let (mut states, fresh, mut world) = states("duration = \"1h\"\n[fleet.policy]\nttl = \"10m\"");
        let phases = states.phases(fresh).iter().map(|phase| (phase.from, phase.meets[VALID]));
        let lifetime = Span::from_secs(600);
        assert_eq!(phases.collect::<Vec<_>>(), [(Span::ZERO, Some(Ok(()))), (lifetime, None)]);
        let served = states.served(&world.ask(Time::ZERO, 0)).unwrap();
        let deed = Deed { phase: 1, actor: Actor::Token(VALID), served };
        let step = states.step(fresh, deed).unwrap();
        let found = *states.found(step);
        assert_eq!((found.to, found.holds), (fresh, Holds::Forever));
        assert_eq!(found.actor, Some(Acted { checked: Ok(()), waits: true }));
        assert_eq!(states.during(step, VALID), Some(During::Joins(Ok(()))));
        assert_eq!(states.step(fresh, deed), Some(step), "known by now");
    }

    #[test]
    fn what_serves_on_in_an_outage_does_so_until_a_moment_that_is_told_apart() {
        let lines = "duration = \"1h\"\n[[fault]]\nfrom = \"0s\"\nfor = \"1h\"\njwks = { status = 503 }\n[fleet.policy]\n\
                     ttl = \"10m\"\nstale_for = \"2h\"\nfailure_backoff = \"5s\"";
        let (mut states, fresh, mut world) = states(lines);
        let served = states.served(&world.ask(Time::ZERO, 0)).unwrap();
        let deed = Deed { phase: 1, actor: Actor::Token(VALID), served };
        let step = states.step(fresh, deed).unwrap();
        let stale = *states.found(step);
        assert_eq!(stale.holds, Holds::For(Span::from_secs(600 + 7_200)), "however late the fetch came");
        let froms = states.phases(stale.to).iter().map(|phase| phase.from.as_secs()).collect::<Vec<_>>();
        assert_eq!(froms, [0, 5], "it backs off");
        let again = states.step(stale.to, deed).unwrap();
        let again = states.found(again);
        assert_eq!((again.to, again.holds), (stale.to, Holds::AsBefore));
    }

    /// A window that a fetch opens lies before the next fetch by as long as that takes to come.
    #[test]
    fn what_depends_on_the_moment_is_not_foreseen() {
        let lines = "duration = \"1h\"\n[fleet.policy]\nttl = \"10m\"\nlimiter = \"window\"\n[traffic]\nrate = \"1/s\"\n\
                     [[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"1/s\"";
        let (mut states, fresh, mut world) = states(lines);
        let served = states.served(&world.ask(Time::ZERO, 0)).unwrap();
        let stray = states.phases(fresh)[0].meets.iter().position(Option::is_none).unwrap();
        let deed = Deed { phase: 0, actor: Actor::Token(stray), served };
        let opened = states.step(fresh, deed).map(|step| states.found(step).to).unwrap();
        assert_ne!(opened, fresh, "it has admitted one");
        assert_eq!(states.step(opened, deed), None);
    }
}
