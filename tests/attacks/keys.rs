//! Real keys: AWS-LC signs and verifies, `rsa` does the arithmetic of forgers, `jsonwebtoken` is the witness.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaEncoding, RsaPublicKeyComponents,
};
use keyquake_core::{Algorithm, Jwk, Jwks, Material, Verify};
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BigUint, RsaPrivateKey};

use crate::forge::{KID, base64};

/// One key pair of each kind, made once: an RSA key takes a tenth of a second.
pub(crate) struct Keys {
    pub(crate) rsa: RsaKeyPair,
    pub(crate) ec: EcdsaKeyPair,
}

pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bits are supported"),
        ec: ec_pair(),
    })
}

pub(crate) fn ec_pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("P-256 is supported")
}

pub(crate) fn sign_rsa(message: &[u8], padding: &'static dyn RsaEncoding) -> Vec<u8> {
    let pair = &keys().rsa;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message, &mut signature).expect("the room is right");
    signature
}

pub(crate) fn sign_rs256(message: &[u8]) -> Vec<u8> {
    sign_rsa(message, &RSA_PKCS1_SHA256)
}

pub(crate) fn sign_ec(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).expect("there is randomness").as_ref().to_vec()
}

pub(crate) fn sign_es256(message: &[u8]) -> Vec<u8> {
    sign_ec(&keys().ec, message)
}

/// The RSA key, for whoever does more with it than AWS-LC allows.
pub(crate) fn rsa_private() -> RsaPrivateKey {
    let der: Pkcs8V1Der<'_> = keys().rsa.as_der().expect("the key can be exported");
    RsaPrivateKey::from_pkcs8_der(der.as_ref()).expect("the key is good")
}

/// The RSA key as numbers: (n, e, d).
pub(crate) fn rsa_numbers() -> (BigUint, BigUint, BigUint) {
    let key = rsa_private();
    (key.n().clone(), key.e().clone(), key.d().clone())
}

/// What the RSA key makes of an encoded message, whatever it says: the forger's view of signing.
pub(crate) fn raw_rsa(encoded: &[u8]) -> Vec<u8> {
    let (n, _, d) = rsa_numbers();
    to_length(&BigUint::from_bytes_be(encoded).modpow(&d, &n), 256)
}

/// A number in at least this many bytes, big-endian.
pub(crate) fn to_length(number: &BigUint, length: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; length.saturating_sub(bytes.len())], bytes].concat()
}

pub(crate) fn sha256(message: &[u8]) -> Vec<u8> {
    digest(&SHA256, message).as_ref().to_vec()
}

pub(crate) fn rsa_jwk() -> String {
    let (n, e, _) = rsa_numbers();
    let (n, e) = (base64(n.to_bytes_be()), base64(e.to_bytes_be()));
    format!(r#"{{"kty":"RSA","kid":"{KID}","use":"sig","alg":"RS256","n":"{n}","e":"{e}"}}"#)
}

pub(crate) fn ec_jwk(pair: &EcdsaKeyPair) -> String {
    let (x, y) = ec_point(pair);
    format!(r#"{{"kty":"EC","kid":"{KID}","crv":"P-256","x":"{}","y":"{}"}}"#, base64(x), base64(y))
}

pub(crate) fn ec_point(pair: &EcdsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    let point = pair.public_key().as_ref();
    (point[1..33].to_vec(), point[33..].to_vec())
}

/// A key as a service holds it: parsed once, for one algorithm.
pub(crate) struct Loaded {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl Loaded {
    /// The key that a key set of this one JWK brings, if both the core and AWS-LC take it.
    pub(crate) fn from_text(jwk: &str) -> Option<Self> {
        let jwks = Jwks::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).ok()?;
        Self::from_jwk(jwks.keys.first()?)
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let key = match &jwk.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?
            }
            Material::Ec { x, y } => {
                let point = [&[4], x.as_slice(), y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?
            }
        };
        Some(Self { algorithm: jwk.algorithm, key })
    }

    /// The key pair's public half for this algorithm.
    pub(crate) fn of(algorithm: Algorithm) -> Self {
        let jwk = match algorithm {
            Algorithm::Rs256 => rsa_jwk(),
            Algorithm::Es256 => ec_jwk(&keys().ec),
        };
        Self::from_text(&jwk).expect("the key is good")
    }
}

impl Verify for Loaded {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// Whether `jsonwebtoken`, with crypto in Rust, finds the signature of this token good.
pub(crate) fn witness(token: &[u8], algorithm: Algorithm) -> bool {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    let (key, algorithm) = match algorithm {
        Algorithm::Rs256 => {
            let (n, e, _) = rsa_numbers();
            let key = DecodingKey::from_rsa_raw_components(&n.to_bytes_be(), &e.to_bytes_be());
            (key, jsonwebtoken::Algorithm::RS256)
        }
        Algorithm::Es256 => {
            let (x, y) = ec_point(&keys().ec);
            let key = DecodingKey::from_ec_components(&base64(x), &base64(y)).expect("the point is good");
            (key, jsonwebtoken::Algorithm::ES256)
        }
    };
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    decode::<serde::de::IgnoredAny>(token, &key, &validation).is_ok()
}
