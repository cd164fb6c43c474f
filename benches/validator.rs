//! What the check of a token costs beyond its signature.
//!
//! `cargo bench -p keyquake-core --bench validator` times, in turns, AWS-LC's bare verification, all our checks on a
//! warm cache, and `jsonwebtoken::decode`, which need not even look for its key. That one uses its pure-Rust backend;
//! with `--features jsonwebtoken-aws-lc` it uses AWS-LC too.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

mod rounds;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation};
use keyquake_core::{
    Algorithm, Event, Expectations, Freshness, KeyCache, KeyEntry, KeySet, KeyVersion, Kid, Policy,
    Published, Rejection, Scratch, Time, Token, TokenKind, UnixTime, Verify,
};

const ISSUER: &str = "https://idp.test";
const AUDIENCE: &str = "keyquake";
const ISSUED: UnixTime = UnixTime(1_700_000_000);
/// The thumbprint of some key.
const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
/// What a usual access token says: flat, about 300 bytes, good until 2100.
const CLAIMS: &str = r#"{"iss":"https://idp.test","sub":"248289761001","aud":"keyquake","exp":4102444800,"iat":1700000000,"nbf":1700000000,"jti":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","sid":"08a5019c-17e1-4977-8f42-65a12843ea02","scope":"openid profile email orders:read orders:write"}"#;

fn main() {
    #[cfg(feature = "jsonwebtoken-aws-lc")]
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().expect("there is none yet");
    compare(Algorithm::Rs256);
    compare(Algorithm::Es256);
}

fn compare(algorithm: Algorithm) {
    let (token, key, decoding_key) = issue(algorithm);
    let (message, signature) = token.rsplit_once('.').expect("a token has dots");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("a token is base64url");
    let service = Service::new(algorithm, key.clone());
    let credulous = Service::new(algorithm, Credulous(algorithm));
    let [mut scratch, mut other_scratch] = [Scratch::default(), Scratch::default()];
    let validation = validation(algorithm);
    let decode = format!("jsonwebtoken::decode ({BACKEND})");
    rounds::compare(
        &format!("{algorithm}, a token of {} bytes", token.len()),
        vec![
            (
                "verification of the signature",
                Box::new(|| assert!(black_box(&key).verify(message.as_bytes(), &signature))),
            ),
            (
                "keyquake, everything",
                Box::new(|| assert_eq!(service.judge(token.as_bytes(), &mut scratch), Ok(()))),
            ),
            (
                "keyquake, everything but the signature",
                Box::new(|| assert_eq!(credulous.judge(token.as_bytes(), &mut other_scratch), Ok(()))),
            ),
            (
                &decode,
                Box::new(|| {
                    let decoded = jsonwebtoken::decode::<Claims>(&token, &decoding_key, &validation);
                    assert_eq!(decoded.map(|decoded| decoded.claims.iat), Ok(ISSUED.0));
                }),
            ),
        ],
    );
}

/// What the reference service does with a token of a key that it knows: `harness/src/sut.rs` line by line.
struct Service<K> {
    expected: Expectations,
    published: ArcSwap<Published<K>>,
    start: Instant,
}

impl<K: Verify> Service<K> {
    fn new(algorithm: Algorithm, key: K) -> Self {
        let entry = |kid: &str, version, key| {
            Arc::new(KeyEntry { kid: Some(Kid::from(kid)), algorithm, version: KeyVersion(version), key })
        };
        let set = KeySet { keys: vec![entry(KID, 1, key)], unusable: 0 };
        let mut cache: KeyCache<K, ()> = KeyCache::new(Policy::default(), 1).expect("the default is good");
        cache.handle(
            Event::Preload(Arc::new(set), Freshness::UNSAID, Time::ZERO),
            Time::ZERO,
            &mut Vec::new(),
        );
        Self {
            expected: Expectations {
                algorithms: vec![algorithm],
                ..Expectations::new(ISSUER, AUDIENCE, TokenKind::AccessToken)
            },
            published: ArcSwap::from_pointee(cache.publish(Time::ZERO)),
            start: now(),
        }
    }

    fn judge(&self, token: &[u8], scratch: &mut Scratch) -> Result<(), Rejection> {
        let token = Token::parse(token, &self.expected, scratch)?;
        let now = Time::from_nanos(now().duration_since(self.start).as_nanos() as i64);
        let published = self.published.load();
        let keys = published.keys(token.kid(), token.algorithm(), now).ok_or(Rejection::KidUnknown)?;
        let verified = token.verify(keys.iter().map(|entry| (entry.version, &entry.key)))?;
        verified.check(None, ISSUED).map(|_| ())
    }
}

#[expect(clippy::disallowed_methods, reason = "the service reads its clock for every token")]
fn now() -> Instant {
    Instant::now()
}

/// A key as the reference service keeps it.
#[derive(Clone)]
struct PublicKey(Algorithm, Arc<ParsedPublicKey>);

impl Verify for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.0
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.1.verify_sig(message, signature).is_ok()
    }
}

/// A key that believes everything.
struct Credulous(Algorithm);

impl Verify for Credulous {
    fn algorithm(&self) -> Algorithm {
        self.0
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        black_box((message, signature));
        true
    }
}

/// A token of a new key, the key, and the same for `jsonwebtoken`.
fn issue(algorithm: Algorithm) -> (String, PublicKey, DecodingKey) {
    let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{KID}"}}"#);
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(CLAIMS));
    let random = SystemRandom::new();
    let (signature, parsed, decoding_key) = match algorithm {
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bits are supported");
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature)
                .expect("the room is right");
            let public = pair.public_key();
            let [n, e] = [public.modulus(), public.exponent()].map(|n| n.big_endian_without_leading_zero());
            let decoding_key = DecodingKey::from_rsa_raw_components(n, e);
            (signature, ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_ref()), decoding_key)
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("it is supported");
            let signature = pair.sign(&random, token.as_bytes()).expect("there is randomness");
            let point = pair.public_key().as_ref();
            let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
            let decoding_key = DecodingKey::from_ec_components(&x, &y).expect("they are base64url");
            (signature.as_ref().to_vec(), ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point), decoding_key)
        }
    };
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    (token, PublicKey(algorithm, Arc::new(parsed.expect("the key is good"))), decoding_key)
}

const BACKEND: &str = if cfg!(feature = "jsonwebtoken-aws-lc") { "AWS-LC" } else { "pure Rust" };

/// What `jsonwebtoken` reads of a token.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "as much as our own check hands out")]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    iat: i64,
    nbf: i64,
}

/// The same checks.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
    });
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    validation
}
