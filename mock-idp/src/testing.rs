//! What the tests of several modules share.

use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::Algorithm;
use serde_json::Value;

use crate::key::{KeyRing, Signer, SigningKey};
use crate::timeline::{KeyId, Timeline};

/// One key an algorithm, generated once: RSA keys are slow to make.
pub(crate) fn ring_of_one(algorithm: Algorithm) -> Signer {
    static RSA: OnceLock<Arc<SigningKey>> = OnceLock::new();
    static EC: OnceLock<Arc<SigningKey>> = OnceLock::new();
    let cell = match algorithm {
        Algorithm::Rs256 => &RSA,
        Algorithm::Es256 => &EC,
    };
    let key = cell.get_or_init(|| Arc::new(SigningKey::generate(algorithm).unwrap())).clone();
    Signer { id: KeyId::FIRST, key }
}

/// A quick ring of fresh P-256 keys.
pub(crate) fn ring(timeline: &Timeline) -> KeyRing {
    KeyRing::generate(timeline, Algorithm::Es256).unwrap()
}

/// The JSON of a token's part.
pub(crate) fn decode_part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// `jsonwebtoken` with the `rsa` and `p256` crates: it shares no code with what makes the tokens.
pub(crate) mod witness {
    use std::collections::BTreeMap;

    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::Value;

    /// Whether a token's signature was made by the owner of a public JWK, whatever its claims say.
    pub(crate) fn signature_is_genuine(jwk: &BTreeMap<&'static str, String>, token: &str) -> bool {
        let jwk = serde_json::from_value(serde_json::to_value(jwk).unwrap()).unwrap();
        let Ok(header) = decode_header(token) else { return false };
        let mut validation = Validation::new(header.alg);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        decode::<Value>(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).is_ok()
    }

    /// The claims of a token, if a key of this JWKS document signed it.
    pub(crate) fn verify(document: &[u8], token: &str) -> Option<Value> {
        let set: JwkSet = serde_json::from_slice(document).unwrap();
        let header = decode_header(token).ok()?;
        let jwk = set.find(header.kid.as_ref()?)?;
        let mut validation = Validation::new(header.alg);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        decode(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).ok().map(|data| data.claims)
    }
}
