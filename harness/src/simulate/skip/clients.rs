//! Sessions that are not asked one by one: who holds which key's token, and who is rejected when.

use std::convert::Infallible;

use keyquake_core::{Time, UnixTime};
use keyquake_idp::KeyId;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::super::Detail;
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
    /// Whether anybody asks when tokens were renewed in time.
    counts_renewals: bool,
    sessions: Sessions<TokenFacts>,
    count: u32,
    /// Until then everything has happened that was due.
    caught_up: Time,
    /// The key that signs.
    signing: KeyId,
    /// Tokens that sessions have asked for.
    renewals: Agenda<(Renewal, TokenFacts)>,
    /// By key.
    held: Vec<OfKey>,
    rng: ChaCha8Rng,
}

/// A key's tokens.
struct OfKey {
    key: KeyId,
    /// The sessions that hold one.
    by: Vec<u32>,
    /// What threatens them, if anything does.
    hazard: Option<Hazard>,
    /// The logarithm of the probability that a session which has held a token of the key from the start still does.
    survival: f64,
}

/// What threatens each session that holds a token of a key.
struct Hazard {
    /// Being rejected with this token.
    rejection: Intensity<(u32, u64)>,
    /// Being denied three times in a row.
    lock_out: Intensity<u32>,
}

impl OfKey {
    fn new(key: KeyId) -> Self {
        Self { key, by: Vec::new(), hazard: None, survival: 0.0 }
    }
}

impl<'p> Clients<'p> {
    pub(super) fn new(plan: &'p Plan, detail: Detail, world: &World, start: Time) -> Self {
        let count = plan.traffic.sessions.min(MAX_FOLLOWED);
        let first = tokens::signing_key(&plan.timeline, start);
        let token =
            |issued: UnixTime| TokenFacts { key: first, expires: issued + plan.token_lifetime, forged: None };
        let Ok(sessions) = Sessions::log_in(plan, count, |_, age| {
            Ok::<_, Infallible>(token(world.pace().unix(start) - age))
        });
        Self {
            plan,
            counts_renewals: detail == Detail::Curves,
            sessions,
            count,
            caught_up: start,
            signing: first,
            renewals: Agenda::default(),
            held: vec![OfKey { by: (0..count).collect(), ..OfKey::new(first) }],
            rng: seed::generator(plan.seed, "hazards of sessions", 0),
        }
    }

    /// How many of the plan's sessions one that is followed stands for.
    pub(super) fn each_stands_for(plan: &Plan) -> f64 {
        f64::from(plan.traffic.sessions) / f64::from(plan.traffic.sessions.min(MAX_FOLLOWED))
    }

    /// The part of all sessions that holds a token of this key.
    pub(super) fn share(&self, key: KeyId) -> f64 {
        self.held(key).map_or(0.0, |held| held.by.len() as f64 / f64::from(self.count))
    }

    fn held(&self, key: KeyId) -> Option<&OfKey> {
        self.held.iter().find(|held| held.key == key)
    }

    fn held_mut(&mut self, key: KeyId) -> &mut OfKey {
        let place = self.held.partition_point(|held| held.key < key);
        if self.held.get(place).is_none_or(|held| held.key != key) {
            self.held.insert(place, OfKey::new(key));
        }
        &mut self.held[place]
    }

    /// Any session that holds a token of this key, and the number of its token.
    pub(super) fn any_holder(&mut self, key: KeyId) -> Option<(u32, u64)> {
        let OfKey { by, .. } = self.held.iter().find(|held| held.key == key && !held.by.is_empty())?;
        let session = by[self.rng.random_range(0..by.len())];
        Some((session, self.sessions.held(session).number))
    }

    pub(super) fn any_key(&mut self) -> KeyId {
        self.sessions.held(self.rng.random_range(0..self.count)).token.key
    }

    /// The key that signs, if no session holds a token of it yet: the first may come with any renewal.
    pub(super) fn key_to_come(&self) -> Option<KeyId> {
        (self.share(self.signing) == 0.0).then_some(self.signing)
    }

    /// Another key may sign from now on.
    pub(super) fn turn(&mut self, now: Time) {
        self.signing = tokens::signing_key(&self.plan.timeline, now);
    }

