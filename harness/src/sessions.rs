//! Clients: each holds one token, renews it in time, and reacts when it is rejected.
//!
//! What a token is made of is its engine's matter: a header for a live run, bare facts for a simulated one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use keyquake_core::{Span, Time};
use rand::RngExt;

use crate::observe::Outcome;
use crate::plan::Plan;
use crate::scenario::OnReject;
use crate::seed;

/// A session with this many denials in a row counts as locked out.
const LOCKED_OUT: u32 = 3;
/// How many entries the queue has for each session at most.
const MOST_ENTRIES: usize = 2;
/// How long a session waits that asked for a token and got none.
const ASK_AGAIN: Span = Span::from_secs(1);

/// All sessions of a run, with tokens of type `T`.
#[derive(Debug)]
pub(crate) struct Sessions<T> {
    sessions: Vec<Session<T>>,
    /// When sessions ask for tokens, and perhaps when they would have without a rejection; the first is never one of those.
    queue: BinaryHeap<Reverse<(Time, u32)>>,
    /// How long after its issue a token is renewed.
    renew_after: Span,
    on_reject: OnReject,
}

/// A session's token.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    pub(crate) token: T,
    /// Counts the session's tokens, so that a late rejection of an earlier one is told from one of this.
    pub(crate) number: u64,
}

/// A session asks for its next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) session: u32,
    /// A rejection made it ask.
    pub(crate) forced: bool,
    /// It logs in anew, instead of asking with what it got at its last login.
    pub(crate) relogin: bool,
}

#[derive(Debug)]
struct Session<T> {
    held: Held<T>,
    denied_in_a_row: u32,
    /// When it asks for the next token; `None` while it is asking.
    due: Option<Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Time,
    forced: bool,
    relogin: bool,
}

impl<T> Sessions<T> {
    /// Logs so many sessions in. Their tokens are as old as those of sessions that have long been renewing: their ages are
    /// spread evenly up to the moment of renewal. `first` makes the token of a session, of that age.
    ///
    /// # Errors
    ///
    /// The first that `first` returns.
    pub(crate) fn log_in<E>(
        plan: &Plan,
        sessions: u32,
        mut first: impl FnMut(u32, Span) -> Result<T, E>,
    ) -> Result<Self, E> {
        let renew_after = plan.token_lifetime.scale(plan.traffic.renew_at.fraction());
        let start = Time::ZERO - plan.warmup;
        let mut ages = seed::generator(plan.seed, "token ages", 0);
        let mut all = Self {
            sessions: Vec::new(),
            queue: BinaryHeap::new(),
            renew_after,
            on_reject: plan.traffic.on_reject,
        };
        for session in 0..sessions {
            let age = renew_after.scale(ages.random());
            let due = Due { at: start + renew_after.saturating_sub(age), forced: false, relogin: false };
            all.queue.push(Reverse((due.at, session)));
            all.sessions.push(Session {
                held: Held { token: first(session, age)?, number: 0 },
                denied_in_a_row: 0,
                due: Some(due),
            });
        }
        Ok(all)
    }

    pub(crate) fn held(&self, session: u32) -> &Held<T> {
        &self.sessions[session as usize].held
    }

    /// When the next session asks for a token.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// A session that asks for a token now, if any does; it waits for its answer.
    pub(crate) fn due(&mut self, now: Time) -> Option<Renewal> {
        let (_, session) = self.first_due(|at| at <= now)?;
        let due = self.sessions[session as usize].due.take();
        self.tidy();
        due.map(|Due { forced, relogin, .. }| Renewal { session, forced, relogin })
    }

    /// Lets every session renew in time as long as its answers come before a moment, each `took` after it has asked, and
    /// says when it does: at each cycle from a moment on, so many times. `token` makes the last of its tokens. As
    /// [`Self::due`] and [`Self::renewed`] in turn, but at once.
    pub(crate) fn renew_until(
        &mut self,
        until: Time,
        took: Span,
        mut ask: impl FnMut(Time, Span, u64),
        token: impl Fn(Time) -> T,
    ) {
        let cycle = self.renew_after.saturating_add(took);
        let mut asking = Vec::new();
        while let Some(first) = self.first_due(|at| at < until) {
            asking.push(first);
            self.tidy();
        }
        for (first, session) in asking {
            let it = &mut self.sessions[session as usize];
            let may = |due: &&mut Due| due.at == first && !due.forced && first + took < until;
            let mut at = first;
            if let Some(due) = it.due.as_mut().filter(may) {
                let times = (until.since(first + took).as_nanos() - 1) / cycle.as_nanos().max(1) + 1;
                ask(first, cycle, times);
                let asked = first + Span::from_nanos(cycle.as_nanos().saturating_mul(times - 1));
                it.held = Held { token: token(asked), number: it.held.number + times };
                at = asked + cycle;
                due.at = at;
            }
            self.queue.push(Reverse((at, session)));
        }
        self.tidy();
    }

