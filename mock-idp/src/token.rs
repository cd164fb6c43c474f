//! Tokens: what they claim, and how they are signed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::{Span, UnixTime};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::key::Signer;
use crate::timeline::KeyId;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// For an API (RFC 9068).
    Access {
        /// What it allows.
        scope: String,
    },
    /// For the client itself (OpenID Connect Core 1.0 section 2).
    Id {
        /// What the client gave to find its own login again.
        nonce: Option<String>,
    },
}

/// What makes one token different from another of the same provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// What it is for.
    pub kind: TokenKind,
    /// Whom it is about.
    pub subject: String,
    /// Who asked for it.
    pub client: String,
    /// When it is issued; it may lie in the past.
    pub issued: UnixTime,
    /// Its unique name.
    pub id: TokenId,
}

/// The unique name of a token: the `jti` claim (RFC 7519 section 4.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u128);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A reproducible, endless supply of token names.
#[derive(Debug)]
pub struct TokenIds(ChaCha8Rng);

impl TokenIds {
    /// A supply of this seed. Different streams of a seed have no names in common; stream 0 is the provider's own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self(random)
    }

    /// The next name.
    pub fn draw(&mut self) -> TokenId {
        TokenId(u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64()))
    }
}

/// A signed token and what its maker knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The token in its compact form (RFC 7515 section 7.1).
    pub token: String,
    /// The key that signed it, or that it pretends was.
    pub key: KeyId,
    /// Its `iat` claim.
    pub issued: UnixTime,
    /// Its `exp` claim.
    pub expires: UnixTime,
}

/// Mints the tokens of one provider.
#[derive(Clone, Debug)]
pub struct Mint {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) lifetime: Span,
}

impl Mint {
    /// A mint whose tokens name this issuer and audience and live so long, in whole seconds.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, lifetime: Span) -> Self {
        Self { issuer: issuer.into(), audience: audience.into(), lifetime }
    }

    /// How long tokens live.
    pub fn lifetime(&self) -> Span {
        self.lifetime
    }

    /// Mints a token. The signature is nearly all of its cost: see [`SigningKey::sign`](crate::SigningKey::sign).
    pub fn mint(&self, signer: &Signer, request: &TokenRequest) -> Minted {
        let header = Header::of(signer, &request.kind);
        let claims = self.claims(request);
        let input = signing_input(&header, &claims);
        let signature = signer.key.sign(input.as_bytes());
        seal(signer.id, &claims, input, &signature)
    }

    /// The claims of an honest token.
    pub(crate) fn claims<'a>(&'a self, request: &'a TokenRequest) -> Claims<'a> {
        let client = request.client.as_str();
        let mut claims = Claims {
            iss: &self.issuer,
            sub: &request.subject,
            aud: Audience::One(&self.audience),
            exp: (request.issued + self.lifetime).0,
            iat: request.issued.0,
            nbf: request.issued.0,
            jti: request.id.to_string(),
            client_id: None,
            scope: None,
            nonce: None,
            azp: None,
        };
        match &request.kind {
            // RFC 9068 section 2.2.
            TokenKind::Access { scope } => {
                claims.client_id = Some(client);
                claims.scope = Some(scope).filter(|scope| !scope.is_empty()).map(String::as_str);
            }
            // OpenID Connect Core 1.0 section 2: the audience contains the client.
            TokenKind::Id { nonce } => {
                claims.nonce = nonce.as_deref();
                claims.azp = Some(client);
                if client != self.audience {
                    claims.aud = Audience::Two([&self.audience, client]);
                }
            }
        }
        claims
    }
}

#[derive(Serialize)]
pub(crate) struct Header<'a> {
    pub(crate) alg: &'a str,
    pub(crate) typ: &'a str,
    pub(crate) kid: &'a str,
}

impl<'a> Header<'a> {
    /// The header of an honest token; for its `typ` see RFC 9068 section 2.1 and RFC 7519 section 5.1.
    pub(crate) fn of(signer: &'a Signer, kind: &TokenKind) -> Self {
        let typ = match kind {
            TokenKind::Access { .. } => "at+jwt",
            TokenKind::Id { .. } => "JWT",
        };
        Self { alg: signer.key.algorithm().name(), typ, kid: signer.key.kid().as_str() }
    }
}

