//! What is kept between fetches: the whole set, or entries for the classes that were asked for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::keys::{Index, Keys, Selection};
use crate::key::Class;
use crate::policy::{OnMissingKid, Policy, Store};
use crate::time::Time;

/// How long something that was loaded may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// Until then without asking.
    pub(super) fresh_until: Time,
    /// Until then if fetching fails.
    pub(super) stale_until: Time,
}

/// What is kept for one class.
pub(super) struct Held<K> {
    pub(super) selection: Selection<K>,
    pub(super) lifetime: Lifetime,
}

#[derive(Clone, Debug)]
pub(super) struct Shelf<K> {
    on_missing_kid: OnMissingKid,
    content: Content<K>,
}

#[derive(Clone, Debug)]
enum Content<K> {
    Set(Option<(Arc<Index<K>>, Lifetime)>),
    PerKid { entries: BTreeMap<Class, Entry<K>>, max: usize, uses: u64 },
}

#[derive(Clone, Debug)]
struct Entry<K> {
    keys: Keys<K>,
    lifetime: Lifetime,
    used: u64,
}

impl<K> Shelf<K> {
    pub(super) fn new(policy: &Policy) -> Self {
        let content = match policy.store {
            Store::Set => Content::Set(None),
            Store::PerKid => {
                Content::PerKid { entries: BTreeMap::new(), max: policy.max_entries as usize, uses: 0 }
            }
        };
        Self { on_missing_kid: policy.on_missing_kid, content }
    }

    /// What is kept for this class, fresh or not; `None` when nothing that could answer was ever loaded.
    pub(super) fn held(&self, class: &Class) -> Option<Held<K>> {
        match &self.content {
            Content::Set(loaded) => loaded.as_ref().map(|(set, lifetime)| Held {
                selection: set.select(class, self.on_missing_kid),
                lifetime: *lifetime,
            }),
            Content::PerKid { entries, .. } => entries.get(class).map(|entry| Held {
                selection: Selection::Found(entry.keys.clone()),
                lifetime: entry.lifetime,
            }),
        }
    }

    /// Keeps what a fetch delivered: the set, or the keys of the classes that it was made for.
    pub(super) fn load(&mut self, set: &Arc<Index<K>>, wanted: &BTreeSet<Class>, lifetime: Lifetime) {
        match &mut self.content {
            Content::Set(loaded) => *loaded = Some((Arc::clone(set), lifetime)),
            Content::PerKid { .. } => {
                for class in wanted {
                    self.load_class(set, class, lifetime);
                }
            }
        }
    }

    fn load_class(&mut self, set: &Index<K>, class: &Class, lifetime: Lifetime) {
        let Content::PerKid { entries, max, uses } = &mut self.content else { return };
        let Selection::Found(keys) = set.select(class, self.on_missing_kid) else {
            entries.remove(class);
            return;
        };
        if entries.len() >= *max && !entries.contains_key(class) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used).map(|(class, _)| class.clone());
            oldest.and_then(|class| entries.remove(&class));
        }
        *uses += 1;
        entries.insert(class.clone(), Entry { keys, lifetime, used: *uses });
    }

    pub(super) fn clear(&mut self) {
        match &mut self.content {
            Content::Set(loaded) => *loaded = None,
            Content::PerKid { entries, .. } => entries.clear(),
        }
    }

    /// Whether a hit on this class changes which entry is evicted next.
    ///
    /// Recency counts only while the store is full. Before that nothing can be evicted, and hits that changed
    /// nothing may go uncounted.
    pub(super) fn moves_on_hit(&self, class: &Class) -> bool {
        match &self.content {
            Content::Set(_) => false,
            Content::PerKid { entries, max, uses } => {
                entries.len() >= *max && entries.get(class).is_some_and(|entry| entry.used != *uses)
            }
        }
    }

    pub(super) fn hit(&mut self, class: &Class) {
        if let Content::PerKid { entries, uses, .. } = &mut self.content
            && let Some(entry) = entries.get_mut(class)
        {
            *uses += 1;
            entry.used = *uses;
        }
    }

    /// Every class that could be answered with a key, each once.
    pub(super) fn classes(&self) -> Vec<Class> {
        match &self.content {
            Content::Set(loaded) => {
                let named: BTreeSet<Class> = loaded.iter().flat_map(|(set, _)| set.classes()).collect();
                let nameless = named.iter().map(|class| Class { kid: None, ..class.clone() });
                nameless.chain(named.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
            }
            Content::PerKid { entries, .. } => entries.keys().cloned().collect(),
        }
    }
}
