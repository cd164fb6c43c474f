//! What is kept between fetches: the whole set, or entries for the classes that were asked for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::keys::{Index, Keys, Selection};
use crate::key::{Class, KeyVersion};
use crate::policy::{OnMissingKid, Policy, Store};
use crate::time::{Span, Time};

/// How long something that was loaded may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// From then on a lookup refreshes it.
    pub(super) refresh_from: Time,
    /// Until then without asking.
    pub(super) fresh_until: Time,
    /// Until then if fetching fails.
    pub(super) stale_until: Time,
}

impl Lifetime {
    /// What is over ended now, and what is past its time serves on for ever: returns until when it really does.
    fn settle(&mut self, now: Time) -> Option<Time> {
        self.refresh_from = self.refresh_from.max(now);
        self.fresh_until = self.fresh_until.max(now);
        self.stale_until = self.stale_until.max(now);
        let serves_on = self.fresh_until == now && self.stale_until > now;
        serves_on.then(|| core::mem::replace(&mut self.stale_until, Time::NEVER))
    }

    fn hold_until(&mut self, now: Time, until: Time) {
        if self.fresh_until == now && self.stale_until == Time::NEVER {
            self.stale_until = until;
        }
    }

    fn shift(&mut self, moved: &impl Fn(Time) -> Time) {
        *self = Self {
            refresh_from: moved(self.refresh_from),
            fresh_until: moved(self.fresh_until),
            stale_until: moved(self.stale_until),
        };
    }
}

