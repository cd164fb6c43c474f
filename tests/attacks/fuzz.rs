//! Mutated tokens and key sets, for as long as `KEYQUAKE_FUZZ_SECONDS` says.

use std::collections::BTreeSet;
use std::fmt;

use keyquake_core::{Jwk, Jwks, Material, TokenKind};
use keyquake_fuzz::Target;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::forge::{AUDIENCE, ISSUER, KID, NONCE, NOW, Seal, claims, header, judge, sealed};
use crate::keys::{ec_jwk, keys, rsa_jwk};

/// Between the header and the payload of a token that is still to be signed.
const UNSIGNED: u8 = 0x1e;

const WORDS: &[&str] = &[
    r#""alg":"none","#,
    r#""alg":"HS256","#,
    r#""alg":"ES256","#,
    r#""crit":["b64"],"#,
    r#""b64":false,"#,
    r#""kid":"k1","#,
    r#""typ":"at+jwt","#,
    r#""jwk":{},"#,
    r#""aud":["keyquake","other"],"#,
    r#"["keyquake","other"]"#,
    r#""azp":"other","#,
    r#""iss":"https://idp.test","#,
    r#""\u0069ss":"https://idp.test","#,
    r#""nbf":9e9,"#,
    "1699999700",
    "1699999701",
    "1699999699.9",
    "1700000300",
    "1700000301",
    "eyJhbGciOiJub25lIn0.",
    "=",
    r#""keys":["#,
    r#""kty":"oct","#,
    r#""kty":"AKP","#,
    r#""use":"enc","#,
    r#""key_ops":["sign"],"#,
    r#""d":"AQ","#,
    r#""crv":"P-384","#,
    r#""e":"AQ","#,
    r#""n":"","#,
    "null,",
];

/// Mutated bytes are never accepted unless they are a seed's; mutated contents are signed, and accepted only if another
/// parser of JSON agrees about what they say.
#[test]
fn token() {
    let good = sealed(header(&[]), claims(&[]));
    let several = [
        ("aud", r#"["other","keyquake"]"#),
        ("azp", r#""keyquake""#),
        ("nbf", "1700000000"),
        ("x", r#"{"y":[1,{}]}"#),
    ];
    let seeds = [
        good.clone(),
        sealed(header(&[]), claims(&several)),
        unsigned(&header(&[]), &claims(&[])),
        unsigned(&header(&[("typ", "")]), &claims(&several)),
    ];
    for seed in &seeds[..2] {
        assert_eq!(judge(seed, TokenKind::IdToken, &[(KID, &Seal)]), Ok(()));
    }
    Target::new("token", seeds.clone()).words(WORDS).run(|input| {
        let Some(cut) = input.iter().position(|byte| *byte == UNSIGNED) else {
            let accepted = judge(input, TokenKind::IdToken, &[(KID, &Seal)]).is_ok();
            assert_eq!(accepted, seeds.iter().any(|seed| seed == input));
            return;
        };
        let (head, body) = (&input[..cut], &input[cut + 1..]);
        if judge(&sealed(head, body), TokenKind::IdToken, &[(KID, &Seal)]).is_ok() {
            assert_sound(head, body);
        }
    });
}

fn unsigned(head: &str, body: &str) -> Vec<u8> {
    [head.as_bytes(), &[UNSIGNED], body.as_bytes()].concat()
}

/// The names of an object's members, as often as they occur.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// What an accepted token says, read by a parser that knows nothing of tokens.
fn assert_sound(head: &[u8], body: &[u8]) {
    for json in [head, body] {
        let Names(names) = serde_json::from_slice(json).expect("strict JSON");
        let once: BTreeSet<&String> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "{names:?}");
    }
    let [head, body] = [head, body].map(|json| serde_json::from_slice::<Value>(json).expect("strict JSON"));
    assert_eq!((&head["alg"], &head["kid"]), (&"RS256".into(), &KID.into()));
    assert!(head.get("crit").is_none() && head.get("b64").is_none(), "{head}");
    assert_eq!((&body["iss"], &body["nonce"]), (&ISSUER.into(), &NONCE.into()));
    let is_for_us = match &body["aud"] {
        Value::Array(all) => all.contains(&AUDIENCE.into()),
        one => one == AUDIENCE,
    };
    assert!(is_for_us && (body["azp"] == AUDIENCE || body.get("azp").is_none()), "{body}");
    const LEEWAY: f64 = 300.0;
    let seconds = |name: &str| body[name].as_f64();
    assert!(seconds("exp").is_some_and(|end| end + LEEWAY > NOW as f64), "{body}");
    // Claims count whole seconds.
    let has_begun = |start: f64| start < NOW as f64 + LEEWAY + 1.0;
    assert!(seconds("iat").is_some_and(has_begun), "{body}");
    assert!(body.get("nbf").is_none() || seconds("nbf").is_some_and(has_begun), "{body}");
}

/// A set that is read holds no more keys than it may, each within its bounds.
#[test]
fn key_set() {
    let (rsa, ec) = (rsa_jwk(), ec_jwk(&keys().ec));
    let odd = r#"{"kty":"AKP","alg":"ML-DSA-44","kid":"pq","pub":"AAAA"},null,{"kty":"RSA","n":[1]},"#;
    let seeds = [
        format!("{{\"keys\":[{rsa}]}}"),
        format!("{{\"keys\":[{ec},{rsa}],\"more\":{{\"keys\":1}}}}"),
        format!("{{\"keys\":[{odd}{ec}]}}"),
        "{\"keys\":[]}".to_owned(),
    ];
    Target::new("key_set", seeds).words(WORDS).run(|input| {
        let Ok(Jwks { keys, unusable, over_bound }) = Jwks::parse(input) else { return };
        let looked_at = keys.len() + unusable.len();
        assert!(input.len() <= Jwks::MAX_BYTES && looked_at <= Jwks::MAX_KEYS);
        assert!(over_bound == 0 || looked_at == Jwks::MAX_KEYS);
        keys.iter().for_each(assert_within_bounds);
        // Reading it again names the same keys.
        let again = Jwks::parse(input).expect("it was one before");
        assert!(again.keys.iter().map(Jwk::version).eq(keys.iter().map(Jwk::version)));
    });
}

fn assert_within_bounds(key: &Jwk) {
    assert!(key.kid.as_ref().is_none_or(|kid| (1..=512).contains(&kid.to_string().len())));
    let bits =
        |number: &[u8]| number.len() * 8 - number.first().map_or(0, |first| first.leading_zeros() as usize);
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if let Material::Rsa { n, e } = &key.material {
        assert!(is_odd(n) && (2048..=8192).contains(&bits(n)));
        assert!(is_odd(e) && (2..=33).contains(&bits(e)));
        assert!(n[0] != 0 && e[0] != 0, "no leading zeros");
    }
}