#[derive(Serialize)]
pub(crate) struct Claims<'a> {
    pub(crate) iss: &'a str,
    sub: &'a str,
    pub(crate) aud: Audience<'a>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azp: Option<&'a str>,
}

/// One audience is a string, several are an array (RFC 7519 section 4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Audience<'a> {
    One(&'a str),
    Two([&'a str; 2]),
}

/// What is signed: header and claims, base64url, joined by a dot (RFC 7515 section 5.1).
pub(crate) fn signing_input(header: &Header<'_>, claims: &Claims<'_>) -> String {
    let mut input = String::with_capacity(1_024);
    encode_json(header, &mut input);
    input.push('.');
    encode_json(claims, &mut input);
    input
}

fn encode_json(part: &impl Serialize, out: &mut String) {
    // One allocation for nearly all tokens. With more, they cost more than the encoding.
    let mut json = Vec::with_capacity(512);
    // Structs of strings and integers are always JSON.
    let _ = serde_json::to_writer(&mut json, part);
    URL_SAFE_NO_PAD.encode_string(json, out);
}

/// Appends the signature.
pub(crate) fn seal(key: KeyId, claims: &Claims<'_>, mut input: String, signature: &[u8]) -> Minted {
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut input);
    Minted { token: input, key, issued: UnixTime(claims.iat), expires: UnixTime(claims.exp) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{decode_part, ring_of_one};
    use keyquake_core::Algorithm;
    use serde_json::json;

    fn request(kind: TokenKind, client: &str) -> TokenRequest {
        TokenRequest {
            kind,
            subject: "session-1".into(),
            client: client.into(),
            issued: UnixTime(1_700_000_000),
            id: TokenId(0xabc),
        }
    }

    fn mint() -> Mint {
        Mint::new("http://idp", "keyquake", Span::from_secs(600))
    }

    #[test]
    fn an_access_token_is_that_of_rfc_9068() {
        let signer = ring_of_one(Algorithm::Es256);
        let minted = mint().mint(&signer, &request(TokenKind::Access { scope: "read".into() }, "app"));
        let kid = signer.key.kid().as_str();
        assert_eq!(decode_part(&minted.token, 0), json!({ "alg": "ES256", "typ": "at+jwt", "kid": kid }));
        assert_eq!(
            decode_part(&minted.token, 1),
            json!({
                "iss": "http://idp", "sub": "session-1", "aud": "keyquake", "client_id": "app", "scope": "read",
                "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_000_600,
                "jti": "00000000000000000000000000000abc",
            })
        );
        assert_eq!((minted.issued.0, minted.expires.0), (1_700_000_000, 1_700_000_600));
        assert_eq!(minted.key, KeyId::FIRST);
    }

    #[test]
    fn an_id_token_carries_nonce_and_authorized_party() {
        let signer = ring_of_one(Algorithm::Es256);
        let kind = || TokenKind::Id { nonce: Some("n-0S6".into()) };
        let own = decode_part(&mint().mint(&signer, &request(kind(), "keyquake")).token, 1);
        assert_eq!(
            (&own["aud"], &own["azp"], &own["nonce"]),
            (&json!("keyquake"), &json!("keyquake"), &json!("n-0S6"))
        );
        let minted = mint().mint(&signer, &request(kind(), "app"));
        assert_eq!(decode_part(&minted.token, 1)["aud"], json!(["keyquake", "app"]));
        assert_eq!(decode_part(&minted.token, 0)["typ"], "JWT");
    }

    #[test]
    fn names_follow_from_seed_and_stream() {
        let names = |seed, stream| {
            let mut ids = TokenIds::new(seed, stream);
            [ids.draw(), ids.draw()]
        };
        let [first, second] = names(7, 1);
        assert_eq!(names(7, 1), [first, second]);
        assert_ne!(first, second);
        assert_ne!(names(8, 1)[0], first);
        assert_ne!(names(7, 2)[0], first);
    }
}
