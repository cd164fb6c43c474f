//! What one endpoint expects of tokens.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::{Algorithm, Span};

/// What one endpoint expects of every token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectations {
    /// The issuer, exactly as it writes itself.
    pub issuer: String,
    /// Our own name among those whom a token is for.
    pub audience: String,
    /// The only algorithms that are accepted (RFC 8725 section 3.1).
    pub algorithms: Vec<Algorithm>,
    /// Which kind of token is accepted.
    pub token: TokenKind,
    /// How far the issuer's clock and ours may differ.
    pub leeway: Span,
}

/// What a token is for, which keeps one kind from being used as the other (RFC 8725 section 3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token that says so: `typ` is `at+jwt` (RFC 9068 section 4).
    AccessToken,
    /// An access token of an issuer from before RFC 9068: `typ` may also be `JWT` or missing.
    AnyAccessToken,
    /// An ID token: `typ` is `JWT` or missing. `azp` and `nonce` are checked.
    IdToken,
}

impl Expectations {
    /// The leeway unless told otherwise: 300 s, as in the OpenID Foundation's conformance suite; RFC 7519 section
    /// 4.1.4 allows "no more than a few minutes".
    pub const LEEWAY: Span = Span::from_secs(300);

    /// Expects every algorithm that there is, with the usual leeway.
    pub fn new(issuer: &str, audience: &str, token: TokenKind) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            token,
            leeway: Self::LEEWAY,
        }
    }
}

impl TokenKind {
    /// Whether a token with this `typ` can be of this kind.
    ///
    /// Media types ignore case, and `application/` may be left out (RFC 7515 section 4.1.9).
    pub(crate) fn accepts(self, typ: Option<&str>) -> bool {
        const PREFIX: &str = "application/";
        let Some(typ) = typ else { return self != Self::AccessToken };
        let name = match typ.split_at_checked(PREFIX.len()) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case(PREFIX) => name,
            _ => typ,
        };
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match self {
            Self::AccessToken => is("at+jwt"),
            Self::AnyAccessToken => is("at+jwt") || is("JWT"),
            Self::IdToken => is("JWT"),
        }
    }
}