    /// Takes the first of the queue, if it asks at such a moment.
    fn first_due(&mut self, wanted: impl Fn(Time) -> bool) -> Option<(Time, u32)> {
        let Reverse(first) = *self.queue.peek().filter(|Reverse((at, _))| wanted(*at))?;
        self.queue.pop();
        Some(first)
    }

    /// A session got its token.
    pub(crate) fn renewed(&mut self, session: u32, token: T, now: Time) {
        let it = &mut self.sessions[session as usize];
        it.held = Held { token, number: it.held.number + 1 };
        self.schedule(session, Due { at: now + self.renew_after, forced: false, relogin: false });
    }

    /// A session got none, and asks again.
    pub(crate) fn not_renewed(&mut self, renewal: Renewal, now: Time) {
        let Renewal { session, forced, relogin } = renewal;
        self.schedule(session, Due { at: now + ASK_AGAIN, forced, relogin });
    }

    /// A request of a session has ended. Returns whether the session is locked out with it.
    pub(crate) fn ended(
        &mut self,
        session: u32,
        number: u64,
        (outcome, denied): (Outcome, bool),
        now: Time,
    ) -> bool {
        let it = &mut self.sessions[session as usize];
        it.denied_in_a_row = if denied { it.denied_in_a_row + 1 } else { 0 };
        let locked_out = it.denied_in_a_row == LOCKED_OUT;
        if matches!(outcome, Outcome::Rejected(_)) {
            self.rejected(session, number, now);
        }
        locked_out
    }

    /// The token of this number was rejected.
    pub(crate) fn rejected(&mut self, session: u32, number: u64, now: Time) {
        if self.sessions[session as usize].held.number == number {
            self.react(session, now);
        }
    }

    fn react(&mut self, session: u32, now: Time) {
        let reaction = match self.on_reject {
            OnReject::Keep => return,
            OnReject::Renew(renew) => Due { at: now + renew.after, forced: true, relogin: false },
            OnReject::Relogin => Due { at: now, forced: true, relogin: true },
        };
        // A session that is asking already, or will sooner, has reacted.
        if self.sessions[session as usize].due.is_some_and(|due| reaction.at < due.at) {
            self.schedule(session, reaction);
        }
    }

    fn schedule(&mut self, session: u32, due: Due) {
        self.sessions[session as usize].due = Some(due);
        self.queue.push(Reverse((due.at, session)));
        if self.queue.len() > MOST_ENTRIES * self.sessions.len() {
            let sessions = &self.sessions;
            self.queue.retain(|Reverse((at, session))| sessions[*session as usize].asks_at(*at));
        }
        self.tidy();
    }

    /// Removes from the head of the queue who asks at another moment.
    fn tidy(&mut self) {
        while let Some(Reverse((at, session))) = self.queue.peek()
            && !self.sessions[*session as usize].asks_at(*at)
        {
            self.queue.pop();
        }
    }
}

