//! Sessions that are not asked one by one: who holds which key's token, and who is rejected when.

use std::collections::BTreeMap;
use std::convert::Infallible;

use keyquake_core::{Time, UnixTime};
use keyquake_idp::KeyId;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::super::agenda::Agenda;
use super::super::world::World;
use super::intensity::Intensity;
use crate::observe::Fold;
use crate::oracle::TokenFacts;
use crate::plan::Plan;
use crate::scenario::OnReject;
use crate::seed;
use crate::sessions::{Renewal, Sessions};
use crate::tokens;

/// The most sessions that are followed. Of more, each stands for as many as it takes.
const MAX_FOLLOWED: u32 = 1_000;

/// For a logarithm that is finite.
const NEARLY_NONE: f64 = 1e-9;

pub(super) struct Clients<'p> {
    plan: &'p Plan,
    sessions: Sessions<TokenFacts>,
    count: u32,
    /// Until then everything has happened that was due.
    caught_up: Time,
    /// The key that signs.
    signing: KeyId,
    /// Tokens that sessions have asked for.
    renewals: Agenda<(Renewal, TokenFacts)>,
    holders: BTreeMap<KeyId, Vec<u32>>,
    hazards: BTreeMap<KeyId, Hazard>,
    /// The logarithm of the probability that a session which has held a token of a key from the start still does.
    survival: BTreeMap<KeyId, f64>,
    rng: ChaCha8Rng,
}

/// What threatens each session that holds a token of a key.
struct Hazard {
    /// Being rejected with this token.
    rejection: Intensity<(u32, u64)>,
    /// Being denied three times in a row.
    lock_out: Intensity<u32>,
}

impl<'p> Clients<'p> {
    pub(super) fn new(plan: &'p Plan, world: &World, start: Time) -> Self {
        let count = plan.traffic.sessions.min(MAX_FOLLOWED);
        let first = tokens::signing_key(&plan.timeline, start);
        let token =
            |issued: UnixTime| TokenFacts { key: first, expires: issued + plan.token_lifetime, forged: None };
        let Ok(sessions) = Sessions::log_in(plan, count, |_, age| {
            Ok::<_, Infallible>(token(world.pace().unix(start) - age))
        });
        Self {
            plan,
            sessions,
            count,
            caught_up: start,
            signing: first,
            renewals: Agenda::default(),
            holders: BTreeMap::from([(first, (0..count).collect())]),
            hazards: BTreeMap::new(),
            survival: BTreeMap::new(),
            rng: seed::generator(plan.seed, "hazards of sessions", 0),
        }
    }

    /// How many of the plan's sessions one that is followed stands for.
    pub(super) fn each_stands_for(plan: &Plan) -> f64 {
        f64::from(plan.traffic.sessions) / f64::from(plan.traffic.sessions.min(MAX_FOLLOWED))
    }

    /// The part of all sessions that holds a token of this key.
    pub(super) fn share(&self, key: KeyId) -> f64 {
        self.holders.get(&key).map_or(0.0, |holders| holders.len() as f64 / f64::from(self.count))
    }

    /// Any session that holds a token of this key, and the number of its token.
    pub(super) fn any_holder(&mut self, key: KeyId) -> Option<(u32, u64)> {
        let holders = self.holders.get(&key).filter(|holders| !holders.is_empty())?;
        let session = holders[self.rng.random_range(0..holders.len())];
        Some((session, self.sessions.held(session).number))
    }

    pub(super) fn any_key(&mut self) -> KeyId {
        self.sessions.held(self.rng.random_range(0..self.count)).token.key
    }

    /// Whether some session holds a token of the key that signs.
    pub(super) fn newest_key_is_held(&self) -> bool {
        self.share(self.signing) > 0.0
    }

    /// Another key may sign from now on.
    pub(super) fn turn(&mut self, now: Time) {
        self.signing = tokens::signing_key(&self.plan.timeline, now);
    }

    /// When something happens to a session next that matters to others: nothing does while all hold tokens of the key that
    /// signs, and none is in danger.
    pub(super) fn next(&self) -> Option<Time> {
        let holders = self.holders.get(&self.signing).map_or(0, Vec::len);
        let is_calm = self.hazards.is_empty() && holders == self.count as usize;
        if is_calm { None } else { self.next_of_any() }
    }

    fn next_of_any(&self) -> Option<Time> {
        let hazards = self.hazards.values();
        let hazards = hazards
            .filter_map(|hazard| hazard.rejection.next().into_iter().chain(hazard.lock_out.next()).min());
        hazards.chain(self.renewals.next()).chain(self.sessions.next_due()).min()
    }

    /// Lets everything happen to sessions that was due before now and has not mattered so far.
    pub(super) fn catch_up(&mut self, now: Time, world: &mut World, fold: &mut Fold) {
        if now <= self.caught_up {
            return;
        }
        self.caught_up = now;
        while let Some(at) = self.renewals.next().filter(|at| *at < now) {
            self.advance(at, world, fold);
        }
        if let Some(first) = self.sessions.next_due().filter(|at| *at < now) {
            // All are asked for alike until then, and signed by one key.
            let took = world.issue(first).at.from(first).since(first);
            let (key, lifetime, pace) = (self.signing, self.plan.token_lifetime, world.pace());
            let token = |at| TokenFacts { key, expires: pace.unix(at) + lifetime, forged: None };
            let mut renewals = 0.0;
            let ask = |at| {
                renewals += 1.0;
                fold.token_requested(at, false);
            };
            self.sessions.renew_until(now, took, ask, token);
            self.thin_out(key, renewals);
        }
        while let Some(at) = self.next_of_any().filter(|at| *at < now) {
            self.advance(at, world, fold);
        }
    }

