//! Keys as a fetch delivers them, and the choice among them for one token.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::key::{Algorithm, Class, KeyVersion, Kid};
use crate::policy::OnMissingKid;

/// The most keys that a token is tried with.
const MAX_CANDIDATES: usize = 8;

/// One usable key. `K` is whatever verifies a signature; the simulator needs nothing and uses `()`.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyEntry<K> {
    /// Its name in the set, if it has one.
    pub kid: Option<Kid>,
    /// The algorithm that it is pinned to.
    pub algorithm: Algorithm,
    /// Its material.
    pub version: KeyVersion,
    /// The key itself.
    pub key: K,
}

/// The keys of one JWKS response.
#[derive(Debug, PartialEq, Eq)]
pub struct KeySet<K> {
    /// The usable keys, in the order of the set.
    pub keys: Vec<Arc<KeyEntry<K>>>,
    /// How many keys of the set cannot be used.
    pub unusable: usize,
}

/// One or more keys that may verify a token, to be tried in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct Keys<K> {
    first: Arc<KeyEntry<K>>,
    // Nearly always empty, and then it does not allocate.
    rest: Vec<Arc<KeyEntry<K>>>,
}

impl<K> Clone for Keys<K> {
    fn clone(&self) -> Self {
        Self { first: Arc::clone(&self.first), rest: self.rest.clone() }
    }
}

impl<K> Keys<K> {
    /// The keys, in the order in which they are to be tried; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &KeyEntry<K>> {
        core::iter::once(&*self.first).chain(self.rest.iter().map(|entry| &**entry))
    }

    /// Names the material of all of them together: other keys have another version.
    pub fn version(&self) -> KeyVersion {
        self.rest.iter().fold(self.first.version, |version, entry| {
            KeyVersion(version.0.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ entry.version.0)
        })
    }
}

/// What a set holds for one class of tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection<K> {
    Found(Keys<K>),
    /// The token names a key that the set does not have.
    NotFound,
    /// The token names no key, and the policy does not let it use any of these.
    KidMissing,
}

/// A set and where its names are, so that a choice costs no walk through all keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index<K> {
    set: Arc<KeySet<K>>,
    /// The places in the set, by name and algorithm; those of one class in the order of the set.
    places: Vec<usize>,
}

impl<K> Index<K> {
    pub(super) fn of(set: Arc<KeySet<K>>) -> Self {
        let mut places: Vec<usize> = (0..set.keys.len()).collect();
        places.sort_by(|a, b| set.keys[*a].name().cmp(&set.keys[*b].name()));
        Self { set, places }
    }

    pub(super) fn select(&self, class: &Class, on_missing_kid: OnMissingKid) -> Selection<K> {
        let Some(kid) = &class.kid else { return self.select_nameless(class.algorithm, on_missing_kid) };
        let wanted = (Some(kid), class.algorithm);
        let from = self.places.partition_point(|place| self.set.keys[*place].name() < wanted);
        let namesakes = self.places[from..].iter().map(|place| &self.set.keys[*place]);
        let found = Keys::first_of(namesakes.take_while(|entry| entry.name() == wanted));
        found.map_or(Selection::NotFound, Selection::Found)
    }

    fn select_nameless(&self, algorithm: Algorithm, on_missing_kid: OnMissingKid) -> Selection<K> {
        let found = Keys::first_of(self.set.keys.iter().filter(|entry| entry.algorithm == algorithm));
        match (found, on_missing_kid) {
            (Some(keys), OnMissingKid::ByAlg) => Selection::Found(keys),
            (Some(keys), OnMissingKid::OnlyKey) if keys.rest.is_empty() => Selection::Found(keys),
            _ => Selection::KidMissing,
        }
    }

    /// The classes that name a key of this set, in its order.
    pub(super) fn classes(&self) -> impl Iterator<Item = Class> {
        self.set.keys.iter().map(|entry| Class { kid: entry.kid.clone(), algorithm: entry.algorithm })
    }
}

impl<K> KeyEntry<K> {
    /// What it is found by.
    fn name(&self) -> (Option<&Kid>, Algorithm) {
        (self.kid.as_ref(), self.algorithm)
    }
}

impl<K> Keys<K> {
    fn first_of<'a>(entries: impl Iterator<Item = &'a Arc<KeyEntry<K>>>) -> Option<Self>
    where
        K: 'a,
    {
        let mut candidates = entries.take(MAX_CANDIDATES).cloned();
        candidates.next().map(|first| Self { first, rest: candidates.collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MISSING: [OnMissingKid; 3] = [OnMissingKid::Reject, OnMissingKid::OnlyKey, OnMissingKid::ByAlg];

    fn any_class() -> impl Strategy<Value = Class> {
        let kid = proptest::option::of("[abc]{0,1}".prop_map(|name| Kid::from(name.as_str())));
        let algorithm = prop_oneof![Just(Algorithm::Rs256), Just(Algorithm::Es256)];
        (kid, algorithm).prop_map(|(kid, algorithm)| Class { kid, algorithm })
    }

    /// The choice as a walk through all keys.
    fn walk(set: &KeySet<()>, class: &Class, on_missing_kid: OnMissingKid) -> Selection<()> {
        let suits = |entry: &&Arc<KeyEntry<()>>| {
            entry.algorithm == class.algorithm && (class.kid.is_none() || entry.kid == class.kid)
        };
        let found: Vec<_> = set.keys.iter().filter(suits).take(MAX_CANDIDATES).cloned().collect();
        match (&found[..], &class.kid, on_missing_kid) {
            ([], Some(_), _) => Selection::NotFound,
            ([first, rest @ ..], Some(_), _) | ([first, rest @ ..], None, OnMissingKid::ByAlg) => {
                Selection::Found(Keys { first: Arc::clone(first), rest: rest.to_vec() })
            }
            ([only], None, OnMissingKid::OnlyKey) => {
                Selection::Found(Keys { first: Arc::clone(only), rest: Vec::new() })
            }
            (_, None, _) => Selection::KidMissing,
        }
    }

    proptest! {
        #[test]
        fn the_index_chooses_what_a_walk_would(
            classes in proptest::collection::vec(any_class(), 0..40),
            wanted in any_class(),
            on_missing_kid in proptest::sample::select(&MISSING[..]),
        ) {
            let keys = (0_u64..).zip(classes).map(|(version, Class { kid, algorithm })| {
                Arc::new(KeyEntry { kid, algorithm, version: KeyVersion(version), key: () })
            });
            let set = Arc::new(KeySet { keys: keys.collect(), unusable: 0 });
            let index = Index::of(Arc::clone(&set));
            prop_assert_eq!(index.select(&wanted, on_missing_kid), walk(&set, &wanted, on_missing_kid));
        }
    }
}
