//! Headers that deny, confuse or bring their own keys: algorithm confusion (RFC 8725 section 2.1), keys in
//! headers (its section 3.10), extensions (RFC 7515 section 4.1.11).

use keyquake_core::{JsonFault, Malformed, Part, Rejection, TokenKind};

use crate::forge::{Case, NONCE, base64, check_all, claims, header, sealed};

fn good() -> Case {
    Case::good("a plain header", sealed(header(&[]), claims(&[])))
}

/// A good token but for these members of its header.
fn with(changes: &[(&str, &str)]) -> Vec<u8> {
    sealed(header(changes), claims(&[]))
}

#[test]
fn only_the_expected_algorithms_are_accepted() {
    let denied = |id, what, alg| Case::bad(id, what, with(&[("alg", alg)]), Rejection::AlgorithmDenied);
    let unsigned = format!("{}.{}.", base64(header(&[("alg", r#""none""#)])), base64(claims(&[])));
    let malformed = |what, alg| Case::bad("A16", what, with(&[("alg", alg)]), Malformed::Algorithm);
    check_all(&[
        good(),
        Case::bad("A01", "none, without signature", unsigned.into_bytes(), Malformed::Segments),
        denied("A02", "None", r#""None""#),
        denied("A02", "NONE", r#""NONE""#),
        denied("A02", "nOnE", r#""nOnE""#),
        denied("A03", "none, the signature kept", r#""none""#),
        denied("A09", "HS256", r#""HS256""#),
        denied("A13", "PS256", r#""PS256""#),
        denied("A15", "RS257", r#""RS257""#),
        denied("A15", "rs256 in lower case", r#""rs256""#),
        denied("A15", "RS256 and a blank", r#""RS256 ""#),
        denied("A15", "empty", r#""""#),
        malformed("missing", ""),
        malformed("a number", "256"),
        malformed("null", "null"),
        malformed("an array", r#"["RS256"]"#),
        Case::bad(
            "A12",
            "ES256 for a key that is pinned to RS256",
            with(&[("alg", r#""ES256""#)]),
            Rejection::BadSignature,
        ),
    ]);
}

#[test]
fn a_token_cannot_bring_its_own_key() {
    let ignored = |what, name, value| Case::good(what, with(&[(name, value)]));
    let other = |id, what, kid: &str| Case::bad(id, what, with(&[("kid", kid)]), Rejection::KidUnknown);
    let malformed = |what, kid: &str| Case::bad("A30", what, with(&[("kid", kid)]), Malformed::Kid);
    let long = |bytes: usize| format!(r#""{}""#, "k".repeat(bytes));
    check_all(&[
        ignored("A20 jwk means nothing", "jwk", r#"{"kty":"oct","k":"AAAA"}"#),
        ignored("A21 jku means nothing", "jku", r#""https://evil.test/jwks""#),
        ignored("A23 x5u means nothing", "x5u", r#""https://evil.test/chain""#),
        ignored("A24 x5c means nothing", "x5c", r#"["MIIB"]"#),
        other("A25", "a path", r#""../../dev/null""#),
        other("A26", "SQL", r#""' UNION SELECT 'k""#),
        other("A27", "a URL", r#""https://evil.test/k1""#),
        other("A28", "shell", r#""k1;$(reboot)""#),
        other("A29", "NUL after the name", r#""k1\u0000""#),
        other("A29", "a line break", r#""k1\r\nSet-Cookie: a=b""#),
        other("A29", "a blank before the name", r#"" k1""#),
        other("A29", "512 bytes", &long(512)),
        Case::bad("A29", "513 bytes", with(&[("kid", &long(513))]), Malformed::Kid),
        malformed("an array", r#"["k1"]"#),
        malformed("an object", r#"{"k1":1}"#),
        malformed("a number", "1"),
        malformed("null", "null"),
        malformed("empty", r#""""#),
        Case::bad("A30", "missing", with(&[("kid", "")]), Rejection::KidMissing),
    ]);
}

#[test]
fn no_extension_is_understood() {
    let critical = |id, what, crit| Case::bad(id, what, with(&[("crit", crit)]), Malformed::Critical);
    let unencoded = [("b64", "false"), ("crit", r#"["b64"]"#)];
    check_all(&[
        good(),
        Case::good("a parameter that no one marked critical", with(&[("x-policy", "1")])),
        critical("A31", "unknown", r#"["x-policy"]"#),
        critical("A32", "empty", "[]"),
        critical("A33", "registered", r#"["alg"]"#),
        critical("A34", "not an array", r#""alg""#),
        critical("A34", "null", "null"),
        Case::bad("A35", "b64, critical", with(&unencoded), Malformed::UnencodedPayload),
        Case::bad("A36", "b64, not critical", with(&unencoded[..1]), Malformed::UnencodedPayload),
    ]);
}

#[test]
fn one_kind_of_token_is_not_taken_for_another() {
    use TokenKind::{AccessToken, AnyAccessToken, IdToken};
    let typed = |typ: &str| with(&[("typ", typ)]);
    let good = |kind, what, typ| Case::good(what, typed(typ)).at(kind);
    let bad = |kind, what, typ| Case::bad("A45", what, typed(typ), Malformed::Type).at(kind);
    let logout =
        claims(&[("nonce", ""), ("events", r#"{"http://schemas.openid.net/event/backchannel-logout":{}}"#)]);
    check_all(&[
        good(IdToken, "JWT", r#""JWT""#),
        good(IdToken, "jwt", r#""jwt""#),
        good(IdToken, "application/JWT", r#""application/JWT""#),
        good(IdToken, "no typ", ""),
        bad(IdToken, "an access token as ID token", r#""at+jwt""#),
        bad(IdToken, "a logout token as ID token", r#""logout+jwt""#),
        Case::bad("A46", "a logout token without its typ", sealed(header(&[]), logout), Rejection::Nonce),
        good(AccessToken, "at+jwt", r#""at+jwt""#),
        good(AccessToken, "application/at+jwt", r#""application/at+jwt""#),
        good(AccessToken, "Application/AT+JWT", r#""Application/AT+JWT""#),
        bad(AccessToken, "an ID token as access token", r#""JWT""#),
        bad(AccessToken, "no typ", ""),
        bad(AccessToken, "empty", r#""""#),
        bad(AccessToken, "another type", r#""audio/basic/at+jwt""#),
        bad(AccessToken, "the prefix twice", r#""application/application/at+jwt""#),
        bad(AccessToken, "a number", "1"),
        bad(AccessToken, "null", "null"),
        good(AnyAccessToken, "an access token from before RFC 9068", r#""JWT""#),
        good(AnyAccessToken, "no typ, from before RFC 9068", ""),
        good(AnyAccessToken, "at+jwt where others pass too", r#""at+jwt""#),
        bad(AnyAccessToken, "a logout token", r#""logout+jwt""#),
    ]);
}

#[test]
fn a_name_occurs_once() {
    let again = |what, member: &str, part| {
        let (mut head, mut body) = (header(&[]), claims(&[]));
        let text = if part == Part::Header { &mut head } else { &mut body };
        text.insert_str(text.len() - 1, member);
        let id = if part == Part::Header { "A37" } else { "A38" };
        Case::bad(id, what, sealed(head, body), Malformed::Json(part, JsonFault::DuplicateName))
    };
    check_all(&[
        good(),
        Case::good("a name spelt with an escape", {
            sealed(r#"{"\u0061lg":"RS256","k\u0069d":"k\u0031"}"#, claims(&[]))
        }),
        Case::good("names may repeat further down", {
            sealed(header(&[]), claims(&[("realm", r#"{"iss":1,"a":{"iss":2}}"#)]))
        }),
        again("alg", r#","alg":"none""#, Part::Header),
        again("alg, escaped", r#","\u0061lg":"none""#, Part::Header),
        again("kid", r#","kid":"k2""#, Part::Header),
        again("one that nobody reads", r#","x":1,"x":1"#, Part::Header),
        again("iss", r#","iss":"https://evil.test""#, Part::Payload),
        again("sub", r#","sub":"mallory""#, Part::Payload),
        again("exp", r#","exp":9000000000"#, Part::Payload),
        again("exp, escaped", r#","\u0065xp":9000000000"#, Part::Payload),
        again("nonce, the same", &format!(r#","nonce":"{NONCE}""#), Part::Payload),
        again("one that nobody reads, escaped", r#","x":1,"\u0078":1"#, Part::Payload),
    ]);
}