/// What is kept for one class.
pub(super) struct Held<K> {
    pub(super) selection: Selection<K>,
    pub(super) lifetime: Lifetime,
    /// Whether it lies in the set under the entries, and becomes one of them.
    pub(super) promotes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shelf<K> {
    on_missing_kid: OnMissingKid,
    content: Content<K>,
    /// The set before the one that is stored, and until when it may be used.
    previous: Option<(Arc<Index<K>>, Time)>,
    last_known_good: Span,
    inner_ttl: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content<K> {
    None,
    Set(Option<(Arc<Index<K>>, Lifetime)>),
    PerKid {
        entries: BTreeMap<Class, Entry<K>>,
        max: usize,
        uses: u64,
        /// The set under them, if there is one, and until when it is fresh.
        under: Option<Option<(Arc<Index<K>>, Time)>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry<K> {
    keys: Keys<K>,
    lifetime: Lifetime,
    used: u64,
}

impl<K> Shelf<K> {
    pub(super) fn new(policy: &Policy) -> Self {
        let content = match policy.store {
            Store::None => Content::None,
            Store::Set => Content::Set(None),
            Store::PerKid | Store::PerKidOverSet => Content::PerKid {
                entries: BTreeMap::new(),
                max: policy.max_entries as usize,
                uses: 0,
                under: (policy.store == Store::PerKidOverSet).then_some(None),
            },
        };
        Self {
            on_missing_kid: policy.on_missing_kid,
            content,
            previous: None,
            last_known_good: policy.last_known_good,
            inner_ttl: policy.inner_ttl,
        }
    }

    /// Whether anything was ever stored, and is not gone.
    pub(super) fn is_loaded(&self) -> bool {
        match &self.content {
            Content::None => false,
            Content::Set(loaded) => loaded.is_some(),
            Content::PerKid { entries, .. } => !entries.is_empty(),
        }
    }

    /// What is kept for this class, fresh or not; `None` when nothing that could answer was ever loaded.
    pub(super) fn held(&self, class: &Class, now: Time) -> Option<Held<K>> {
        match &self.content {
            Content::None => None,
            Content::Set(loaded) => loaded.as_ref().map(|(set, lifetime)| Held {
                selection: set.select(class, self.on_missing_kid),
                lifetime: *lifetime,
                promotes: false,
            }),
            Content::PerKid { entries, under, .. } => {
                let entry = entries.get(class);
                let is_fresh = entry.is_some_and(|entry| now < entry.lifetime.fresh_until);
                let under = under.iter().flatten().find(|(_, until)| !is_fresh && now < *until);
                under.map(|(set, until)| self.held_under(set, *until, class)).or_else(|| {
                    entry.map(|entry| Held {
                        selection: Selection::Found(entry.keys.clone()),
                        lifetime: entry.lifetime,
                        promotes: false,
                    })
                })
            }
        }
    }

    fn held_under(&self, set: &Index<K>, until: Time, class: &Class) -> Held<K> {
        Held {
            selection: set.select(class, self.on_missing_kid),
            lifetime: Lifetime { refresh_from: until, fresh_until: until, stale_until: until },
            promotes: true,
        }
    }

    /// Fresh keys for this class that are not of that version, and until when they are fresh.
    pub(super) fn other(&self, class: &Class, tried: KeyVersion, now: Time) -> Option<(Keys<K>, Time)> {
        let under = match &self.content {
            Content::PerKid { under, .. } => under.iter().flatten().find(|(_, until)| now < *until),
            Content::None | Content::Set(_) => None,
        };
        let under = under.map(|(set, until)| self.held_under(set, *until, class));
        self.held(class, now).into_iter().chain(under).find_map(|held| match held.selection {
            Selection::Found(keys) if now < held.lifetime.fresh_until && keys.version() != tried => {
                Some((keys, held.lifetime.fresh_until))
            }
            _ => None,
        })
    }

    /// The keys for this class in the set before the last, and until when they may be used.
    pub(super) fn last_known_good(&self, class: &Class, now: Time) -> Option<(Keys<K>, Time)> {
        let (set, until) = self.previous.as_ref().filter(|(_, until)| now < *until)?;
        match set.select(class, self.on_missing_kid) {
            Selection::Found(keys) => Some((keys, *until)),
            Selection::NotFound | Selection::KidMissing => None,
        }
    }

    /// Keeps what a fetch delivered at that moment: the set, or the keys of the classes that it was made for.
    pub(super) fn load(
        &mut self,
        set: &Arc<Index<K>>,
        wanted: &BTreeSet<Class>,
        at: Time,
        lifetime: Lifetime,
    ) {
        match &mut self.content {
            Content::None => {}
            Content::Set(loaded) => {
                let before = loaded.replace((Arc::clone(set), lifetime));
                self.previous = before
                    .filter(|_| self.last_known_good > Span::ZERO)
                    .map(|(set, _)| (set, at + self.last_known_good));
            }
            Content::PerKid { under, .. } => {
                if let Some(under) = under {
                    *under = Some((Arc::clone(set), at + self.inner_ttl));
                }
                for class in wanted {
                    self.load_class(set, class, lifetime);
                }
            }
        }
    }

    /// Keeps keys of the set under the entries as one of them.
    pub(super) fn promote(&mut self, class: &Class, keys: Keys<K>, lifetime: Lifetime) {
        let Content::PerKid { entries, max, uses, .. } = &mut self.content else { return };
        if entries.len() >= *max && !entries.contains_key(class) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used).map(|(class, _)| class.clone());
            oldest.and_then(|class| entries.remove(&class));
        }
        *uses += 1;
        entries.insert(class.clone(), Entry { keys, lifetime, used: *uses });
    }

    /// What is stored is as good as new.
    pub(super) fn rearm(&mut self, lifetime: Lifetime) {
        match &mut self.content {
            Content::None => {}
            Content::Set(loaded) => loaded.iter_mut().for_each(|(_, old)| *old = lifetime),
            Content::PerKid { entries, .. } => {
                entries.values_mut().for_each(|entry| entry.lifetime = lifetime)
            }
        }
    }

    fn load_class(&mut self, set: &Index<K>, class: &Class, lifetime: Lifetime) {
        match (set.select(class, self.on_missing_kid), &mut self.content) {
            (Selection::Found(keys), _) => self.promote(class, keys, lifetime),
            (_, Content::PerKid { entries, .. }) => drop(entries.remove(class)),
            _ => {}
        }
    }

    pub(super) fn clear(&mut self) {
        self.previous = None;
        match &mut self.content {
            Content::None => {}
            Content::Set(loaded) => *loaded = None,
            Content::PerKid { entries, under, .. } => {
                entries.clear();
                under.iter_mut().for_each(|under| *under = None);
            }
        }
    }

    /// Whether a hit on this class changes which entry is evicted next.
    ///
    /// Recency counts only while the store is full. Before that nothing can be evicted, and hits that changed
    /// nothing may go uncounted.
    pub(super) fn moves_on_hit(&self, class: &Class) -> bool {
        match &self.content {
            Content::None | Content::Set(_) => false,
            Content::PerKid { entries, max, uses, .. } => {
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

    /// What of it still matters: not which of two moments that are over was the earlier, and of uses only their order.
    /// What is past its time serves on without end here, and as long as is said beside it; `None` when that is not one
    /// moment.
    pub(super) fn ahead(&self, now: Time) -> Option<(Self, Time)>
    where
        K: Clone,
    {
        let mut ahead = self.clone();
        let mut served_until = BTreeSet::new();
        ahead.previous = ahead.previous.filter(|(_, until)| now < *until);
        match &mut ahead.content {
            Content::None => {}
            Content::Set(loaded) => {
                loaded.iter_mut().for_each(|(_, lifetime)| served_until.extend(lifetime.settle(now)));
            }
            Content::PerKid { entries, uses, under, .. } => {
                under.iter_mut().for_each(|under| *under = under.take().filter(|(_, until)| now < *until));
                let is_touched = entries.values().any(|entry| entry.used == *uses);
                let mut order: Vec<&mut Entry<K>> = entries.values_mut().collect();
                order.sort_by_key(|entry| entry.used);
                for (place, entry) in (1..).zip(order) {
                    served_until.extend(entry.lifetime.settle(now));
                    entry.used = place;
                }
                *uses = entries.len() as u64 + u64::from(!is_touched);
            }
        }
        (served_until.len() <= 1).then(|| (ahead, served_until.pop_first().unwrap_or(Time::NEVER)))
    }

    /// What is past its time at a moment serves on until that one, where it would without end.
    pub(super) fn hold_until(&mut self, now: Time, until: Time) {
        match &mut self.content {
            Content::None => {}
            Content::Set(loaded) => {
                loaded.iter_mut().for_each(|(_, lifetime)| lifetime.hold_until(now, until))
            }
            Content::PerKid { entries, .. } => {
                entries.values_mut().for_each(|entry| entry.lifetime.hold_until(now, until));
            }
        }
    }

    pub(super) fn shift(&mut self, moved: &impl Fn(Time) -> Time) {
        self.previous.iter_mut().for_each(|(_, until)| *until = moved(*until));
        match &mut self.content {
            Content::None => {}
            Content::Set(loaded) => loaded.iter_mut().for_each(|(_, lifetime)| lifetime.shift(moved)),
            Content::PerKid { entries, under, .. } => {
                under.iter_mut().flatten().for_each(|(_, until)| *until = moved(*until));
                entries.values_mut().for_each(|entry| entry.lifetime.shift(moved));
            }
        }
    }

    /// Every class that could be answered with a key, each once.
    pub(super) fn classes(&self) -> Vec<Class> {
        match &self.content {
            Content::None => Vec::new(),
            Content::Set(loaded) => {
                let sets = loaded.iter().map(|(set, _)| set).chain(self.previous.iter().map(|(set, _)| set));
                let named: BTreeSet<Class> = sets.flat_map(|set| set.classes()).collect();
                let nameless = named.iter().map(|class| Class { kid: None, ..class.clone() });
                nameless.chain(named.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
            }
            Content::PerKid { entries, .. } => entries.keys().cloned().collect(),
        }
    }
}
