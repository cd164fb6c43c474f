//! A live run played again: its own requests, restarts and fetch times, and what the simulator makes of them.
//!
//! The caches, the IdP's answers and the order of events are the simulator's; where it ends a request otherwise than
//! the run did, one of them is wrong, or the two saw a change of a cache from different sides.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time, UnixTime};
use keyquake_idp::{KeyId, Pace};
use keyquake_reports::record::{JwksRequest, Record};

use super::EPOCH;
use super::service::Service;
use super::token::{Name, Token};
use super::world::{Script, ScriptedFetch, World};
use crate::observe::{Outcome, TracedRequest};
use crate::oracle::TokenFacts;
use crate::plan::Plan;
use crate::tokens;

/// What a run does not record of a change in a cache: how long a request is on its way there, and an answer back; by the
/// wall clock.
const ON_THE_WAY: Span = Span::from_millis(5);

/// How much later the same fetch may begin live, whose process the machine may stop for a while; by the wall clock.
const ON_TIME: Span = Span::from_millis(50);

/// A live run held against its replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Agreement {
    /// How many requests were played again.
    pub(crate) requests: u64,
    /// How many of them did not end as they had.
    pub(crate) differ: u64,
    /// Those that were not on their way while their cache changed.
    pub(crate) unexplained: Vec<Difference>,
}

/// A request that ended otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) request: TracedRequest,
    pub(crate) replayed: Outcome,
}

impl Agreement {
    /// The share of requests that must end as they had.
    const ENOUGH: f64 = 0.999;

    /// The share of requests that ended as they had; 1 if there were none.
    pub(crate) fn share(&self) -> f64 {
        if self.requests == 0 { 1.0 } else { 1.0 - self.differ as f64 / self.requests as f64 }
    }

    /// Whether the simulator and the run tell the same story.
    pub(crate) fn holds(&self) -> bool {
        self.share() >= Self::ENOUGH && self.unexplained.is_empty()
    }
}

/// What clients saw: an answer after the time-out is none.
fn note(ended: &mut BTreeMap<u64, Outcome>, news: Vec<(u64, Outcome)>) {
    for (ticket, outcome) in news {
        ended.entry(ticket).or_insert(outcome);
    }
}

/// Plays the requests of a live run of this plan again.
///
/// # Errors
///
/// The system has no randomness for keys.
pub(crate) fn replay(plan: &Plan, record: &Record, requests: &[TracedRequest]) -> anyhow::Result<Agreement> {
    let mut sent: Vec<(Time, &TracedRequest)> =
        requests.iter().filter_map(|request| Some((request.sent?, request))).collect();
    sent.sort_by_key(|(at, _)| *at);
    let pace = Pace::new(plan.speed, EPOCH)?;
    let world = World::new(plan, pace)?.scripted(script(record, ON_TIME.scale(plan.speed)));
    let mut service = Service::new(plan, world, &plan.runbook.restarts)?;
    let mut ended: BTreeMap<u64, Outcome> = BTreeMap::new();
    let mut held = BTreeMap::new();
    for ((at, request), ticket) in sent.iter().zip(0..) {
        while let Some(due) = service.next().filter(|due| due <= at) {
            service.advance(due)?;
        }
        let facts = facts(plan, request, pace.unix(Time::ZERO));
        if let Some(token) = Token::new(facts, &service.world, ticket) {
            service.enter(ticket, token.named(name(plan, request, ticket, &mut held)), request.instance, *at);
        }
        note(&mut ended, service.ended());
    }
    while let Some(due) = service.next().filter(|_| !service.is_idle()) {
        service.advance(due)?;
        note(&mut ended, service.ended());
    }
    let mut changes = changes(record);
    for (instance, replayed) in service.changes() {
        changes.entry(instance).or_default().extend(replayed);
    }
    let on_the_way = ON_THE_WAY.scale(plan.speed);
    let mut agreement = Agreement::default();
    for (ticket, replayed) in ended {
        let request = sent[ticket as usize].1;
        // What was cut off at the end of a run could have ended in any way, though it took its place until then.
        if request.outcome == Outcome::Unfinished {
            continue;
        }
        agreement.requests += 1;
        if replayed == request.outcome {
            continue;
        }
        agreement.differ += 1;
        let (from, until) = (request.planned - on_the_way, request.ended + on_the_way);
        let changed = |at: &Time| from <= *at && *at <= until;
        if !changes.get(&request.instance).is_some_and(|changes| changes.iter().any(changed)) {
            agreement.unexplained.push(Difference { request: *request, replayed });
        }
    }
    Ok(agreement)
}

