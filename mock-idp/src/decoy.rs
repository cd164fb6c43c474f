//! Public keys that the provider never had, for key sets that are wrong.

use std::collections::BTreeMap;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::Algorithm;
use rand::Rng;

use crate::chance::generator;
use crate::key::{jwk, point_members};

/// The members of a public JWK, all of them strings.
pub(crate) type Jwk = BTreeMap<&'static str, String>;

/// A public key that signs for nobody: the same one for the same seed and number.
///
/// An RSA modulus of 2048 bits is drawn, not made: nobody can tell, and nobody knows its factors.
pub(crate) fn decoy(algorithm: Algorithm, seed: u64, number: u64) -> Jwk {
    match algorithm {
        Algorithm::Rs256 => {
            let mut modulus = noise::<256>(seed, number);
            modulus[0] |= 0x80;
            modulus[255] |= 1;
            let n = URL_SAFE_NO_PAD.encode(modulus);
            jwk(algorithm, BTreeMap::from([("kty", "RSA".into()), ("n", n), ("e", "AQAB".into())]))
        }
        Algorithm::Es256 => jwk(algorithm, point_members(&point(&scalar(seed, number)))),
    }
}

/// A P-256 key with its private half, `d` (RFC 7518 section 6.2.2.1), as no key set may have it.
pub(crate) fn private_decoy(seed: u64, number: u64) -> Jwk {
    let mut key = decoy(Algorithm::Es256, seed, number);
    key.insert("d", URL_SAFE_NO_PAD.encode(scalar(seed, number)));
    key
}

/// Bytes that mean nothing.
pub(crate) fn noise<const LEN: usize>(seed: u64, number: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    generator(seed, *b"decoykey", number).fill_bytes(&mut bytes);
    bytes
}

/// A number above zero and below the order of the curve.
fn scalar(seed: u64, number: u64) -> [u8; 32] {
    let mut scalar = noise::<32>(seed, number);
    scalar[0] = 0;
    scalar[31] |= 1;
    scalar
}

fn point(scalar: &[u8; 32]) -> Vec<u8> {
    let key = PrivateKey::from_private_key(&ECDH_P256, scalar).expect("a scalar of the curve is a key");
    key.compute_public_key().expect("a private key has a public one").as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyquake_core::Jwks;

    #[test]
    fn decoys_are_sound_keys_that_differ_and_repeat() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let keys: Vec<_> = (0..3).map(|number| decoy(algorithm, 7, number)).collect();
            let document = serde_json::json!({ "keys": keys }).to_string();
            let set = Jwks::parse(document.as_bytes()).unwrap();
            assert_eq!((set.keys.len(), set.unusable.len()), (3, 0));
            assert!(set.keys.iter().all(|key| key.algorithm == algorithm));
            assert_ne!(keys[0]["kid"], keys[1]["kid"]);
            assert_eq!(keys[0], decoy(algorithm, 7, 0));
            assert_ne!(keys[0], decoy(algorithm, 8, 0));
        }
    }
}
