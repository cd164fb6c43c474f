//! The provider's true timeline: when which key is in which phase, as a pure function of the plan.
//!
//! It is the oracle's source: it knows what is so at any instant without asking the running provider.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use keyquake_core::Time;
use serde::Serialize;

use crate::fault::{Fault, FaultError, FaultId, FaultWindow};
use crate::rotation::{Rotation, RotationError, Style};

/// The moment of what has been so since ever: of the first key, and of leads longer than the clock reaches.
const EVER: Time = Time::from_nanos(i64::MIN);

/// A key's place in the timeline. Its text, `key-1` for the first, is the key's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The key that is active before the first rotation.
    pub const FIRST: Self = Self(1);

    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key-{}", self.0)
    }
}

/// Why a text is not the label of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys are called `key-1`, `key-2` and so on")]
pub struct KeyIdError;

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(label: &str) -> Result<Self, KeyIdError> {
        let number = label.strip_prefix("key-").and_then(|digits| digits.parse().ok()).ok_or(KeyIdError)?;
        // One label a key: no `key-0`, `key-+1` or `key-01`.
        if number > 0 && Self(number).to_string() == label { Ok(Self(number)) } else { Err(KeyIdError) }
    }
}

/// The moments of one key; [`Time::NEVER`] for those that do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it appears in the JWKS.
    pub published: Time,
    /// When it begins to sign.
    pub active: Time,
    /// When it ceases to sign.
    pub retired: Time,
    /// When it disappears from the JWKS.
    pub removed: Time,
    /// When its tokens must be refused.
    pub revoked: Time,
    /// The key whose name it took over, if it came by [`Style::Rekey`].
    pub same_kid_as: Option<KeyId>,
}

/// What is true of a key at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyState {
    /// It is in the JWKS.
    pub published: bool,
    /// It signs new tokens.
    pub active: bool,
    /// It has ceased to sign and is not yet removed.
    pub retired: bool,
    /// It is gone from the JWKS.
    pub removed: bool,
    /// It is compromised: its tokens must be refused.
    pub revoked: bool,
}

impl Life {
    const fn new(published: Time, active: Time, same_kid_as: Option<KeyId>) -> Self {
        let never = Time::NEVER;
        Self { published, active, retired: never, removed: never, revoked: never, same_kid_as }
    }

    /// What is true at an instant; an event at that instant is already in force.
    pub fn state(&self, at: Time) -> KeyState {
        KeyState {
            published: self.published <= at && at < self.removed,
            active: self.active <= at && at < self.retired,
            retired: self.retired <= at && at < self.removed,
            removed: self.removed <= at,
            revoked: self.revoked <= at,
        }
    }

    /// Ends the life as a rotation does to the key that signed until then.
    fn end(&mut self, rotation: &Rotation) {
        self.retired = rotation.at;
        self.removed = rotation.removed();
        if rotation.style == Style::Revoke {
            self.revoked = rotation.at;
        }
        // Gone before its late publication: it will not come back.
        if self.published >= self.removed {
            self.published = Time::NEVER;
        }
    }

    fn events(&self, key: KeyId) -> [TimedEvent; 5] {
        [
            (self.published, Event::Publish(key)),
            (self.active, Event::Activate(key)),
            (self.retired, Event::Retire(key)),
            (self.removed, Event::Remove(key)),
            (self.revoked, Event::Revoke(key)),
        ]
        .map(|(at, event)| TimedEvent { at, event })
    }
}

/// A change of the provider's state. The order of the variants is the order in one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A fault ends.
    FaultOff(FaultId),
    /// A fault begins.
    FaultOn(FaultId),
    /// A key appears in the JWKS.
    Publish(KeyId),
    /// A key begins to sign.
    Activate(KeyId),
    /// A key ceases to sign.
    Retire(KeyId),
    /// A key disappears from the JWKS.
    Remove(KeyId),
    /// A key's tokens must be refused from now on.
    Revoke(KeyId),
}

impl Event {
    /// What happens, without saying to whom.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FaultOff(_) => "fault-off",
            Self::FaultOn(_) => "fault-on",
            Self::Publish(_) => "publish",
            Self::Activate(_) => "activate",
            Self::Retire(_) => "retire",
            Self::Remove(_) => "remove",
            Self::Revoke(_) => "revoke",
        }
    }

    /// The key that it happens to, if it is one.
    pub const fn key(self) -> Option<KeyId> {
        match self {
            Self::FaultOff(_) | Self::FaultOn(_) => None,
            Self::Publish(key)
            | Self::Activate(key)
            | Self::Retire(key)
            | Self::Remove(key)
            | Self::Revoke(key) => Some(key),
        }
    }

    /// The fault that it happens to, if it is one.
    pub const fn fault(self) -> Option<FaultId> {
        match self {
            Self::FaultOff(fault) | Self::FaultOn(fault) => Some(fault),
            _ => None,
        }
    }
}