    /// When something happens to a session next that matters to others; [`Time::NEVER`] while all hold tokens of the key that
    /// signs, and none is in danger.
    pub(super) fn next(&self) -> Time {
        let matters =
            |held: &OfKey| held.hazard.is_some() || (held.key != self.signing && !held.by.is_empty());
        if self.held.iter().any(matters) { self.next_of_any() } else { Time::NEVER }
    }

    fn next_of_any(&self) -> Time {
        let renewals = self.renewals.next().unwrap_or(Time::NEVER);
        let sessions = self.sessions.next_due().unwrap_or(Time::NEVER);
        let hazards = self.held.iter().filter_map(|held| held.hazard.as_ref());
        let hazards = hazards.map(|hazard| hazard.rejection.next().min(hazard.lock_out.next()));
        hazards.fold(renewals.min(sessions), Time::min)
    }

    /// Lets everything happen to sessions that was due before now and has not mattered so far.
    pub(super) fn catch_up(&mut self, now: Time, world: &mut World, fold: &mut Fold) {
        if now <= self.caught_up || now <= self.next_of_any() {
            self.caught_up = self.caught_up.max(now);
            return;
        }
        self.caught_up = now;
        while let Some(at) = self.renewals.next().filter(|at| *at < now) {
            self.advance(at, world, fold);
        }
        if let Some(first) = self.sessions.next_due().filter(|at| *at < now) {
            self.renew_until(now, first, world, fold);
        }
        while self.next_of_any() < now {
            self.advance(self.next_of_any(), world, fold);
        }
    }

    /// Lets sessions renew before now of which the first is due at that moment: all are asked for alike until then, and
    /// signed by one key.
    fn renew_until(&mut self, now: Time, first: Time, world: &mut World, fold: &mut Fold) {
        let took = world.issue(first).at.from(first).since(first);
        let (key, lifetime, pace) = (self.signing, self.plan.token_lifetime, world.pace());
        let token = |at| TokenFacts { key, expires: pace.unix(at) + lifetime, forged: None };
        let mut renewals = 0.0;
        let ask = |first, cycle, times| {
            renewals += times as f64;
            if self.counts_renewals {
                fold.tokens_requested(first, cycle, times);
            }
        };
        self.sessions.renew_until(now, took, ask, token);
        self.thin_out(key, renewals);
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
        while let Some(renewal) = self.sessions.due(now) {
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
        for OfKey { key, hazard, .. } in &mut self.held {
            let Some(hazard) = hazard else { continue };
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
            let held = self.held_mut(before);
            if let Some(place) = held.by.iter().position(|holder| *holder == session) {
                held.by.swap_remove(place);
            }
            self.held_mut(after).by.push(session);
        }
        self.threaten(after, session, now, before != after);
        before != after
    }

    /// So many tokens of a key were replaced. Nobody asks for that while sessions keep what is rejected.
    fn thin_out(&mut self, key: KeyId, replaced: f64) {
        if self.plan.traffic.on_reject == OnReject::Keep {
            return;
        }
        let held = self.held_mut(key);
        let kept = (1.0 - 1.0 / held.by.len().max(1) as f64).max(NEARLY_NONE);
        held.survival += replaced * libm::log(kept);
    }

    /// From now on a session that holds this key's token is rejected and locked out this often per second.
    pub(super) fn set_hazard(&mut self, key: KeyId, now: Time, (rejected, locked_out): (f64, f64)) {
        let rejected = if self.plan.traffic.on_reject == OnReject::Keep { 0.0 } else { rejected };
        let calm = (rejected, locked_out) == (0.0, 0.0);
        let held = self.held_mut(key);
        let was_calm = held.hazard.is_none();
        if calm {
            // The wait for a random event is none the shorter for having lasted, so nobody need remember it.
            held.hazard = None;
            return;
        }
        let new = || Hazard { rejection: Intensity::new(now), lock_out: Intensity::new(now) };
        let hazard = held.hazard.get_or_insert_with(new);
        hazard.rejection.set(now, rejected);
        hazard.lock_out.set(now, locked_out);
        if was_calm {
            for session in held.by.clone() {
                self.threaten(key, session, now, true);
            }
        }
    }

    /// A session has a token of a key, and perhaps had none of it before.
    fn threaten(&mut self, key: KeyId, session: u32, now: Time, is_new: bool) {
        let held = self.held.iter_mut().find(|held| held.key == key);
        let Some(hazard) = held.and_then(|held| held.hazard.as_mut()) else { return };
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
        self.held(key).map_or(0.0, |held| held.survival)
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
