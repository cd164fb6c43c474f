//! What is in force: the sum of the events so far.

use std::collections::{BTreeMap, BTreeSet};

use keyquake_core::Time;

use crate::fault::FaultId;
use crate::timeline::{Event, KeyId, KeyState, Timeline};

/// The phases of all keys and the faults in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    keys: BTreeMap<KeyId, KeyState>,
    faults: BTreeSet<FaultId>,
}

impl Standing {
    /// What was so before the first event.
    pub(super) fn since_ever(timeline: &Timeline) -> Self {
        let ever = Time::from_nanos(i64::MIN);
        Self { keys: timeline.keys().map(|(key, life)| (key, life.state(ever))).collect(), ..Self::default() }
    }

    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::FaultOff(fault) => {
                self.faults.remove(&fault);
            }
            Event::FaultOn(fault) => {
                self.faults.insert(fault);
            }
            Event::Publish(key) => self.key(key).published = true,
            Event::Activate(key) => self.key(key).active = true,
            Event::Retire(key) => {
                let state = self.key(key);
                (state.active, state.retired) = (false, true);
            }
            Event::Remove(key) => {
                let state = self.key(key);
                (state.published, state.retired, state.removed) = (false, false, true);
            }
            Event::Revoke(key) => self.key(key).revoked = true,
        }
    }

    pub(super) fn forget(&mut self, key: KeyId) {
        self.keys.remove(&key);
    }

    fn key(&mut self, key: KeyId) -> &mut KeyState {
        self.keys.entry(key).or_default()
    }

    /// The keys that the provider had or has, and those planned from the start.
    pub fn keys(&self) -> &BTreeMap<KeyId, KeyState> {
        &self.keys
    }

    /// The faults in force.
    pub fn faults(&self) -> &BTreeSet<FaultId> {
        &self.faults
    }

    /// The key that signs, if one does.
    pub fn active_key(&self) -> Option<KeyId> {
        self.keys.iter().find(|(_, state)| state.active).map(|(key, _)| *key)
    }

    /// The keys in the JWKS, in its order: that of their labels.
    pub fn published_keys(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().filter(|(_, state)| state.published).map(|(key, _)| *key)
    }
}
