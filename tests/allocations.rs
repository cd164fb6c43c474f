//! An accepted token costs no allocation, once there is room to decode it into.

use std::alloc::System;

use keyquake_core::{
    Algorithm, Expectations, KeyVersion, Rejection, Scratch, Token, TokenKind, UnixTime, Verify,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A key that believes everything.
struct Credulous;

impl Verify for Credulous {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Rs256
    }

    fn verify(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// About 800 bytes, as tokens are: eight claims, a scope and an RS256 signature.
fn token() -> Vec<u8> {
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let header = br#"{"alg":"RS256","typ":"at+jwt","kid":"Zb2u1LrGqJm0oJrkq3yJ8g"}"#;
    let payload = br#"{"iss":"https://idp.test","sub":"248289761001","aud":"keyquake","exp":1700003600,
        "iat":1700000000,"nbf":1700000000,"jti":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "sid":"08a5019c-17e1-4977-8f42-65a12843ea02","scope":"openid profile email orders:read orders:write"}"#;
    format!("{}.{}.{}", base64(header), base64(payload), base64(&[0x5a; 256])).into_bytes()
}

fn accept(token: &[u8], expected: &Expectations, scratch: &mut Scratch) -> Result<usize, Rejection> {
    let token = Token::parse(token, expected, scratch)?;
    let verified = token.verify([(KeyVersion(1), &Credulous)])?;
    let claims = verified.check(None, UnixTime(1_700_000_000))?;
    Ok(claims.sub.len() + token.kid().map_or(0, str::len))
}

#[test]
fn an_accepted_token_costs_no_allocation() {
    let expected = Expectations::new("https://idp.test", "keyquake", TokenKind::AccessToken);
    let token = token();
    assert!((780..880).contains(&token.len()), "{}", token.len());
    let mut scratch = Scratch::default();
    assert_eq!(accept(&token, &expected, &mut scratch), Ok(34));

    // The test's own threads allocate now and then; a token that does would do so every time.
    let fewest = (0..20).map(|_| {
        let region = Region::new(ALLOCATOR);
        assert!(accept(&token, &expected, &mut scratch).is_ok());
        region.change().allocations
    });
    assert_eq!(fewest.min(), Some(0));
}
