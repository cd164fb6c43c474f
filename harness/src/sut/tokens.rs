//! Tokens that have passed, and pass again without their keys, where the policy wants that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use keyquake_core::{Policy, TokenCache, TokenKind, UnixTime};
use keyquake_idp::Clock;

use super::Presented;

/// The tokens that one process remembers.
pub(super) struct Tokens {
    clock: Clock,
    cache: Mutex<TokenCache<Name>>,
}

/// Names a token, with all that it is checked against: what has passed at one endpoint, or with one nonce, has not at
/// another.
///
/// A digest, so that memory holds no token to be stolen. Whoever found another token of the same SHA-256 could as well
/// forge its signature, which signs no more than such a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name([u8; SHA256_OUTPUT_LEN]);

impl Tokens {
    /// None yet; `None` if the policy remembers none.
    pub(super) fn new(policy: &Policy, clock: Clock) -> Option<Self> {
        Some(Self { clock, cache: TokenCache::new(policy)?.into() })
    }

    /// Whether this token passes without another look.
    pub(super) fn know(&self, token: &Name) -> bool {
        let mut cache = self.lock();
        // Read under the lock, as by the cache of keys.
        let now = self.clock.now();
        cache.knows(token, now, self.clock.unix(now))
    }

    /// This token has passed every check, and expires then.
    pub(super) fn remember(&self, token: Name, expires: UnixTime) {
        let mut cache = self.lock();
        cache.remember(token, expires, self.clock.now());
    }

    fn lock(&self) -> MutexGuard<'_, TokenCache<Name>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    pub(super) fn of(presented: Presented<'_>) -> Self {
        let mut hash = Context::new(&SHA256);
        let endpoint = match presented.expected.token {
            TokenKind::AccessToken => 0,
            TokenKind::AnyAccessToken => 1,
            TokenKind::IdToken => 2,
        };
        let nonce = presented.nonce.unwrap_or_default().as_bytes();
        // Its length ahead, so that nothing of a nonce can be taken for the token's.
        hash.update(&[endpoint, u8::from(presented.nonce.is_some())]);
        hash.update(&(nonce.len() as u64).to_be_bytes());
        hash.update(nonce);
        hash.update(presented.token);
        let mut name = [0; SHA256_OUTPUT_LEN];
        name.copy_from_slice(hash.finish().as_ref());
        Self(name)
    }
}
