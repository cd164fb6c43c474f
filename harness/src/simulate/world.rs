//! The IdP as virtual time meets it: what each request would be answered, without sending anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use keyquake_core::{Algorithm, Class, Freshness, KeyEntry, KeySet, KeyVersion, Response, Span, Time};
use keyquake_idp::{
    Answer, Ending, Endpoint, Fault, FaultId, Idp, KeyId, KeyRing, Pace, RequestFacts, Settings, Strike,
    Timeline,
};
use serde_json::json;

use crate::plan::Plan;
use crate::sut::{freshness, key_set};

/// What the keys sign with. Nothing here is signed, and keys of this kind take no time to make.
const ALGORITHM: Algorithm = Algorithm::Es256;

/// The provider, asked by a fleet in virtual time.
pub(super) struct World {
    idp: Idp,
    seed: u64,
    pace: Pace,
    token_lifetime: Span,
    /// How long a request is on its way, beside what the provider takes.
    fetch_time: Span,
    /// How the first fetches of each instance go, if that is known.
    script: Option<Script>,
    known: Known,
    /// The faults that are in force from a moment on, in order.
    faults: Vec<(Time, Vec<(FaultId, Fault)>)>,
    /// How many requests each endpoint has had.
    requests: BTreeMap<Endpoint, u64>,
    /// How many changes of the provider lie behind, and when the next comes.
    changed: usize,
    changes: Time,
}

/// What is known of the provider of a plan, whatever its seed.
#[derive(Debug)]
pub(super) struct Known {
    keys: BTreeMap<KeyId, Key>,
    /// What it answers after so many of its changes to a request that is struck so.
    answers: Vec<(usize, Strike, Served)>,
}

/// The most answers that are remembered.
const MAX_ANSWERS: usize = 1_000;

/// How fetches are known to have gone.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Those of each instance, in order.
    pub(super) fetches: BTreeMap<u32, VecDeque<ScriptedFetch>>,
    /// How much earlier or later the same fetch may begin here.
    pub(super) near: Span,
}

/// A fetch as it is known to have gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScriptedFetch {
    /// How many requests for the key set came before it.
    pub(super) number: u64,
    /// When the cache asked.
    pub(super) asked: Time,
    /// When the cache had its answer.
    pub(super) received: Option<Time>,
}

/// What a token says about its key, and which key that is.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) class: Class,
    pub(super) version: KeyVersion,
}

/// What comes of a request for the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) at: Ends,
    pub(super) status: Option<u16>,
    /// Which of the provider's keys were sent.
    pub(super) keys: Arc<[KeyId]>,
    freshness: Freshness,
    set: Option<Arc<KeySet<()>>>,
}

/// When a request ends, the way of its bytes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    After(Span),
    /// Not before this moment, and then without an answer.
    Hangs(Time),
}

/// What comes of a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Issued {
    pub(super) at: Ends,
    /// The key that signed it; `None` when there is no token.
    pub(super) key: Option<KeyId>,
}

impl World {
    pub(super) fn new(plan: &Plan, pace: Pace) -> anyhow::Result<Self> {
        Self::with(plan, pace, None)
    }

    /// One of which another of the same plan has perhaps found out something.
    pub(super) fn with(plan: &Plan, pace: Pace, known: Option<Known>) -> anyhow::Result<Self> {
        let ring = match plan.simulated_keys.get() {
            Some(ring) => ring.clone(),
            None => {
                let ring = KeyRing::generate(&plan.timeline, ALGORITHM)?;
                plan.simulated_keys.get_or_init(|| ring).clone()
            }
        };
        let settings = Settings {
            issuer: "http://idp".to_owned(),
            audience: "keyquake".to_owned(),
            algorithm: ALGORITHM,
            token_lifetime: plan.token_lifetime,
            cache_control: plan.cache_control.clone(),
            seed: plan.seed,
        };
        let start = Time::ZERO - plan.warmup;
        let keys = || plan.timeline.keys().filter_map(|(id, _)| Some((id, key(&ring, id)?))).collect();
        let known = known.unwrap_or_else(|| Known { keys: keys(), answers: Vec::new() });
        Ok(Self {
            idp: Idp::new(settings, plan.timeline.clone(), ring, start)?,
            seed: plan.seed,
            pace,
            token_lifetime: plan.token_lifetime,
            fetch_time: plan.fetch_time,
            script: None,
            known,
            faults: in_force(&plan.timeline),
            requests: BTreeMap::new(),
            changed: 0,
            changes: start,
        })
    }

