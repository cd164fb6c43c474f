//! Signatures by forgers, with real keys. Where arithmetic decides, a second implementation has to agree.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyquake_core::{Algorithm, Rejection, TokenKind};
use rsa::BigUint;

use crate::forge::{KID, base64, claims, header, judge, signed};
use crate::keys::{
    Loaded, ec_jwk, ec_pair, ec_point, keys, raw_rsa, rsa_jwk, rsa_numbers, rsa_private, sha256, sign_ec,
    sign_es256, sign_rs256, sign_rsa, to_length, witness,
};

type Sign<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;

fn head(algorithm: Algorithm) -> String {
    header(&[("alg", &format!(r#""{algorithm}""#))])
}

fn judged(token: &[u8], key: &Loaded) -> Result<(), Rejection> {
    judge(token, TokenKind::IdToken, &[(KID, key)])
}

/// Only the first of these ways to sign is good, here and for the witness.
fn only_the_first_passes(algorithm: Algorithm, ways: Vec<(&str, Sign<'_>)>) {
    let key = Loaded::of(algorithm);
    for (place, (what, sign)) in ways.into_iter().enumerate() {
        let token = signed(head(algorithm), claims(&[]), sign);
        let expected = if place == 0 { Ok(()) } else { Err(Rejection::BadSignature) };
        assert_eq!(judged(&token, &key), expected, "{what}");
        assert_eq!(witness(&token, algorithm), place == 0, "the witness on {what}");
    }
}

fn always(signature: Vec<u8>) -> Sign<'static> {
    Box::new(move |_| signature.clone())
}

#[test]
fn only_a_number_below_the_modulus_signs() {
    let (n, ..) = rsa_numbers();
    let one = BigUint::from(1_u8);
    let added = |factor: u8| {
        let n = n.clone();
        Box::new(move |message: &[u8]| {
            to_length(&(BigUint::from_bytes_be(&sign_rs256(message)) + &n * BigUint::from(factor)), 256)
        })
    };
    only_the_first_passes(
        Algorithm::Rs256,
        vec![
            ("a signature", Box::new(sign_rs256)),
            ("A19: 0", always(vec![0; 256])),
            ("A19: 1", always(to_length(&one, 256))),
            ("A19: n - 1", always(to_length(&(&n - &one), 256))),
            ("A19: n", always(to_length(&n, 256))),
            ("A19: not reduced", added(1)),
            ("A19: not reduced, longer", added(255)),
            ("A19: a zero in front", Box::new(|message| [vec![0], sign_rs256(message)].concat())),
            ("A19: a zero behind", Box::new(|message| [sign_rs256(message), vec![0]].concat())),
            ("A19: a byte less", Box::new(|message| sign_rs256(message)[..255].to_vec())),
            ("A19: one byte", always(vec![1])),
            ("A13: PSS", Box::new(|message| sign_rsa(message, &RSA_PSS_SHA256))),
            ("A19: SHA-512", Box::new(|message| sign_rsa(message, &RSA_PKCS1_SHA512))),
            ("A19: of another message", Box::new(|_| sign_rs256(b"another"))),
            ("A12: ECDSA", Box::new(sign_es256)),
        ],
    );
}

/// The encoding of RFC 8017 section 9.2 and what has passed for it elsewhere.
#[test]
fn only_the_exact_padding_signs() {
    /// The DER in front of a SHA-256 hash.
    const INFO: [u8; 19] = *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    const NO_PARAMETERS: [u8; 17] = *b"\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20";
    const LONG_LENGTH: [u8; 20] =
        *b"\x30\x81\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

    let way = |kind: u8, fill: u8, info: &'static [u8]| -> Sign<'static> {
        Box::new(move |message| {
            let tail = [&[0], info, &sha256(message)].concat();
            raw_rsa(&[vec![0, kind], vec![fill; 254 - tail.len()], tail].concat())
        })
    };
    let patched = |place: usize, byte: u8| -> Sign<'static> {
        Box::new(move |message| {
            let tail = [&INFO, sha256(message).as_slice()].concat();
            let mut encoded = [vec![0, 1], vec![0xff; 202], vec![0], tail].concat();
            encoded[place] = byte;
            raw_rsa(&encoded)
        })
    };
    let garbage_behind = |message: &[u8]| {
        let front = [&[0, 1], [0xff; 8].as_slice(), &[0], &INFO, &sha256(message)].concat();
        raw_rsa(&[front.clone(), vec![0x5a; 256 - front.len()]].concat())
    };
    only_the_first_passes(
        Algorithm::Rs256,
        vec![
            ("the right encoding", way(1, 0xff, &INFO)),
            ("A19: block type 2", way(2, 0xff, &INFO)),
            ("A19: block type 0", way(0, 0, &INFO)),
            ("A19: filled with something else", way(1, 0xfe, &INFO)),
            ("A19: one byte of the filling", patched(100, 0xfe)),
            ("A19: filling up to the hash", patched(204, 0xff)),
            ("A19: the filling ends early", patched(50, 0)),
            ("A19: garbage behind (Bleichenbacher 2006)", Box::new(garbage_behind)),
            ("A19: no parameters", way(1, 0xff, &NO_PARAMETERS)),
            ("A19: a length in the long form", way(1, 0xff, &LONG_LENGTH)),
            ("A19: the bare hash", way(1, 0xff, &[])),
        ],
    );
}

#[test]
fn only_two_numbers_of_32_bytes_sign() {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let pair = |r: &[u8], s: &[u8]| always([r, s].concat());
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let halves = |order: fn(&[u8], &[u8]) -> Vec<u8>| -> Sign<'static> {
        Box::new(move |message| {
            let signature = sign_es256(message);
            order(&signature[..32], &signature[32..])
        })
    };
    only_the_first_passes(
        Algorithm::Es256,
        vec![
            ("a signature", Box::new(sign_es256)),
            ("A17: r = s = 0", pair(&zero, &zero)),
            ("A17: r = 0, s = 1", pair(&zero, &one)),
            ("A17: r = 1, s = 0", pair(&one, &zero)),
            ("A17: r = s = n", pair(&ORDER, &ORDER)),
            ("A17: r = n, s = 1", pair(&ORDER, &one)),
            ("A18: DER", halves(der)),
            ("A18: each half longer", halves(|r, s| [&[0], r, &[0], s].concat())),
            ("A18: a zero behind", halves(|r, s| [r, s, &[0]].concat())),
            ("A18: a zero in front", halves(|r, s| [&[0], r, s].concat())),
            ("A18: a byte less", halves(|r, s| [r, &s[..31]].concat())),
            ("A18: the halves swapped", halves(|r, s| [s, r].concat())),
            ("A18: one half", halves(|r, _| r.to_vec())),
            ("A12: RSA", Box::new(sign_rs256)),
        ],
    );
}

/// `SEQUENCE { INTEGER r, INTEGER s }`.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let number = BigUint::from_bytes_be(number).to_bytes_be();
        let sign = if number[0] >= 0x80 { vec![0] } else { Vec::new() };
        [vec![2, (sign.len() + number.len()) as u8], sign, number].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [vec![0x30, both.len() as u8], both].concat()
}

/// Algorithm confusion: what is public is no secret (RFC 8725 section 2.1).
#[test]
fn a_public_key_is_no_shared_secret() {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    let public = keys().rsa.public_key();
    let spki: PublicKeyX509Der<'_> = public.as_der().unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: String =
            text.as_bytes().chunks(64).map(|line| format!("{}\n", line.escape_ascii())).collect();
        format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n").into_bytes()
    };
    let set = format!(r#"{{"keys":[{}]}}"#, rsa_jwk());
    let secrets = [
        ("A04: PEM", pem("PUBLIC KEY", spki.as_ref())),
        ("A05: PEM of PKCS#1", pem("RSA PUBLIC KEY", public.as_ref())),
        ("A06: DER", spki.as_ref().to_vec()),
        ("A06: DER of PKCS#1", public.as_ref().to_vec()),
        ("A07: the point", keys().ec.public_key().as_ref().to_vec()),
        ("A08: the JWK", rsa_jwk().into_bytes()),
        ("A08: the key set", set.into_bytes()),
        ("A09: nothing", Vec::new()),
    ];
    for (what, secret) in secrets {
        let mac = |message: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            hmac::sign(&key, message).as_ref().to_vec()
        };
        let admitted = signed(header(&[("alg", r#""HS256""#)]), claims(&[]), mac);
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let key = Loaded::of(algorithm);
            assert_eq!(judged(&admitted, &key), Err(Rejection::AlgorithmDenied), "{what}");
            let hidden = signed(head(algorithm), claims(&[]), mac);
            assert_eq!(judged(&hidden, &key), Err(Rejection::BadSignature), "{what}, as {algorithm}");
        }
    }
}

#[test]
fn an_attackers_key_is_not_used_wherever_it_comes_from() {
    let attacker = ec_pair();
    let key = Loaded::of(Algorithm::Es256);
    let jwk = ec_jwk(&attacker);
    let places = [
        ("A20", "jwk", jwk.as_str()),
        ("A21", "jku", r#""https://evil.test/jwks.json""#),
        ("A22", "jku", r#""https://idp.test@evil.test/jwks.json""#),
        ("A23", "x5u", r#""https://evil.test/chain.pem""#),
        ("A24", "x5c", r#"["MIIB"]"#),
        ("A58", "x-tenant", r#""another tenant's key under the same name""#),
    ];
    for (id, name, value) in places {
        let head = header(&[("alg", r#""ES256""#), (name, value)]);
        let forged = signed(&head, claims(&[]), |message| sign_ec(&attacker, message));
        assert_eq!(judged(&forged, &key), Err(Rejection::BadSignature), "{id}");
        assert_eq!(judged(&signed(&head, claims(&[]), sign_es256), &key), Ok(()), "{id}: the twin");
    }
}

#[test]
fn a_key_is_used_with_its_own_algorithm_only() {
    let (rsa, ec) = (Loaded::of(Algorithm::Rs256), Loaded::of(Algorithm::Es256));
    let both = |algorithm, sign: fn(&[u8]) -> Vec<u8>| {
        judge(&signed(head(algorithm), claims(&[]), sign), TokenKind::IdToken, &[(KID, &rsa), (KID, &ec)])
    };
    assert_eq!(both(Algorithm::Rs256, sign_rs256), Ok(()));
    assert_eq!(both(Algorithm::Es256, sign_es256), Ok(()));
    assert_eq!(both(Algorithm::Es256, sign_rs256), Err(Rejection::BadSignature), "A12");
    assert_eq!(both(Algorithm::Rs256, sign_es256), Err(Rejection::BadSignature), "A12");
}

#[test]
fn a_key_that_is_none_is_not_loaded() {
    let (x, mut y) = ec_point(&keys().ec);
    let jwk = |x: &[u8], y: &[u8]| {
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, base64(x), base64(y))
    };
    assert!(Loaded::from_text(&jwk(&x, &y)).is_some());
    y[31] ^= 1;
    assert!(Loaded::from_text(&jwk(&x, &y)).is_none(), "A60: a point off the curve");
    assert!(Loaded::from_text(&jwk(&[0; 32], &[0; 32])).is_none(), "A60: no point at all");
    assert!(Loaded::from_text(&jwk(&[0xff; 32], &[0xff; 32])).is_none(), "A60: beyond the field");
    assert!(Loaded::from_text(&rsa_jwk()).is_some());
    let one = rsa_jwk().replace(r#""e":"AQAB""#, r#""e":"AQ""#);
    assert!(
        Loaded::from_text(&one).is_none(),
        "A60: exponent 1, which makes every message its own signature"
    );
}

#[test]
fn no_flipped_bit_is_accepted() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let sign = match algorithm {
            Algorithm::Rs256 => sign_rs256,
            Algorithm::Es256 => sign_es256,
        };
        let key = Loaded::of(algorithm);
        let good = signed(head(algorithm), claims(&[]), sign);
        assert_eq!(judged(&good, &key), Ok(()));
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut token = good.clone();
                token[place] ^= 1 << bit;
                assert!(judged(&token, &key).is_err(), "{algorithm}: bit {bit} of byte {place}");
            }
        }
    }
}

#[test]
fn tokens_of_another_library_are_accepted() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rsa::pkcs1::EncodeRsaPrivateKey;
    let claims: serde_json::Value = serde_json::from_str(&claims(&[])).unwrap();
    let pkcs1 = rsa_private().to_pkcs1_der().unwrap();
    let pkcs8 = keys().ec.to_pkcs8v1().unwrap();
    let minted = [
        (Algorithm::Rs256, jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_der(pkcs1.as_bytes())),
        (Algorithm::Es256, jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_der(pkcs8.as_ref())),
    ];
    for (algorithm, theirs, key) in minted {
        let head = Header { kid: Some(KID.into()), ..Header::new(theirs) };
        let token = encode(&head, &claims, &key).unwrap();
        assert_eq!(judged(token.as_bytes(), &Loaded::of(algorithm)), Ok(()), "{algorithm}");
    }
}
