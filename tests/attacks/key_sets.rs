//! Key sets as issuers really serve them: what can be used is used, whatever stands beside it (RFC 7517
//! section 5).

use keyquake_core::{Algorithm, JsonFault, Jwks, JwksError, Material, Unusable};
use proptest::prelude::*;

use crate::forge::base64;

const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

/// An odd number of this many bits.
fn modulus(bits: usize) -> String {
    let mut n = vec![0xa5; bits.div_ceil(8)];
    n[0] = 1 << ((bits - 1) % 8);
    base64(n)
}

/// A good RSA key with these members changed; an empty value takes one away.
fn rsa(changes: &[(&str, &str)]) -> String {
    let n = format!(r#""{}""#, modulus(2048));
    let good = [("kty", r#""RSA""#), ("kid", r#""r""#), ("n", n.as_str()), ("e", r#""AQAB""#)];
    crate::forge::object(&good, changes)
}

/// A good P-256 key with these members changed; an empty value takes one away.
fn ec(changes: &[(&str, &str)]) -> String {
    let (x, y) = (format!(r#""{X}""#), format!(r#""{Y}""#));
    let good = [("kty", r#""EC""#), ("kid", r#""e""#), ("crv", r#""P-256""#), ("x", &x), ("y", &y)];
    crate::forge::object(&good, changes)
}

fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Reads a set of this key between two good ones, and says what became of it.
fn judge(key: &str) -> Result<Algorithm, Unusable> {
    let body = set(&[rsa(&[("kid", r#""before""#)]), key.to_owned(), ec(&[("kid", r#""after""#)])]);
    let jwks = Jwks::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {key}"));
    let kid = |place: usize| jwks.keys[place].kid.as_ref().map(ToString::to_string);
    assert_eq!(kid(0).as_deref(), Some("before"));
    assert_eq!(kid(jwks.keys.len() - 1).as_deref(), Some("after"));
    match jwks.unusable[..] {
        [] => Ok(jwks.keys[1].algorithm),
        [(1, why)] => Err(why),
        _ => panic!("more than one key was spoilt by {key}"),
    }
}

fn check_all(cases: &[(&str, String, Result<Algorithm, Unusable>)]) {
    assert!(cases.iter().any(|(.., expected)| expected.is_ok()), "no key that can be used");
    for (what, key, expected) in cases {
        assert_eq!(judge(key), *expected, "{what}");
    }
}

#[test]
fn a_key_that_cannot_be_used_spoils_no_other() {
    let akp = r#"{"kty":"AKP","alg":"ML-DSA-44","kid":"pq","pub":"AAAA","use":"sig"}"#;
    let okp = r#"{"kty":"OKP","crv":"Ed448","x":"AAAA"}"#;
    let bad = |what, key: &str, why| (what, key.to_owned(), Err(why));
    check_all(&[
        ("RSA", rsa(&[]), Ok(Algorithm::Rs256)),
        ("EC", ec(&[]), Ok(Algorithm::Es256)),
        ("RSA without kid", rsa(&[("kid", "")]), Ok(Algorithm::Rs256)),
        bad("post-quantum", akp, Unusable::UnknownType),
        bad("Edwards curve", okp, Unusable::UnknownType),
        bad("a type in lower case", &rsa(&[("kty", r#""rsa""#)]), Unusable::UnknownType),
        bad("a curve of no one", &ec(&[("crv", r#""P-999""#)]), Unusable::UnknownCurve),
        bad("P-384", &ec(&[("crv", r#""P-384""#)]), Unusable::UnknownCurve),
        bad("a shared secret", r#"{"kty":"oct","k":"AAAA"}"#, Unusable::Symmetric),
        bad("null", "null", Unusable::Json(JsonFault::NotAnObject)),
        bad("a string", r#""key""#, Unusable::Json(JsonFault::NotAnObject)),
        bad("an array", "[]", Unusable::Json(JsonFault::NotAnObject)),
        bad("nothing in it", "{}", Unusable::Missing("kty")),
        bad(
            "a member twice",
            &rsa(&[]).replacen('{', r#"{"kid":"k","#, 1),
            Unusable::Json(JsonFault::DuplicateName),
        ),
        bad("half a surrogate", &rsa(&[("kid", r#""\ud800""#)]), Unusable::Json(JsonFault::Syntax)),
        bad("1e400", &rsa(&[("iat", "1e400")]), Unusable::Json(JsonFault::Syntax)),
        bad(
            "too deep",
            &rsa(&[("x", &("[".repeat(5_000) + &"]".repeat(5_000)))]),
            Unusable::Json(JsonFault::TooDeep),
        ),
    ]);
}

#[test]
fn only_public_keys_for_verifying_are_used() {
    let private = |member| (member, rsa(&[(member, r#""AQ""#)]), Err(Unusable::Private));
    let rsa_with = |what, name, value, expected| (what, rsa(&[(name, value)]), expected);
    let malformed = |name, value| (name, rsa(&[(name, value)]), Err(Unusable::Malformed(name)));
    let good = Ok(Algorithm::Rs256);
    check_all(&[
        rsa_with("use sig", "use", r#""sig""#, good),
        rsa_with("use enc", "use", r#""enc""#, Err(Unusable::Use)),
        rsa_with("key_ops", "key_ops", r#"["sign","verify"]"#, good),
        rsa_with("key_ops that only sign", "key_ops", r#"["sign"]"#, Err(Unusable::KeyOps)),
        rsa_with("key_ops empty", "key_ops", "[]", Err(Unusable::KeyOps)),
        rsa_with("alg", "alg", r#""RS256""#, good),
        rsa_with("alg of another type", "alg", r#""ES256""#, Err(Unusable::Algorithm)),
        rsa_with("alg not ours", "alg", r#""PS256""#, Err(Unusable::Algorithm)),
        rsa_with("alg symmetric", "alg", r#""HS256""#, Err(Unusable::Algorithm)),
        rsa_with("members of others", "x5c", r#"["MIIB"]"#, good),
        ("EC for key agreement", ec(&[("alg", r#""ECDH-ES""#)]), Err(Unusable::Algorithm)),
        ("EC with its private half", ec(&[("d", r#""AQ""#)]), Err(Unusable::Private)),
        private("d"),
        private("p"),
        private("q"),
        private("dp"),
        private("dq"),
        private("qi"),
        ("oth", rsa(&[("oth", "[]")]), Err(Unusable::Private)),
        malformed("use", "null"),
        malformed("key_ops", r#""verify""#),
        malformed("key_ops", r#"["verify",1]"#),
        malformed("alg", "1"),
        malformed("kty", "1"),
        malformed("kid", "1"),
        malformed("kid", "null"),
        malformed("kid", r#"["r"]"#),
        malformed("kid", r#""""#),
        ("kid of 512 bytes", rsa(&[("kid", &format!(r#""{}""#, "k".repeat(512)))]), good),
        malformed("kid", &format!(r#""{}""#, "k".repeat(513))),
    ]);
}

#[test]
fn weak_and_malformed_numbers_are_refused() {
    let n = |what, n: String, expected| (what, rsa(&[("n", &format!(r#""{n}""#))]), expected);
    let e = |what, e: &str, expected| (what, rsa(&[("e", &format!(r#""{e}""#))]), expected);
    let x = |what, x: String, expected| (what, ec(&[("x", &format!(r#""{x}""#))]), expected);
    let good = Ok(Algorithm::Rs256);
    let malformed = |name| Err(Unusable::Malformed(name));
    let mut even = vec![0xff; 256];
    even[255] = 2;
    check_all(&[
        n("2048 bits", modulus(2048), good),
        n("2047 bits", modulus(2047), Err(Unusable::RsaModulus)),
        n("1024 bits", modulus(1024), Err(Unusable::RsaModulus)),
        n(
            "1024 bits behind zeros",
            base64([vec![0; 128], vec![0xff; 128]].concat()),
            Err(Unusable::RsaModulus),
        ),
        n("8192 bits", modulus(8192), good),
        n("8193 bits", modulus(8193), Err(Unusable::RsaModulus)),
        n("an even modulus", base64(even), Err(Unusable::RsaModulus)),
        n("an empty modulus", String::new(), Err(Unusable::RsaModulus)),
        n("padding", modulus(2048) + "==", malformed("n")),
        n("standard alphabet", modulus(2048).replace("pa", "+/"), malformed("n")),
        ("no modulus", rsa(&[("n", "")]), Err(Unusable::Missing("n"))),
        ("a modulus as a number", rsa(&[("n", "3")]), malformed("n")),
        e("3", "Aw", good),
        e("65537 behind a zero", "AAEAAQ", good),
        e("33 bits", "AQAAAAE", good),
        e("34 bits", "AgAAAAE", Err(Unusable::RsaExponent)),
        e("1", "AQ", Err(Unusable::RsaExponent)),
        e("0", "AA", Err(Unusable::RsaExponent)),
        e("even", "AQAA", Err(Unusable::RsaExponent)),
        e("empty", "", Err(Unusable::RsaExponent)),
        ("no exponent", rsa(&[("e", "")]), Err(Unusable::Missing("e"))),
        x("31 bytes", base64([1; 31]), malformed("x")),
        x("33 bytes", base64([vec![0], vec![1; 32]].concat()), malformed("x")),
        x("padding", format!("{X}="), malformed("x")),
        ("no curve", ec(&[("crv", "")]), Err(Unusable::Missing("crv"))),
        ("no y", ec(&[("y", "")]), Err(Unusable::Missing("y"))),
    ]);
}

#[test]
fn names_may_repeat() {
    let body = set(&[
        ec(&[("kid", r#""same""#)]),
        rsa(&[("kid", r#""same""#)]),
        rsa(&[("kid", r#""same""#), ("use", r#""enc""#)]),
        rsa(&[("kid", r#""same""#), ("e", r#""Aw""#)]),
    ]);
    let jwks = Jwks::parse(body.as_bytes()).unwrap();
    let algorithms: Vec<_> = jwks.keys.iter().map(|key| key.algorithm).collect();
    assert_eq!(algorithms, [Algorithm::Es256, Algorithm::Rs256, Algorithm::Rs256]);
    assert_eq!(jwks.unusable, [(2, Unusable::Use)]);
}

#[test]
fn a_version_names_the_material_and_nothing_else() {
    let version = |key: String| Jwks::parse(set(&[key]).as_bytes()).unwrap().keys[0].version();
    let same = version(rsa(&[]));
    assert_eq!(same, version(rsa(&[("kid", ""), ("use", r#""sig""#)])));
    assert_eq!(same, version(rsa(&[("e", r#""AAEAAQ""#)])));
    assert_ne!(same, version(rsa(&[("e", r#""Aw""#)])));
    assert_ne!(same, version(rsa(&[("n", &format!(r#""{}""#, modulus(2049)))])));
    assert_ne!(version(ec(&[])), version(ec(&[("y", &format!(r#""{X}""#))])));

    let key = |n: &[u8], e: &[u8]| Material::Rsa { n: n.to_vec(), e: e.to_vec() }.version();
    assert_ne!(key(&[1, 2], &[3]), key(&[1], &[2, 3]));
}

#[test]
fn a_body_that_is_no_key_set_says_so() {
    let good = set(&[rsa(&[])]);
    let parse = |body: &[u8]| Jwks::parse(body).map(|jwks| jwks.keys.len());
    let not_json = |line, column| Err(JwksError::NotJson { line, column });
    assert_eq!(parse(good.as_bytes()), Ok(1));
    assert_eq!(parse(format!("\u{feff}{good}\n").as_bytes()), Ok(1));
    assert_eq!(parse(br#"{"keys":[]}"#), Ok(0));
    assert_eq!(parse(br#"{"x":{"keys":1},"keys":[],"y":1e400}"#), Ok(0));
    assert_eq!(parse(b"{}"), Err(JwksError::NotAKeySet));
    assert_eq!(parse(br#"{"keys":{}}"#), Err(JwksError::NotAKeySet));
    assert_eq!(parse(br#"{"keys":null}"#), Err(JwksError::NotAKeySet));
    assert_eq!(parse(br#"{"keys":[],"keys":[]}"#), Err(JwksError::NotAKeySet));
    assert_eq!(parse(b"[]"), Err(JwksError::NotAKeySet));
    assert_eq!(parse(b"null"), Err(JwksError::NotAKeySet));
    assert_eq!(parse(b""), not_json(1, 0));
    assert_eq!(parse(b"<!DOCTYPE html>\n<title>Sign in</title>"), not_json(1, 1));
    assert_eq!(parse(b"{\n\"keys\":[\n{\"kty\":"), not_json(3, 7));
    assert_eq!(parse(br#"{"keys":[]} x"#), not_json(1, 13));
    assert_eq!(parse(b"{\"keys\":[\"\xff\"]}"), Err(JwksError::Encoding));
    for end in 0..good.len() {
        assert!(parse(&good.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn what_is_read_is_bounded() {
    let jwks = Jwks::parse(set(&vec![ec(&[]); 3_000]).as_bytes()).unwrap();
    assert_eq!((jwks.keys.len(), jwks.unusable.len(), jwks.over_bound), (Jwks::MAX_KEYS, 0, 2_000));
    let exactly = Jwks::parse(set(&vec![ec(&[]); Jwks::MAX_KEYS]).as_bytes()).unwrap();
    assert_eq!((exactly.keys.len(), exactly.over_bound), (Jwks::MAX_KEYS, 0));

    let five_thousand = set(&vec![rsa(&[]); 5_000]);
    assert_eq!(Jwks::parse(five_thousand.as_bytes()), Err(JwksError::TooLarge));
    let padded = |size: usize| {
        let good = set(&[ec(&[])]);
        format!("{good}{}", " ".repeat(size - good.len()))
    };
    assert!(Jwks::parse(padded(Jwks::MAX_BYTES).as_bytes()).is_ok());
    assert_eq!(Jwks::parse(padded(Jwks::MAX_BYTES + 1).as_bytes()), Err(JwksError::TooLarge));
    let deep = format!(r#"{{"keys":[{{"x":{}{}}}]}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(Jwks::parse(deep.as_bytes()).unwrap().unusable, [(0, Unusable::Json(JsonFault::TooDeep))]);
}

/// Keys of the right members with the wrong values.
const NEARLY_A_KEY: &str = concat!(
    r#"\{("(kty|n|e|x|y|crv|use|kid|alg|key_ops)":"#,
    r#"("[A-Za-z0-9_-]{0,9}"|"RSA"|"EC"|null|1|\[\]),){0,6}"z":0\}"#,
);

proptest! {
    #[test]
    fn any_key_beside_a_good_one_leaves_it_usable(key in NEARLY_A_KEY) {
        let jwks = Jwks::parse(set(&[key, rsa(&[])]).as_bytes()).unwrap();
        prop_assert_eq!(jwks.keys.len(), 1);
        prop_assert_eq!(jwks.unusable.len(), 1);
    }

    #[test]
    fn any_bytes_are_a_key_set_or_not(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Jwks::parse(&body);
    }
}
