//! The eight checks, in an order that the types keep: [`Token`] → [`Verified`] → [`Claims`].
//!
//! Nothing here fetches or waits. A driver reads a [`Token`], gets the keys of its
//! [`class`](Token::class) from wherever it keeps them, and goes on.

use crate::{Algorithm, Claims, Expectations, KeyVersion, Rejection, Span, Token, TokenKind, UnixTime};

/// A public key, ready to verify with the one algorithm that it was loaded for.
///
/// The algorithm is the key's and not the token's: a token cannot have a key used in a way that it was not
/// meant for (RFC 8725 section 3.1).
pub trait Verify {
    /// The algorithm that [`verify`](Self::verify) uses, whatever a token claims.
    fn algorithm(&self) -> Algorithm;

    /// Whether `signature` is this key's signature of `message`.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool;
}

/// A token whose signature is good. What it says may still be meant for others.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a>(&'a Token<'a>);

/// No key made the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSignature {
    /// The last key tried; `None` when there was none to try.
    pub tried: Option<KeyVersion>,
}

impl<'a> Token<'a> {
    /// The most keys that are tried on one token, so that a token without `kid` cannot cost any amount of work.
    pub const MAX_CANDIDATES: usize = 8;

    /// Tries these keys: the fourth of the eight checks.
    ///
    /// The candidates are the keys of the token's [`class`](Self::class), or fewer. No more than
    /// [`MAX_CANDIDATES`](Self::MAX_CANDIDATES) are tried, and a key for another algorithm than the token's fails.
    ///
    /// # Errors
    /// No candidate made the signature. The token stays, to be tried with other keys.
    pub fn verify<'k, K: Verify + 'k>(
        &'a self,
        candidates: impl IntoIterator<Item = (KeyVersion, &'k K)>,
    ) -> Result<Verified<'a>, BadSignature> {
        let mut tried = None;
        for (version, key) in candidates.into_iter().take(Self::MAX_CANDIDATES) {
            if key.algorithm() == self.algorithm() && key.verify(self.signing_input, self.signature) {
                return Ok(Verified(self));
            }
            tried = Some(version);
        }
        Err(BadSignature { tried })
    }
}

impl<'a> Verified<'a> {
    /// Holds the claims against the endpoint's expectations: the last four of the eight checks.
    ///
    /// `nonce` is the one that the login was started with. It is compared when given, and only for ID tokens:
    /// access tokens have none.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(self, nonce: Option<&str>, now: UnixTime) -> Result<&'a Claims<'a>, Rejection> {
        let Token { expected, ref claims, .. } = *self.0;
        if claims.iss.as_deref() != Some(expected.issuer.as_str()) {
            return Err(Rejection::Issuer);
        }
        if !is_for_us(claims, expected) {
            return Err(Rejection::Audience);
        }
        check_dates(claims, expected.leeway, now)?;
        if expected.token == TokenKind::IdToken && nonce.is_some() && claims.nonce.as_deref() != nonce {
            return Err(Rejection::Nonce);
        }
        Ok(claims)
    }
}

/// Whether we are among those whom the token is for, and, for an ID token, it was issued to us.
///
/// OpenID Connect Core 1.0 section 3.1.3.7 (3) to (5): further audiences are not trusted unless `azp` says that we
/// asked for the token, and `azp` is ours wherever it is. In an access token `azp` is the client and never us, and
/// RFC 9068 section 4 asks nothing of it.
fn is_for_us(claims: &Claims<'_>, expected: &Expectations) -> bool {
    let ours = Some(expected.audience.as_str());
    let azp = claims.azp.as_deref();
    let issued_to_us = azp == ours || (azp.is_none() && !claims.aud.is_several());
    claims.aud.contains(&expected.audience) && (expected.token != TokenKind::IdToken || issued_to_us)
}

/// The time has to be before `exp` and not before `nbf` (RFC 7519 sections 4.1.4 and 4.1.5). That `iat` must
/// not lie in the future is no rule of the RFC, but a token from the future says that one of the clocks is wrong.
fn check_dates(claims: &Claims<'_>, leeway: Span, now: UnixTime) -> Result<(), Rejection> {
    if now >= claims.exp + leeway {
        return Err(Rejection::Expired);
    }
    let latest = now + leeway;
    if claims.iat > latest || claims.nbf.is_some_and(|start| start > latest) {
        return Err(Rejection::NotYetValid);
    }
    Ok(())
}

impl From<BadSignature> for Rejection {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}
