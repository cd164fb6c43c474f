//! Claims that are not for us, not for now, or not what they should be (RFC 7519 section 4.1).

use keyquake_core::{Malformed, Rejection, TokenKind};

use crate::forge::{Case, NOW, check_all, claims, header, sealed};

/// A good token but for these claims.
fn with(changes: &[(&str, &str)]) -> Vec<u8> {
    sealed(header(&[]), claims(changes))
}

#[test]
fn the_issuer_is_compared_exactly() {
    let other = |what, iss| Case::bad("A51", what, with(&[("iss", iss)]), Rejection::Issuer);
    let malformed = |what, iss| Case::bad("A51", what, with(&[("iss", iss)]), Malformed::Claim("iss"));
    check_all(&[
        Case::good("the issuer", with(&[])),
        Case::good("the issuer, escaped", with(&[("iss", r#""https:\/\/idp.tes\u0074""#)])),
        other("missing", ""),
        other("empty", r#""""#),
        other("a slash more", r#""https://idp.test/""#),
        other("a part of it", r#""https://idp.tes""#),
        other("another case", r#""https://IDP.test""#),
        other("another scheme", r#""http://idp.test""#),
        other("ours in another's name", r#""https://idp.test.evil.test""#),
        other("a blank after it", r#""https://idp.test ""#),
        other("A58 another tenant", r#""https://idp.test/tenant-b""#),
        malformed("an array", r#"["https://idp.test"]"#),
        malformed("null", "null"),
        malformed("a number", "1"),
    ]);
}

#[test]
fn the_audience_has_to_contain_us() {
    let good = |what, aud| Case::good(what, with(&[("aud", aud)]));
    let other = |what, aud| Case::bad("A52", what, with(&[("aud", aud)]), Rejection::Audience);
    let malformed = |what, aud| Case::bad("A52", what, with(&[("aud", aud)]), Malformed::Claim("aud"));
    check_all(&[
        good("a string", r#""keyquake""#),
        good("an array of one", r#"["keyquake"]"#),
        other("missing", ""),
        other("an empty array", "[]"),
        other("someone else", r#""other""#),
        other("a part of us", r#""keyquak""#),
        other("more than us", r#""keyquake2""#),
        other("another case", r#""Keyquake""#),
        other("several, and not us", r#"["other","another"]"#),
        malformed("a number", "1"),
        malformed("null", "null"),
        malformed("an object", r#"{"keyquake":true}"#),
        malformed("an array with a number", r#"["keyquake",1]"#),
        malformed("an array in an array", r#"[["keyquake"]]"#),
        malformed("an array with null", r#"[null,"keyquake"]"#),
    ]);
}

#[test]
fn an_id_token_for_several_says_that_it_was_issued_to_us() {
    use TokenKind::{AnyAccessToken, IdToken};
    const BOTH: &str = r#"["other","keyquake"]"#;
    let token = |aud, azp| with(&[("aud", aud), ("azp", azp)]);
    let bad = |what, aud, azp| Case::bad("A52", what, token(aud, azp), Rejection::Audience);
    let malformed = |what, azp| Case::bad("A52", what, with(&[("azp", azp)]), Malformed::Claim("azp"));
    check_all(&[
        Case::good("several, issued to us", token(BOTH, r#""keyquake""#)),
        Case::good("one, issued to us", token(r#""keyquake""#, r#""keyquake""#)),
        bad("several, issued to nobody", BOTH, ""),
        bad("several, issued to another", BOTH, r#""other""#),
        bad("one, issued to another", r#""keyquake""#, r#""other""#),
        bad("for another, issued to us", r#""other""#, r#""keyquake""#),
        Case::good("an access token for several", token(BOTH, "")).at(AnyAccessToken),
        Case::good("an access token of another's", token(BOTH, r#""other""#)).at(AnyAccessToken),
        malformed("azp null", "null").at(IdToken),
        malformed("azp an array", r#"["keyquake"]"#).at(AnyAccessToken),
    ]);
}

#[test]
fn dates_are_held_against_the_clock_with_leeway() {
    let at = |name: &'static str, offset: i64| with(&[(name, &(NOW + offset).to_string())]);
    let bad = |what, token, rejection| Case::bad("A54", what, token, rejection);
    check_all(&[
        Case::good("expired for 299 s", at("exp", -299)),
        Case::bad("A53", "expired for 300 s", at("exp", -300), Rejection::Expired),
        Case::bad("A53", "expired for a day", at("exp", -86_400), Rejection::Expired),
        Case::bad("A53", "expired in 1970", with(&[("exp", "0")]), Rejection::Expired),
        Case::good("starts in 300 s", at("nbf", 300)),
        bad("starts in 301 s", at("nbf", 301), Rejection::NotYetValid),
        Case::good("issued in 300 s", at("iat", 300)),
        bad("issued in 301 s", at("iat", 301), Rejection::NotYetValid),
        Case::good("issued long ago", at("iat", -30_000_000)),
        bad("expired before it started", with(&[("exp", "1"), ("nbf", "1900000000")]), Rejection::Expired),
    ]);
}

#[test]
fn dates_are_numbers_that_can_be_dates() {
    let good = |what, exp| Case::good(what, with(&[("exp", exp)]));
    let bad = |what, exp| Case::bad("A53", what, with(&[("exp", exp)]), Malformed::Claim("exp"));
    let missing =
        |name: &'static str| Case::bad("A54", name, with(&[(name, "")]), Malformed::MissingClaim(name));
    check_all(&[
        good("a fraction", "1700003600.75"),
        good("an exponent", "1.7000036e9"),
        good("the last second", "9007199254740991"),
        bad("2^53", "9007199254740992"),
        bad("2^53 and a half, which no double can tell", "9007199254740992.5"),
        bad("more than 64 bits", "99999999999999999999999"),
        bad("1e300", "1e300"),
        bad("before 1970", "-1"),
        bad("just before 1970", "-0.5"),
        bad("a string", r#""1700003600""#),
        bad("null", "null"),
        bad("true", "true"),
        bad("an array", "[1700003600]"),
        Case::bad("A54", "nbf as a string", with(&[("nbf", r#""0""#)]), Malformed::Claim("nbf")),
        Case::bad("A54", "iat as null", with(&[("iat", "null")]), Malformed::Claim("iat")),
        Case::bad("A54", "sub as a number", with(&[("sub", "7")]), Malformed::Claim("sub")),
        missing("exp"),
        missing("iat"),
        missing("sub"),
    ]);
}

#[test]
fn the_nonce_ties_an_id_token_to_its_login() {
    let bad = |what, nonce| Case::bad("A55", what, with(&[("nonce", nonce)]), Rejection::Nonce);
    let malformed =
        |what, nonce| Case::bad("A55", what, with(&[("nonce", nonce)]), Malformed::Claim("nonce"));
    check_all(&[
        Case::good("the nonce", with(&[])),
        bad("missing", ""),
        bad("empty", r#""""#),
        bad("another", r#""n-0S6_WzA2Mk""#),
        bad("a part of it", r#""n-0S6_WzA2M""#),
        bad("a blank after it", r#""n-0S6_WzA2Mj ""#),
        malformed("null", "null"),
        malformed("an array", r#"["n-0S6_WzA2Mj"]"#),
        Case::good("access tokens have none", with(&[("nonce", "")])).at(TokenKind::AnyAccessToken),
    ]);
}