    /// What is known of the provider.
    pub(super) fn into_known(self) -> Known {
        self.known
    }

    /// The same, with fetches that go as they are known to have gone.
    pub(super) fn scripted(self, script: Script) -> Self {
        Self { script: Some(script), ..self }
    }

    pub(super) fn is_scripted(&self) -> bool {
        self.script.is_some()
    }

    pub(super) fn timeline(&self) -> &Timeline {
        self.idp.timeline()
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) fn token_lifetime(&self) -> Span {
        self.token_lifetime
    }

    pub(super) fn key(&self, id: KeyId) -> Option<&Key> {
        self.known.keys.get(&id)
    }

    /// The key set as it was at a moment, without any fault.
    pub(super) fn published(&self, at: Time) -> Arc<KeySet<()>> {
        let published = self.timeline().keys().filter(|(_, life)| life.state(at).published);
        let entry = |key: &Key| {
            let Class { kid, algorithm } = key.class.clone();
            Arc::new(KeyEntry { kid, algorithm, version: key.version, key: () })
        };
        let keys = published.filter_map(|(id, _)| self.key(id)).map(entry).collect();
        Arc::new(KeySet { keys, unusable: 0 })
    }

    /// What a request for the key set is answered that arrives now.
    pub(super) fn ask(&mut self, now: Time, instance: u32) -> Served {
        let scripted = self.script.as_mut().and_then(|script| script.next(now, instance));
        let number = scripted.map_or_else(|| self.count(Endpoint::Jwks), |fetch| fetch.number);
        let strike =
            self.strike(now, RequestFacts { endpoint: Endpoint::Jwks, instance: Some(instance), number });
        let served = self.served(now, strike);
        match scripted.and_then(|fetch| fetch.received) {
            Some(received) => Served { at: Ends::After(received.since(now)), ..served },
            None => served,
        }
    }

    fn served(&mut self, now: Time, strike: Strike) -> Served {
        if now >= self.changes {
            let events = self.idp.timeline().events();
            self.changed = events.partition_point(|event| event.at <= now);
            self.changes = events.get(self.changed).map_or(Time::NEVER, |event| event.at);
        }
        let asked =
            |(changed, known, _): &&(usize, Strike, Served)| (*changed, known) == (self.changed, &strike);
        if let Some((.., known)) = self.known.answers.iter().find(asked) {
            return known.clone();
        }
        let served = self.serve(now, &strike);
        // What is stale grows staler with every moment.
        if strike.parts().stale.is_none() && self.known.answers.len() < MAX_ANSWERS {
            self.known.answers.push((self.changed, strike, served.clone()));
        }
        served
    }

    fn serve(&mut self, now: Time, strike: &Strike) -> Served {
        let (Answer { after, ending }, keys) = self.idp.key_set_answer(now, strike, None);
        let (reply, set) = match ending {
            Ending::Hang(fault) => return Served::unanswered(Ends::Hangs(self.end_of(fault))),
            Ending::Reset => return Served::unanswered(Ends::After(after.saturating_add(self.fetch_time))),
            // Half a body is none.
            Ending::Cut { reply, .. } => (reply, None),
            Ending::Reply(reply) => {
                let set = key_set(&reply.body).ok();
                (reply, set.map(|set| Arc::new(without_material(&set))))
            }
        };
        Served {
            at: Ends::After(after.saturating_add(self.fetch_time)),
            status: Some(reply.status.as_u16()),
            keys,
            freshness: freshness(&reply.headers),
            set,
        }
    }

    /// What a session gets that asks for a token now.
    pub(super) fn issue(&mut self, now: Time) -> Issued {
        let number = self.count(Endpoint::Token);
        let strike = self.strike(now, RequestFacts { endpoint: Endpoint::Token, instance: None, number });
        let parts = strike.parts();
        let at = match strike.hung_by() {
            Some(fault) => Ends::Hangs(self.end_of(fault)),
            None => Ends::After(parts.delay.unwrap_or_default().saturating_add(self.fetch_time)),
        };
        Issued { at, key: self.timeline().active_key(now).filter(|_| parts.spares_document()) }
    }