impl<T> Session<T> {
    fn asks_at(&self, at: Time) -> bool {
        self.due.is_some_and(|due| due.at == at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    fn at(secs: i64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    /// Ten sessions whose tokens live for 100 s and are renewed after 80 s; a token is its age at the start.
    fn sessions(traffic: &str) -> Sessions<Span> {
        let plan = plan(&format!(
            "[idp]\ntoken_lifetime = \"100s\"\n[traffic]\nrate = \"10/s\"\nsessions = 10\n{traffic}"
        ));
        let Ok(sessions) = Sessions::log_in(&plan, plan.traffic.sessions, |_, age| Ok::<_, Infallible>(age));
        sessions
    }

    fn all_due(sessions: &mut Sessions<Span>, now: Time) -> Vec<Renewal> {
        std::iter::from_fn(|| sessions.due(now)).collect()
    }

    const REJECTED: (Outcome, bool) = (Outcome::Rejected(401), true);

    #[test]
    fn first_tokens_have_all_ages_up_to_their_renewal() {
        let sessions = sessions("");
        let mut ages: Vec<u64> = (0..10).map(|session| sessions.held(session).token.as_secs()).collect();
        ages.sort_unstable();
        assert!(ages.iter().all(|age| (0..80).contains(age)), "{ages:?}");
        assert!(ages[9] - ages[0] > 20, "{ages:?}");
        for session in 0..10 {
            let due = sessions.sessions[session].due.unwrap().at;
            let age = sessions.sessions[session].held.token;
            assert_eq!(due + age, at(80));
        }
    }

    #[test]
    fn a_token_is_renewed_in_time() {
        let mut sessions = sessions("");
        let first = sessions.next_due().unwrap();
        assert_eq!(sessions.due(first - Span::from_secs(1)), None);
        let renewal = sessions.due(first).unwrap();
        assert!(!renewal.forced && !renewal.relogin);
        sessions.renewed(renewal.session, Span::INFINITE, at(50));
        let Held { token, number } = sessions.held(renewal.session);
        assert_eq!((*token, *number), (Span::INFINITE, 1));
        assert!(all_due(&mut sessions, at(130)).contains(&renewal));
    }

    #[test]
    fn renewals_at_once_are_those_in_turn() {
        let (mut at_once, mut in_turn) = (sessions(""), sessions(""));
        let (took, until) = (Span::from_secs(3), at(400));
        let token = |asked: Time| asked.since(at(0));
        let mut asked_at_once = Vec::new();
        let ask = |first: Time, cycle: Span, times| {
            asked_at_once.extend((0..times).map(|time| first + Span::from_nanos(cycle.as_nanos() * time)));
        };
        at_once.renew_until(until, took, ask, token);
        let (mut asked_in_turn, mut answers) = (Vec::new(), BTreeSet::new());
        loop {
            let answered: Option<&(Time, u32, Time)> = answers.first();
            let next = in_turn.next_due().into_iter().chain(answered.map(|(at, ..)| *at)).min().unwrap();
            if next >= until {
                break;
            }
            while let Some((_, session, asked)) = answers.first().filter(|(at, ..)| *at <= next).copied() {
                answers.pop_first();
                in_turn.renewed(session, token(asked), next);
            }
            while let Some(Renewal { session, .. }) = in_turn.due(next) {
                answers.insert((next + took, session, next));
                asked_in_turn.push(next);
            }
        }
        // Who still waits for an answer then has not asked yet, when all ask at once.
        let waiting: Vec<Time> = answers.iter().map(|(_, _, asked)| *asked).collect();
        asked_in_turn.retain(|at| !waiting.contains(at));
        asked_at_once.sort_unstable();
        assert_eq!(asked_at_once, asked_in_turn);
        assert!(asked_in_turn.len() > 40);
        for session in 0..10 {
            let (one, other) = (at_once.held(session), in_turn.held(session));
            assert_eq!((one.token, one.number), (other.token, other.number), "{session}");
        }
    }

    #[test]
    fn a_rejection_brings_the_renewal_forward_once() {
        let mut sessions = sessions("on_reject = { renew = { after = \"2s\" } }\nrenew_at = \"100%\"");
        let session =
            (0..10).find(|session| sessions.sessions[*session].due.unwrap().at > at(10)).unwrap() as u32;
        sessions.ended(session, 0, REJECTED, at(1));
        sessions.ended(session, 0, REJECTED, at(2));
        let due = sessions.sessions[session as usize].due.unwrap();
        assert_eq!((due.at, due.forced), (at(3), true));
        let renewal = all_due(&mut sessions, at(3)).into_iter().find(|due| due.session == session).unwrap();
        assert!(renewal.forced && !renewal.relogin);
        sessions.ended(session, 0, REJECTED, at(3));
        assert_eq!(sessions.sessions[session as usize].due, None, "it is asking already");
        sessions.renewed(session, Span::ZERO, at(4));
        sessions.ended(session, 0, REJECTED, at(5));
        assert_eq!(
            sessions.sessions[session as usize].due.unwrap().at,
            at(104),
            "a late rejection of the old token"
        );
    }

    #[test]
    fn the_queue_stays_short_however_often_sessions_are_rejected() {
        let mut sessions = sessions("on_reject = \"relogin\"");
        for second in 0..100 {
            let now = sessions.next_due().unwrap().min(at(second));
            for session in 0..10 {
                let number = sessions.held(session).number;
                sessions.ended(session, number, REJECTED, now);
            }
            assert_eq!(sessions.next_due(), Some(now));
            let renewals = all_due(&mut sessions, now);
            assert_eq!(renewals.len(), 10);
            renewals.iter().for_each(|renewal| sessions.renewed(renewal.session, Span::ZERO, now));
            assert!(sessions.queue.len() <= MOST_ENTRIES * 10);
        }
    }

    #[test]
    fn keeping_does_nothing_and_relogin_asks_anew_at_once() {
        let mut keeping = sessions("on_reject = \"keep\"");
        let before = keeping.sessions[0].due;
        keeping.ended(0, 0, REJECTED, at(0));
        assert_eq!(keeping.sessions[0].due, before);

        let mut relogin = sessions("on_reject = \"relogin\"");
        relogin.ended(0, 0, REJECTED, at(0));
        let renewal = all_due(&mut relogin, at(0)).into_iter().find(|due| due.session == 0).unwrap();
        assert!(renewal.forced && renewal.relogin);
    }

    #[test]
    fn three_denials_in_a_row_lock_out_once() {
        let mut sessions = sessions("");
        let accepted = (Outcome::Accepted(200), false);
        let ends = [REJECTED, REJECTED, accepted, REJECTED, REJECTED, REJECTED, REJECTED];
        let locked: Vec<bool> = ends.map(|end| sessions.ended(0, 0, end, at(0))).to_vec();
        assert_eq!(locked, [false, false, false, false, false, true, false]);
    }

    #[test]
    fn a_failed_renewal_is_tried_again() {
        let mut sessions = sessions("");
        let first = sessions.next_due().unwrap();
        let renewal = sessions.due(first).unwrap();
        sessions.not_renewed(renewal, first);
        let again = all_due(&mut sessions, first + Span::from_secs(1));
        assert!(again.contains(&renewal));
    }
}
