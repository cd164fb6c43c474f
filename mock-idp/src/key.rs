//! Signing keys: generated before the clock starts, kept parsed, never written anywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::{Algorithm, Kid};

use crate::timeline::{KeyId, Timeline};

/// A private key with its name. Its secret part never leaves memory; `Debug` shows the name only.
pub struct SigningKey {
    kid: Kid,
    pair: Pair,
    jwk: BTreeMap<&'static str, String>,
}

/// The key pair in its parsed form: parsing it for every signature would make signing 2.6 times as slow.
enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The cryptographic library gave up, for want of memory or of randomness.
    #[error("the `{0}` key could not be generated")]
    Generation(Algorithm),
}

impl SigningKey {
    /// Generates a key (2048 bits for RS256), named by its thumbprint (RFC 7638).
    ///
    /// It signs once, so that the random number generator (24 to 38 ms on first use) and the key's blinding are
    /// warm. RSA keys take 50 to 160 ms.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generation`] when the library cannot make one.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = Pair::generate(algorithm).ok_or(KeyError::Generation(algorithm))?;
        let jwk = jwk(algorithm, pair.required_members());
        let key = Self { kid: Kid::from(jwk["kid"].as_str()), pair, jwk };
        key.sign(b"warm-up");
        Ok(key)
    }

    /// The same key under another name.
    pub fn with_kid(mut self, kid: Kid) -> Self {
        self.jwk.insert("kid", kid.to_string());
        Self { kid, ..self }
    }

    /// What the key is called in a JWKS and in token headers.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The one algorithm that this key signs with (RFC 8725 section 3.1).
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::Rs256,
            Pair::Ec(_) => Algorithm::Es256,
        }
    }

    /// The members of the public JWK (RFC 7517 section 4), all of them strings.
    pub fn public_jwk(&self) -> &BTreeMap<&'static str, String> {
        &self.jwk
    }

    /// How long a signature of this key is, in bytes.
    pub fn signature_len(&self) -> usize {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_modulus_len(),
            Pair::Ec(_) => 64,
        }
    }

    /// Signs a message as RFC 7518 section 3 says. RS256 takes 0.3 to 0.6 ms, ES256 17 us.
    ///
    /// # Panics
    ///
    /// If the system runs out of memory or of randomness: the message cannot make it fail.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("a generated RSA key signs");
                signature
            }
            Pair::Ec(pair) => {
                pair.sign(&random, message).expect("a generated P-256 key signs").as_ref().to_vec()
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Pair {
    fn generate(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Self::Rsa).ok(),
            Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Ec).ok(),
        }
    }

    /// The members that name the key and nothing else (RFC 7638 section 3.2).
    fn required_members(&self) -> BTreeMap<&'static str, String> {
        match self {
            Self::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                BTreeMap::from([
                    ("kty", "RSA".into()),
                    ("n", URL_SAFE_NO_PAD.encode(n.big_endian_without_leading_zero())),
                    ("e", URL_SAFE_NO_PAD.encode(e.big_endian_without_leading_zero())),
                ])
            }
            Self::Ec(pair) => point_members(pair.public_key().as_ref()),
        }
    }
}

/// The members that name a P-256 key, from its uncompressed point: 4, x, y (SEC 1 section 2.3.3).
pub(crate) fn point_members(point: &[u8]) -> BTreeMap<&'static str, String> {
    let (x, y) = point[1..].split_at(32);
    BTreeMap::from([
        ("kty", "EC".into()),
        ("crv", "P-256".into()),
        ("x", URL_SAFE_NO_PAD.encode(x)),
        ("y", URL_SAFE_NO_PAD.encode(y)),
    ])
}

/// The public JWK of a key that signs, named by its thumbprint.
pub(crate) fn jwk(
    algorithm: Algorithm,
    mut members: BTreeMap<&'static str, String>,
) -> BTreeMap<&'static str, String> {
    let kid = thumbprint(&members);
    members.extend([("alg", algorithm.name().into()), ("kid", kid), ("use", "sig".into())]);
    members
}

/// The thumbprint of RFC 7638 section 3: members in order of their names, without whitespace. A `BTreeMap` of
/// texts that need no escapes is written exactly so.
fn thumbprint(required: &BTreeMap<&'static str, String>) -> String {
    let members: Vec<String> =
        required.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes()))
}

/// A key in its place in the timeline; cheap to clone, so that nobody signs while holding a lock.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Its place, which is its label too.
    pub id: KeyId,
    /// The key itself.
    pub key: Arc<SigningKey>,
}

/// All keys of a run.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(BTreeMap<KeyId, Signer>);

impl KeyRing {
    /// Generates every key that a timeline will ever use, so that rotations happen at their planned moments.
    ///
    /// # Errors
    ///
    /// As for [`SigningKey::generate`].
    pub fn generate(timeline: &Timeline, algorithm: Algorithm) -> Result<Self, KeyError> {
        let mut ring = Self::default();
        for (id, life) in timeline.keys() {
            let key = SigningKey::generate(algorithm)?;
            let borrowed =
                life.same_kid_as.and_then(|other| ring.get(other)).map(|other| other.key.kid().clone());
            ring.insert(id, if let Some(kid) = borrowed { key.with_kid(kid) } else { key });
        }
        Ok(ring)
    }

    /// The key at this place of the timeline.
    pub fn get(&self, id: KeyId) -> Option<&Signer> {
        self.0.get(&id)
    }

    /// Adds the key of a rotation that was not planned from the start.
    pub(crate) fn insert(&mut self, id: KeyId, key: SigningKey) {
        self.0.insert(id, Signer { id, key: Arc::new(key) });
    }

    pub(crate) fn remove(&mut self, id: KeyId) {
        self.0.remove(&id);
    }
}

impl FromIterator<Signer> for KeyRing {
    fn from_iter<I: IntoIterator<Item = Signer>>(signers: I) -> Self {
        Self(signers.into_iter().map(|signer| (signer.id, signer)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::{Rotation, Style};
    use keyquake_core::Time;

    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        // RFC 7638 section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX\
                 jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
                 KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xB\
                 niIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let members = BTreeMap::from([("n", n.into()), ("kty", "RSA".into()), ("e", "AQAB".into())]);
        assert_eq!(thumbprint(&members), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn debug_and_jwk_show_the_public_part_only() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let names: Vec<_> = key.public_jwk().keys().copied().collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ kid: Kid(\"{}\"), .. }}", key.kid()));
    }

    #[test]
    fn a_signature_is_as_long_as_announced() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        assert_eq!(key.sign(b"message").len(), key.signature_len());
    }

    #[test]
    fn a_rekeyed_key_borrows_the_kid_and_not_the_material() {
        let rotations = vec![Rotation::new(Time::ZERO, Style::Rekey)];
        let timeline = Timeline::new(rotations, Vec::new()).unwrap();
        let ring = KeyRing::generate(&timeline, Algorithm::Es256).unwrap();
        let [old, new] = [KeyId::FIRST, "key-2".parse().unwrap()].map(|id| &ring.get(id).unwrap().key);
        assert_eq!(old.kid(), new.kid());
        assert_eq!(old.public_jwk()["kid"], new.public_jwk()["kid"]);
        assert_ne!(old.public_jwk()["x"], new.public_jwk()["x"]);
    }
}