    /// Whether every request for the key set is answered alike, until the provider changes.
    pub(super) fn is_steady(&self, now: Time) -> bool {
        let mut faults = self.faults_at(now).iter().map(|(_, fault)| fault);
        self.script.is_none()
            && faults.all(|fault| fault.scope.probability.is_none() && fault.parts.stale.is_none())
    }

    /// Whether all instances are answered alike.
    pub(super) fn is_uniform(&self, now: Time) -> bool {
        self.script.is_none() && self.faults_at(now).iter().all(|(_, fault)| fault.scope.replicas.is_none())
    }

    fn faults_at(&self, now: Time) -> &[(FaultId, Fault)] {
        let past = self.faults.partition_point(|(from, _)| *from <= now);
        past.checked_sub(1).map_or(&[], |index| &self.faults[index].1)
    }

    /// How many requests an endpoint has had before this one.
    fn count(&mut self, endpoint: Endpoint) -> u64 {
        let count = self.requests.entry(endpoint).or_default();
        *count += 1;
        *count - 1
    }

    fn strike(&self, now: Time, request: RequestFacts) -> Strike {
        Strike::of(self.seed, self.faults_at(now), request)
    }

    fn end_of(&self, fault: FaultId) -> Time {
        self.timeline().fault(fault).map_or(Time::NEVER, |window| window.until)
    }
}

impl Script {
    /// The fetch that an instance begins now, if it is known. What had ended before is none of this time, nor is what
    /// began much later: a fetch more or less must not make all that follow go as their neighbours went.
    fn next(&mut self, now: Time, instance: u32) -> Option<ScriptedFetch> {
        let fetches = self.fetches.get_mut(&instance)?;
        let is_over = |fetch: &ScriptedFetch| fetch.received.unwrap_or(fetch.asked) + self.near < now;
        while fetches.front().is_some_and(is_over) {
            fetches.pop_front();
        }
        fetches.front().filter(|fetch| fetch.asked <= now + self.near)?;
        fetches.pop_front()
    }
}

impl Ends {
    /// When a request ends that arrives now.
    pub(super) fn from(self, now: Time) -> Time {
        match self {
            Self::After(span) => now + span,
            Self::Hangs(until) => until,
        }
    }
}

impl Served {
    /// No answer at all.
    pub(super) fn unanswered(at: Ends) -> Self {
        Self { at, status: None, keys: Arc::default(), freshness: Freshness::UNSAID, set: None }
    }

    /// How long it takes, if it ends by itself.
    pub(super) fn took(&self) -> Option<Span> {
        match self.at {
            Ends::After(took) => Some(took),
            Ends::Hangs(_) => None,
        }
    }

    /// As the cache is told of it.
    pub(super) fn response(&self) -> Response<()> {
        Response { status: self.status, freshness: self.freshness, keys: self.set.clone() }
    }
}

/// The faults in force after each moment at which they change.
fn in_force(timeline: &Timeline) -> Vec<(Time, Vec<(FaultId, Fault)>)> {
    let mut moments: Vec<Time> = timeline
        .events()
        .iter()
        .filter(|timed| timed.event.fault().is_some())
        .map(|timed| timed.at)
        .collect();
    moments.dedup();
    let faults = |at| timeline.faults_at(at).map(|(id, fault)| (id, fault.clone())).collect();
    moments.into_iter().map(|at| (at, faults(at))).collect()
}

/// The key of a ring as validators read it.
fn key(ring: &KeyRing, id: KeyId) -> Option<Key> {
    let document = json!({ "keys": [ring.get(id)?.key.public_jwk()] }).to_string();
    let set = key_set(document.as_bytes()).ok()?;
    let entry = set.keys.first()?;
    let class = Class { kid: entry.kid.clone(), algorithm: entry.algorithm };
    Some(Key { class, version: entry.version })
}

fn without_material<K>(set: &KeySet<K>) -> KeySet<()> {
    let entry = |entry: &Arc<KeyEntry<K>>| {
        let KeyEntry { kid, algorithm, version, .. } = &**entry;
        Arc::new(KeyEntry { kid: kid.clone(), algorithm: *algorithm, version: *version, key: () })
    };
    KeySet { keys: set.keys.iter().map(entry).collect(), unusable: set.unusable }
}