    /// Lets everything happen to sessions that is due. Returns whether one holds another key's token than before.
    pub(super) fn advance(&mut self, now: Time, world: &mut World, fold: &mut Fold) -> bool {
        let mut moved = false;
        while let Some((renewal, token)) = self.renewals.due(now) {
            moved |= self.renewed(renewal.session, token, now);
        }
        for (session, number) in self.struck(now, fold) {
            self.sessions.rejected(session, number, now);
        }
        for renewal in self.sessions.due(now) {
            fold.token_requested(now, renewal.forced);
            let issued = world.issue(now);
            let expires = world.pace().unix(now) + self.plan.token_lifetime;
            if let Some(key) = issued.key {
                self.renewals.add(issued.at.from(now), (renewal, TokenFacts { key, expires, forged: None }));
            }
        }
        moved
    }

    /// The sessions that are rejected now, each with the number of its token. Notes those that are locked out.
    fn struck(&mut self, now: Time, fold: &mut Fold) -> Vec<(u32, u64)> {
        let mut struck = Vec::new();
        for (key, hazard) in &mut self.hazards {
            struck.extend(std::iter::from_fn(|| hazard.rejection.due(now)));
            for session in std::iter::from_fn(|| hazard.lock_out.due(now)) {
                if self.sessions.held(session).token.key == *key {
                    fold.locked_out(now, session);
                }
            }
        }
        struck
    }

    fn renewed(&mut self, session: u32, token: TokenFacts, now: Time) -> bool {
        let (before, after) = (self.sessions.held(session).token.key, token.key);
        self.sessions.renewed(session, token, now);
        self.thin_out(before, 1.0);
        if before != after {
            if let Some(holders) = self.holders.get_mut(&before) {
                holders.retain(|holder| *holder != session);
            }
            self.holders.entry(after).or_default().push(session);
        }
        self.threaten(after, session, now, before != after);
        before != after
    }

    /// So many tokens of a key were replaced.
    fn thin_out(&mut self, key: KeyId, replaced: f64) {
        let held = self.holders.get(&key).map_or(1, Vec::len);
        let kept = (1.0 - 1.0 / held as f64).max(NEARLY_NONE);
        *self.survival.entry(key).or_default() += replaced * libm::log(kept);
    }

    /// From now on a session that holds this key's token is rejected and locked out this often per second.
    pub(super) fn set_hazard(&mut self, key: KeyId, now: Time, (rejected, locked_out): (f64, f64)) {
        let rejected = if self.plan.traffic.on_reject == OnReject::Keep { 0.0 } else { rejected };
        let calm = (rejected, locked_out) == (0.0, 0.0);
        let new = || Hazard { rejection: Intensity::new(now), lock_out: Intensity::new(now) };
        if calm && !self.hazards.contains_key(&key) {
            return;
        }
        let was_calm = !self.hazards.contains_key(&key);
        let hazard = self.hazards.entry(key).or_insert_with(new);
        hazard.rejection.set(now, rejected);
        hazard.lock_out.set(now, locked_out);
        if calm {
            // The wait for a random event is none the shorter for having lasted, so nobody need remember it.
            self.hazards.remove(&key);
        } else if was_calm {
            for session in self.holders.get(&key).cloned().unwrap_or_default() {
                self.threaten(key, session, now, true);
            }
        }
    }

    /// A session has a token of a key, and perhaps had none of it before.
    fn threaten(&mut self, key: KeyId, session: u32, now: Time, is_new: bool) {
        let Some(hazard) = self.hazards.get_mut(&key) else { return };
        let number = self.sessions.held(session).number;
        hazard.rejection.wait(now, Exp1.sample(&mut self.rng), (session, number));
        if is_new {
            hazard.lock_out.wait(now, Exp1.sample(&mut self.rng), session);
        }
    }

    /// A request with a session's token of this number was rejected.
    pub(super) fn reject(&mut self, session: u32, number: u64, now: Time) {
        self.sessions.rejected(session, number, now);
    }

    /// The logarithm of the part of a key's tokens that were held at the start and still are, but for a constant.
    pub(super) fn survival(&self, key: KeyId) -> f64 {
        self.survival.get(&key).copied().unwrap_or_default()
    }

    /// So many requests with tokens of this key were rejected, which had waited for this part of the time since survival
    /// was as it is told. Some of their sessions have got other tokens meanwhile.
    pub(super) fn rejected(&mut self, key: KeyId, count: u64, (survival, waited): (f64, f64), now: Time) {
        if self.plan.traffic.on_reject == OnReject::Keep {
            return;
        }
        let still = libm::exp((self.survival(key) - survival) * waited);
        for _ in 0..count.min(u64::from(self.count)) {
            let holds_it = self.rng.random::<f64>() < still;
            if let Some((session, number)) = self.any_holder(key).filter(|_| holds_it) {
                self.sessions.rejected(session, number, now);
            }
        }
    }
}
