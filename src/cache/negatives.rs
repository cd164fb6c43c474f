//! Names that a fetch did not bring.

use alloc::collections::BTreeMap;

use crate::key::Class;
use crate::time::Time;

/// The most that are remembered; the one that would be forgotten next makes room.
const MAX: usize = 1_024;

/// Until when each class of tokens is refused without a fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Negatives {
    until: BTreeMap<Class, Time>,
}

impl Negatives {
    pub(super) fn until(&self, class: &Class, now: Time) -> Option<Time> {
        self.until.get(class).copied().filter(|until| now < *until)
    }

    pub(super) fn remember(&mut self, class: &Class, now: Time, until: Time) {
        if now >= until {
            return;
        }
        if self.until.len() >= MAX {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= MAX {
            let next = self.until.iter().min_by_key(|(_, until)| **until).map(|(class, _)| class.clone());
            next.and_then(|class| self.until.remove(&class));
        }
        self.until.insert(class.clone(), until);
    }

    pub(super) fn forget(&mut self, is_known: impl Fn(&Class) -> bool) {
        self.until.retain(|class, _| !is_known(class));
    }

    /// What of it still matters.
    pub(super) fn ahead(&self, now: Time) -> Self {
        let mut ahead = self.clone();
        ahead.until.retain(|_, until| now < *until);
        ahead
    }

    pub(super) fn shift(&mut self, moved: &impl Fn(Time) -> Time) {
        self.until.values_mut().for_each(|until| *until = moved(*until));
    }
}