/// When fetches of each instance began and ended in the run. A request at the edge of a cooldown may start one live that
/// the next one starts in the replay.
fn changes(record: &Record) -> BTreeMap<u32, Vec<Time>> {
    let instances = record.cells.iter().flat_map(|cell| &cell.instances).zip(0..);
    let moments = instances.map(|(instance, number)| {
        let requests = instance.jwks_requests.iter();
        let both = requests.flat_map(|request| [request.asked_s, request.received_s]).flatten();
        (number, both.map(moment).collect())
    });
    moments.collect()
}

fn moment(seconds: f64) -> Time {
    Time::from_nanos((seconds * 1e9).round() as i64)
}

/// What is true of a token, as far as a trace and its plan tell.
fn facts(plan: &Plan, request: &TracedRequest, zero: UnixTime) -> TokenFacts {
    TokenFacts {
        key: request.key,
        expires: UnixTime(zero.0.saturating_add(request.expires_s)),
        forged: tokens::forgery(&plan.streams[request.stream]),
    }
}

/// Which token a request carried. Of a session's, `held` has those that were seen so far: by a trace they are told apart by
/// their keys and by when they expire, so that two of one second count as one.
fn name(
    plan: &Plan,
    request: &TracedRequest,
    ticket: u64,
    held: &mut BTreeMap<(u32, KeyId, i64), u64>,
) -> Name {
    let Some(session) = request.session else {
        let fresh = plan.streams[request.stream].fresh;
        return if fresh { Name::Fresh(ticket) } else { Name::Repeated(request.stream, request.key) };
    };
    let seen = held.len() as u64;
    Name::Held(session, *held.entry((session, request.key, request.expires_s)).or_insert(seen))
}

