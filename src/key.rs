//! What a key is called and what it may be used for.

use alloc::sync::Arc;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The signature algorithms that a validator can be configured to accept (RFC 7518 section 3.1).
///
/// An algorithm is pinned by configuration and by the key; a token's own claim only has to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl Algorithm {
    /// The name in `alg` members.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// The algorithm of this name, exactly as registered.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key's name: an opaque string (RFC 7517 section 4.5), cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(Arc<str>);

impl Kid {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Kid {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names key material: two keys with one [`Kid`] and equal versions are the same key.
///
/// It tells a validator whether a refetch after a bad signature brought anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(pub u64);

/// Everything in a token that decides which keys may verify it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The key that the token names, if it names one.
    pub kid: Option<Kid>,
    /// The algorithm that the token claims, already found among the configured ones.
    pub algorithm: Algorithm,
}
