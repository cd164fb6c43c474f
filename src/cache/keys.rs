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
pub(super) enum Selection<K> {
    Found(Keys<K>),
    /// The token names a key that the set does not have.
    NotFound,
    /// The token names no key, and the policy does not let it use any of these.
    KidMissing,
}

impl<K> KeySet<K> {
    pub(super) fn select(&self, class: &Class, on_missing_kid: OnMissingKid) -> Selection<K> {
        let mut candidates = self
            .keys
            .iter()
            .filter(|entry| entry.algorithm == class.algorithm)
            .filter(|entry| class.kid.is_none() || entry.kid == class.kid)
            .take(MAX_CANDIDATES)
            .cloned();
        let found = candidates.next().map(|first| Keys { first, rest: candidates.collect() });
        match (found, &class.kid, on_missing_kid) {
            (Some(keys), Some(_), _) => Selection::Found(keys),
            (None, Some(_), _) => Selection::NotFound,
            (Some(keys), None, OnMissingKid::ByAlg) => Selection::Found(keys),
            (Some(keys), None, OnMissingKid::OnlyKey) if keys.rest.is_empty() => Selection::Found(keys),
            (_, None, _) => Selection::KidMissing,
        }
    }

    /// The classes that name a key of this set, in its order.
    pub(super) fn classes(&self) -> impl Iterator<Item = Class> {
        self.keys.iter().map(|entry| Class { kid: entry.kid.clone(), algorithm: entry.algorithm })
    }
}
