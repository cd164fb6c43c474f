//! What the minting of a token costs beyond its signature.
//!
//! `cargo bench -p keyquake-idp --bench mint` times, in turns, the signature alone, AWS-LC's own one with another key,
//! [`Mint::mint`], and `jsonwebtoken::encode`. That one uses its pure-Rust backend; with
//! `--features jsonwebtoken-aws-lc` it uses AWS-LC too.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

#[path = "../../benches/rounds/mod.rs"]
mod rounds;

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use jsonwebtoken::{EncodingKey, Header};
use keyquake_core::{Algorithm, Span, UnixTime};
use keyquake_idp::{KeyId, Mint, Signer, SigningKey, TokenIds, TokenKind, TokenRequest};
use serde::Serialize;

const ISSUER: &str = "https://idp.test";
const AUDIENCE: &str = "keyquake";
const ISSUED: UnixTime = UnixTime(1_700_000_000);
const LIFETIME: Span = Span::from_secs(3_600);

fn main() {
    #[cfg(feature = "jsonwebtoken-aws-lc")]
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().expect("there is none yet");
    compare(Algorithm::Rs256);
    compare(Algorithm::Es256);
}

fn compare(algorithm: Algorithm) {
    let signer = Signer {
        id: KeyId::FIRST,
        key: Arc::new(SigningKey::generate(algorithm).expect("the library makes keys")),
    };
    let mint = Mint::new(ISSUER, AUDIENCE, LIFETIME);
    let mut ids = TokenIds::new(1, 0);
    let mut request = TokenRequest {
        kind: TokenKind::Access { scope: "openid profile email orders:read orders:write".to_owned() },
        subject: "248289761001".to_owned(),
        client: "session-1".to_owned(),
        issued: ISSUED,
        id: ids.draw(),
    };
    let token = mint.mint(&signer, &request).token;
    let (message, _) = token.rsplit_once('.').expect("a token has dots");
    let claims = Claims::of(&request);
    let (mut sign, header, key) = bare(algorithm, signer.key.kid().to_string());
    let encode = format!("jsonwebtoken::encode ({BACKEND})");
    rounds::compare(
        &format!("{algorithm}, a token of {} bytes", token.len()),
        vec![
            ("signing", Box::new(|| drop(black_box(signer.key.sign(message.as_bytes()))))),
            ("signing, straight by AWS-LC, another key", Box::new(|| sign(message.as_bytes()))),
            (
                "keyquake, everything",
                Box::new(|| {
                    request.id = ids.draw();
                    black_box(mint.mint(&signer, &request));
                }),
            ),
            (
                &encode,
                Box::new(|| {
                    black_box(jsonwebtoken::encode(&header, &claims, &key).expect("the key is good"));
                }),
            ),
        ],
    );
}

type Sign = Box<dyn FnMut(&[u8])>;

/// A key of its own, ready to sign, and what `jsonwebtoken` needs to sign with it.
fn bare(algorithm: Algorithm, kid: String) -> (Sign, Header, EncodingKey) {
    /// So long is what PKCS#8 puts before an RSA key of 2048 bits in PKCS#1.
    const PKCS8_PREFIX: usize = 26;
    let random = SystemRandom::new();
    let (sign, named, key): (Sign, _, _) = match algorithm {
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bits are supported");
            let der: Pkcs8V1Der<'_> = pair.as_der().expect("the key can be exported");
            let key = EncodingKey::from_rsa_der(&der.as_ref()[PKCS8_PREFIX..]);
            let mut signature = vec![0; pair.public_modulus_len()];
            let sign = move |message: &[u8]| {
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("the room is right");
            };
            (Box::new(sign), jsonwebtoken::Algorithm::RS256, key)
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("it is supported");
            let der = pair.to_pkcs8v1().expect("the key can be exported");
            let key = EncodingKey::from_ec_der(der.as_ref());
            let sign = move |message: &[u8]| {
                black_box(pair.sign(&random, message).expect("there is randomness"));
            };
            (Box::new(sign), jsonwebtoken::Algorithm::ES256, key)
        }
    };
    let mut header = Header::new(named);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some(kid);
    (sign, header, key)
}

const BACKEND: &str = if cfg!(feature = "jsonwebtoken-aws-lc") { "AWS-LC" } else { "pure Rust" };

/// What `Mint` writes for the same request.
#[derive(Serialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    iat: i64,
    nbf: i64,
    jti: String,
    client_id: String,
    scope: String,
}

impl Claims {
    fn of(request: &TokenRequest) -> Self {
        let TokenKind::Access { scope } = &request.kind else { unreachable!("it is an access token") };
        Self {
            iss: ISSUER.to_owned(),
            sub: request.subject.clone(),
            aud: AUDIENCE.to_owned(),
            exp: (request.issued + LIFETIME).0,
            iat: request.issued.0,
            nbf: request.issued.0,
            jti: request.id.to_string(),
            client_id: request.client.clone(),
            scope: scope.clone(),
        }
    }
}
