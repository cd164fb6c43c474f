//! Public keys, parsed once for all the signatures that they verify.

use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use keyquake_core::{Algorithm, Jwk, Jwks, JwksError, KeyEntry, KeySet, Material, Verify};

/// A public key in AWS-LC's own form: parsing it for every signature would cost more than the signature.
#[derive(Debug)]
pub(crate) struct PublicKey {
    algorithm: Algorithm,
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// The key of this JWK; `None` when it is no key at all, such as a point that is not on the curve.
    fn load(jwk: &Jwk) -> Option<Self> {
        let parsed = match &jwk.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            }
            // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
            Material::Ec { x, y } => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], x.as_slice(), y].concat())
            }
        };
        Some(Self { algorithm: jwk.algorithm, parsed: parsed.ok()? })
    }
}

impl Verify for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

/// Reads the body of a key set and loads its keys. Those that AWS-LC refuses are unusable like those that the core
/// refuses, and so are those that it did not look at because the set is too long.
///
/// # Errors
///
/// The body as a whole is no key set.
pub(crate) fn key_set(body: &[u8]) -> Result<Arc<KeySet<PublicKey>>, JwksError> {
    let Jwks { keys, unusable, over_bound } = Jwks::parse(body)?;
    let listed = keys.len() + unusable.len() + over_bound;
    let keys: Vec<_> = keys.into_iter().filter_map(entry).collect();
    Ok(Arc::new(KeySet { unusable: listed - keys.len(), keys }))
}

fn entry(jwk: Jwk) -> Option<Arc<KeyEntry<PublicKey>>> {
    let key = PublicKey::load(&jwk)?;
    Some(Arc::new(KeyEntry { version: jwk.version(), kid: jwk.kid, algorithm: jwk.algorithm, key }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyquake_idp::SigningKey;
    use serde_json::json;

    #[test]
    fn a_key_verifies_what_its_private_half_signed_and_nothing_else() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let pair = SigningKey::generate(algorithm).unwrap();
            let set = key_set(json!({ "keys": [pair.public_jwk()] }).to_string().as_bytes()).unwrap();
            let [entry] = set.keys.as_slice() else { panic!("one key of {algorithm}") };
            assert_eq!((entry.kid.as_ref(), entry.algorithm), (Some(pair.kid()), algorithm));
            assert_eq!(entry.key.algorithm(), algorithm);

            let mut signature = pair.sign(b"message");
            assert!(entry.key.verify(b"message", &signature));
            assert!(!entry.key.verify(b"another message", &signature));
            signature[40] ^= 1;
            assert!(!entry.key.verify(b"message", &signature));
            assert!(!entry.key.verify(b"message", &[]));
        }
    }

    #[test]
    fn a_point_off_the_curve_is_unusable_and_spoils_nothing() {
        let good = SigningKey::generate(Algorithm::Es256).unwrap();
        let x = &good.public_jwk()["x"];
        let off_curve = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": x });
        let unknown = json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA" });
        let set = json!({ "keys": [off_curve, good.public_jwk(), unknown] }).to_string();
        let set = key_set(set.as_bytes()).unwrap();
        assert_eq!((set.keys.len(), set.unusable), (1, 2));
    }

    #[test]
    fn keys_beyond_the_bound_are_unusable() {
        let keys = vec![json!({ "kty": "oct", "k": "AA" }); Jwks::MAX_KEYS + 3];
        let set = key_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        assert_eq!((set.keys.len(), set.unusable), (0, Jwks::MAX_KEYS + 3));
    }

    #[test]
    fn an_error_page_is_no_key_set() {
        assert!(key_set(b"<html>").is_err());
    }
}