/// An event and its planned moment, in the order in which events apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimedEvent {
    /// When it happens.
    pub at: Time,
    /// What happens.
    pub event: Event,
}

/// Why rotations and faults do not make a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    /// A rotation contradicts its style.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// A fault means nothing.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// Two rotations would activate two keys.
    #[error("two rotations at the same instant, {}s", at.as_secs_f64())]
    SameInstant {
        /// The instant.
        at: Time,
    },
    /// There is no active key whose name could be taken over.
    #[error("nothing to rekey: no key is active then")]
    NothingToRekey,
    /// The name that a later rotation takes over is already fixed.
    #[error("a `rekey` is planned for later: no rotation can be put before it")]
    BeforeRekey,
    /// More keys than a run can generate in reasonable time.
    #[error("more than {} keys", Timeline::MAX_KEYS)]
    TooManyKeys,
    /// More faults than anyone can tell apart.
    #[error("more than {} faults", Timeline::MAX_FAULTS)]
    TooManyFaults,
}

#[derive(Clone, Debug)]
struct Planned {
    rotation: Rotation,
    /// The new key and the key whose name it takes over.
    new: Option<(KeyId, Option<KeyId>)>,
}

/// All that is planned to happen to a provider, and what is true when.
///
/// It remembers [`Timeline::MAX_KEYS`] keys. A provider that rotates on and on forgets its oldest ones.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The key that signs before the first of the rotations.
    origin: Option<(KeyId, Life)>,
    rotations: Vec<Planned>,
    /// From when on nothing is forgotten.
    since: Time,
    faults: Vec<FaultWindow>,
    lives: BTreeMap<KeyId, Life>,
    events: Vec<TimedEvent>,
}

impl Timeline {
    /// The most keys that a timeline has at a time. 256 RSA keys take some 20 seconds to generate.
    pub const MAX_KEYS: usize = 256;
    /// The most faults that a timeline can have, ended ones included.
    pub const MAX_FAULTS: usize = 1_024;

    /// Plans rotations and faults. Keys are numbered in the order of their activation.
    ///
    /// # Errors
    ///
    /// [`TimelineError`] says which of them contradict themselves or each other.
    pub fn new(mut rotations: Vec<Rotation>, faults: Vec<FaultWindow>) -> Result<Self, TimelineError> {
        rotations.sort_by_key(|rotation| rotation.at);
        let mut timeline = Self {
            origin: Some((KeyId::FIRST, Life::new(EVER, EVER, None))),
            rotations: Vec::new(),
            since: EVER,
            faults: Vec::new(),
            lives: BTreeMap::new(),
            events: Vec::new(),
        };
        timeline.replan();
        for rotation in rotations {
            timeline = timeline.with_rotation(rotation)?;
        }
        for window in faults {
            timeline.plan_fault(window)?;
        }
        timeline.replan();
        Ok(timeline)
    }

    /// Everything that happens, in the order in which it applies. What was so since ever is no event.
    pub fn events(&self) -> &[TimedEvent] {
        &self.events
    }

