//! The part of a cache that readers may use without a lock.

use alloc::vec::Vec;

use super::keys::Keys;
use crate::key::{Algorithm, Class};
use crate::time::Time;

/// The keys that lookups get without changing the cache, and until when.
///
/// A driver publishes it whenever [`crate::KeyCache::generation`] has changed; a reader that finds nothing asks the
/// cache itself.
#[derive(Debug)]
pub struct Published<K> {
    /// Sorted by class.
    fixed: Vec<(Class, Keys<K>, Time)>,
}

impl<K> Default for Published<K> {
    fn default() -> Self {
        Self { fixed: Vec::new() }
    }
}

impl<K> Published<K> {
    pub(super) fn new(mut fixed: Vec<(Class, Keys<K>, Time)>) -> Self {
        fixed.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        Self { fixed }
    }

    /// The keys for tokens of this class, if they are certain at `now`.
    pub fn keys(&self, kid: Option<&str>, algorithm: Algorithm, now: Time) -> Option<&Keys<K>> {
        let wanted = (kid, algorithm);
        let index = self
            .fixed
            .binary_search_by(|(class, ..)| {
                (class.kid.as_ref().map(|kid| kid.as_str()), class.algorithm).cmp(&wanted)
            })
            .ok()?;
        let (_, keys, until) = self.fixed.get(index)?;
        (now < *until).then_some(keys)
    }
}