/// When each instance began its fetches and had the answers, and the how-manieth at the endpoint each was.
fn script(record: &Record, near: Span) -> Script {
    let instances = record.cells.iter().flat_map(|cell| &cell.instances).zip(0_u32..);
    let mut fetches: Vec<(u32, &JwksRequest)> = instances
        .flat_map(|(instance, number)| instance.jwks_requests.iter().map(move |request| (number, request)))
        .collect();
    fetches.sort_by(|(_, a), (_, b)| a.at_s.total_cmp(&b.at_s));
    let mut script = Script { near, ..Script::default() };
    for ((instance, request), number) in fetches.into_iter().zip(0..) {
        let asked = moment(request.asked_s.unwrap_or(request.at_s));
        let fetch = ScriptedFetch { number, asked, received: request.received_s.map(moment) };
        script.fetches.entry(instance).or_default().push_back(fetch);
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;
    use crate::simulate;

    /// A cache that is filled at 0 s and expires at 30 s; the key changes at 20 s.
    const LINES: &str = "[[rotation]]\nat = \"20s\"\nstyle = \"no-overlap\"\n[fleet]\ncache = { age = \"0s\" }\n\
                         policy = { ttl = \"30s\", on_unknown_kid = \"reject\" }\n";

    /// A request with a token of the new key, and how it ended live.
    fn request(millis: i64, outcome: Outcome) -> TracedRequest {
        let at = Time::from_nanos(millis * 1_000_000);
        TracedRequest {
            planned: at,
            sent: Some(at),
            ended: at + Span::from_millis(1),
            stream: 0,
            session: Some(0),
            instance: 0,
            key: "key-2".parse().unwrap(),
            expires_s: 3_600,
            outcome,
        }
    }

    /// A request that was never answered holds a place among those who wait, in which no other can.
    #[test]
    fn what_was_cut_off_is_played_and_not_compared() {
        let lines = LINES.replace("ttl = ", "max_waiters = 1, fetch_timeout = \"20s\", ttl = ");
        let plan =
            plan(&format!("[[fault]]\nfrom = \"29s\"\nfor = \"30s\"\njwks = {{ hang = true }}\n{lines}"));
        let record = simulate::run(&plan, "").unwrap().record();
        let requests = [request(31_000, Outcome::Unfinished), request(32_000, Outcome::Failed(Some(503)))];
        let agreement = replay(&plan, &record, &requests).unwrap();
        assert_eq!((agreement.requests, agreement.differ), (1, 0), "{agreement:?}");
        assert_eq!(replay(&plan, &record, &requests[1..]).unwrap().differ, 1, "without it there is a place");
    }

    /// Which of two takes the last place among those who wait depends on who comes first.
    #[test]
    fn a_last_place_that_is_taken_is_a_change() {
        let lines = LINES.replace("ttl = ", "max_waiters = 2, fetch_timeout = \"20s\", ttl = ");
        let plan =
            plan(&format!("[[fault]]\nfrom = \"29s\"\nfor = \"30s\"\njwks = {{ hang = true }}\n{lines}"));
        let record = simulate::run(&plan, "").unwrap().record();
        let requests = [request(31_000, Outcome::Unfinished), request(32_000, Outcome::Failed(Some(503)))];
        let agreement = replay(&plan, &record, &requests).unwrap();
        assert_eq!((agreement.differ, agreement.unexplained.len()), (1, 0), "{agreement:?}");
    }

    /// A token that is remembered outlives its key in the replay too: it is told by its session, its key and its end.
    #[test]
    fn a_token_that_came_before_is_known_again() {
        let plan = plan(&LINES.replace("ttl = ", "token_cache_ttl = \"inf\", ttl = "));
        let record = simulate::run(&plan, "").unwrap().record();
        let old = |millis, session, expires_s, outcome| {
            let session = Some(session);
            TracedRequest { session, key: KeyId::FIRST, expires_s, ..request(millis, outcome) }
        };
        let (accepted, rejected) = (Outcome::Accepted(200), Outcome::Rejected(401));
        let requests = [
            old(25_000, 0, 3_600, accepted),
            old(40_000, 0, 3_600, accepted),
            old(41_000, 0, 3_601, rejected),
            old(42_000, 1, 3_600, rejected),
        ];
        let agreement = replay(&plan, &record, &requests).unwrap();
        assert_eq!((agreement.requests, agreement.differ), (4, 0), "{agreement:?}");
    }

    #[test]
    fn a_difference_is_explained_by_a_change_of_its_cache_and_by_nothing_else() {
        let plan = plan(LINES);
        let record = simulate::run(&plan, "").unwrap().record();
        let (accepted, rejected) = (Outcome::Accepted(200), Outcome::Rejected(401));
        let replayed = |outcomes: [(i64, Outcome); 3]| {
            replay(&plan, &record, &outcomes.map(|(millis, outcome)| request(millis, outcome))).unwrap()
        };
        let alike = replayed([(25_000, rejected), (29_998, rejected), (30_001, accepted)]);
        assert_eq!((alike.requests, alike.differ, alike.holds()), (3, 0, true));
        // The live cache expired a moment earlier than the replayed one, which fetches with the next request.
        let close = replayed([(25_000, rejected), (29_998, accepted), (30_001, accepted)]);
        assert_eq!((close.differ, close.unexplained.len()), (1, 0));
        let far = replayed([(25_000, accepted), (29_998, rejected), (30_001, accepted)]);
        let difference = Difference { request: request(25_000, accepted), replayed: rejected };
        assert_eq!((far.differ, &far.unexplained[..]), (1, &[difference][..]));
        assert!(!far.holds());
    }
}