    /// The keys and their moments, in the order of their labels.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, &Life)> {
        self.lives.iter().map(|(key, life)| (*key, life))
    }

    /// The moments of one key.
    pub fn life(&self, key: KeyId) -> Option<&Life> {
        self.lives.get(&key)
    }

    /// What is true of a key at an instant: nothing for a key that the timeline does not know.
    pub fn key_state(&self, key: KeyId, at: Time) -> KeyState {
        self.life(key).map(|life| life.state(at)).unwrap_or_default()
    }

    /// The key that signs at an instant.
    pub fn active_key(&self, at: Time) -> Option<KeyId> {
        self.keys().find(|(_, life)| life.state(at).active).map(|(key, _)| key)
    }

    /// A fault and the time for which it is in force.
    pub fn fault(&self, id: FaultId) -> Option<&FaultWindow> {
        self.faults.get(id.index())
    }

    /// The faults in force at an instant, in the order in which they were planned.
    pub fn faults_at(&self, at: Time) -> impl Iterator<Item = (FaultId, &Fault)> {
        self.faults
            .iter()
            .enumerate()
            .filter(move |(_, window)| window.from <= at && at < window.until)
            .map(|(index, window)| (FaultId::at(index), &window.fault))
    }

    /// The key with the highest label.
    pub(crate) fn newest_key(&self) -> KeyId {
        self.lives.keys().next_back().copied().unwrap_or(KeyId::FIRST)
    }

    /// From when on it knows what was true: since ever, until it forgets a key.
    pub(crate) fn since(&self) -> Time {
        self.since
    }

    /// Forgets the oldest key if there is room for no other and it is no longer published: no token can be verified
    /// with it any more. The newest label stays known, as one key goes for each that comes.
    pub(crate) fn make_room(&mut self, now: Time) -> Option<KeyId> {
        if self.lives.len() < Self::MAX_KEYS {
            return None;
        }
        let (oldest, _) = self.origin?;
        let removed = self.life(oldest)?.removed;
        if removed > now {
            return None;
        }
        let successor = self.rotations.remove(0).new.and_then(|(key, _)| Some((key, *self.life(key)?)));
        // Its end is the next rotation's to say.
        self.origin =
            successor.map(|(key, life)| (key, Life::new(life.published, life.active, life.same_kid_as)));
        self.since = removed.max(self.since);
        self.replan();
        Some(oldest)
    }

    pub(crate) fn with_rotation(mut self, rotation: Rotation) -> Result<Self, TimelineError> {
        rotation.check()?;
        let place = self.rotations.partition_point(|planned| planned.rotation.at < rotation.at);
        let later = &self.rotations[place..];
        if later.first().is_some_and(|next| next.rotation.at == rotation.at) {
            return Err(TimelineError::SameInstant { at: rotation.at });
        }
        if later.iter().any(|next| next.rotation.style == Style::Rekey) {
            return Err(TimelineError::BeforeRekey);
        }
        if rotation.replace && self.lives.len() >= Self::MAX_KEYS {
            return Err(TimelineError::TooManyKeys);
        }
        let new = if rotation.replace {
            Some((self.newest_key().next(), self.kid_to_take_over(&rotation)?))
        } else {
            None
        };
        self.rotations.insert(place, Planned { rotation, new });
        self.replan();
        Ok(self)
    }

    fn kid_to_take_over(&self, rotation: &Rotation) -> Result<Option<KeyId>, TimelineError> {
        match (rotation.style, self.active_key(rotation.at)) {
            (Style::Rekey, None) => Err(TimelineError::NothingToRekey),
            (Style::Rekey, old) => Ok(old),
            _ => Ok(None),
        }
    }

    fn plan_fault(&mut self, window: FaultWindow) -> Result<FaultId, TimelineError> {
        window.check()?;
        if self.faults.len() >= Self::MAX_FAULTS {
            return Err(TimelineError::TooManyFaults);
        }
        self.faults.push(window);
        Ok(FaultId::at(self.faults.len() - 1))
    }

    pub(crate) fn add_fault(&mut self, window: FaultWindow) -> Result<FaultId, TimelineError> {
        let id = self.plan_fault(window)?;
        self.replan();
        Ok(id)
    }

    /// Ends a fault that is in force; `false` if it is not.
    pub(crate) fn end_fault(&mut self, id: FaultId, at: Time) -> bool {
        match self.faults.get_mut(id.index()) {
            Some(window) if window.from < at && at < window.until => {
                window.until = at;
                self.replan();
                true
            }
            _ => false,
        }
    }

    /// Derives lives and events from the plan.
    fn replan(&mut self) {
        self.lives = self.origin.into_iter().collect();
        let mut active = self.origin.map(|(key, _)| key);
        for Planned { rotation, new } in &self.rotations {
            if let Some(old) = active.and_then(|key| self.lives.get_mut(&key)) {
                old.end(rotation);
            }
            active = new.map(|(key, same_kid_as)| {
                self.lives.insert(key, Life::new(rotation.published(), rotation.at, same_kid_as));
                key
            });
        }
        let keys = self.lives.iter().flat_map(|(key, life)| life.events(*key));
        let faults = self
            .faults
            .iter()
            .enumerate()
            .flat_map(|(index, window)| fault_events(window, FaultId::at(index)));
        self.events =
            keys.chain(faults).filter(|timed| timed.at != EVER && timed.at != Time::NEVER).collect();
        self.events.sort_unstable();
    }
}

fn fault_events(window: &FaultWindow, id: FaultId) -> [TimedEvent; 2] {
    [
        TimedEvent { at: window.from, event: Event::FaultOn(id) },
        TimedEvent { at: window.until, event: Event::FaultOff(id) },
    ]
}

#[cfg(test)]
mod tests;
