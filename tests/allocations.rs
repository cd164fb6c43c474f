//! A token accepted with published keys costs no allocation, once there is room to decode it into.

use std::alloc::System;
use std::sync::Arc;

use keyquake_core::{
    Algorithm, Event, Expectations, Freshness, KeyCache, KeyEntry, KeySet, KeyVersion, Policy, Published,
    Rejection, Scratch, Time, Token, TokenKind, UnixTime, Verify,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KID: &str = "Zb2u1LrGqJm0oJrkq3yJ8g";

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
    let header = format!(r#"{{"alg":"RS256","typ":"at+jwt","kid":"{KID}"}}"#);
    let payload = br#"{"iss":"https://idp.test","sub":"248289761001","aud":"keyquake","exp":1700003600,
        "iat":1700000000,"nbf":1700000000,"jti":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "sid":"08a5019c-17e1-4977-8f42-65a12843ea02","scope":"openid profile email orders:read orders:write"}"#;
    format!("{}.{}.{}", base64(header.as_bytes()), base64(payload), base64(&[0x5a; 256])).into_bytes()
}

/// What a cache publishes that holds the key.
fn published() -> Published<Credulous> {
    let version = KeyVersion(1);
    let key = KeyEntry { kid: Some(KID.into()), algorithm: Algorithm::Rs256, version, key: Credulous };
    let set = Arc::new(KeySet { keys: vec![Arc::new(key)], unusable: 0 });
    let mut cache: KeyCache<Credulous, ()> =
        KeyCache::new(Policy::default(), 1).expect("the default is good");
    cache.handle(Event::Preload(set, Freshness::UNSAID, Time::ZERO), Time::ZERO, &mut Vec::new());
    cache.publish(Time::ZERO)
}

fn accept(
    token: &[u8],
    expected: &Expectations,
    published: &Published<Credulous>,
    scratch: &mut Scratch,
) -> Result<usize, Rejection> {
    let token = Token::parse(token, expected, scratch)?;
    let keys = published.keys(token.kid(), token.algorithm(), Time::ZERO).ok_or(Rejection::KidUnknown)?;
    let verified = token.verify(keys.iter().map(|entry| (entry.version, &entry.key)))?;
    let claims = verified.check(None, UnixTime(1_700_000_000))?;
    Ok(claims.sub.len() + token.kid().map_or(0, str::len))
}

#[test]
fn an_accepted_token_costs_no_allocation() {
    let expected = Expectations::new("https://idp.test", "keyquake", TokenKind::AccessToken);
    let token = token();
    assert!((780..880).contains(&token.len()), "{}", token.len());
    let published = published();
    let mut scratch = Scratch::default();
    assert_eq!(accept(&token, &expected, &published, &mut scratch), Ok(34));

    // The test's own threads allocate now and then; a token that does would do so every time.
    let fewest = (0..20).map(|_| {
        let region = Region::new(ALLOCATOR);
        assert!(accept(&token, &expected, &published, &mut scratch).is_ok());
        region.change().allocations
    });
    assert_eq!(fewest.min(), Some(0));
}
