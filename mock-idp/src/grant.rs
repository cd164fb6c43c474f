//! Why a client gets tokens, and which.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::{Span, UnixTime};
use serde::{Deserialize, Serialize};

use crate::key::Signer;
use crate::token::{Mint, Minted, TokenId, TokenKind, TokenRequest};

/// Who is logged in where, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Whom the tokens are about.
    pub subject: String,
    /// Who asks for them.
    pub client: String,
    /// What they are for, separated by blanks; `openid` brings an ID token.
    pub scope: String,
}

/// What a client presents to get tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Itself (RFC 6749 section 4.4). The mock believes everybody.
    ClientCredentials {
        /// Who it is.
        login: Login,
        /// What its ID token shall carry.
        nonce: Option<String>,
    },
    /// A refresh token (RFC 6749 section 6).
    RefreshToken {
        /// The token.
        token: String,
        /// Who presents it, if known.
        client: Option<String>,
        /// What its ID token shall carry.
        nonce: Option<String>,
    },
}

/// Why a grant brings no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The key was revoked and not replaced.
    #[error("no active key")]
    NoActiveKey,
    /// The refresh token is not ours, or was issued to another client (RFC 6749 section 5.2).
    #[error("the refresh token is not valid for this client")]
    InvalidGrant,
}

/// Tokens that only need to be signed.
#[derive(Debug)]
pub struct TokenOrder {
    pub(crate) signer: Signer,
    pub(crate) mint: Arc<Mint>,
    pub(crate) ids: [TokenId; 2],
    pub(crate) refresh_token: String,
    pub(crate) login: Login,
    pub(crate) nonce: Option<String>,
    pub(crate) issued: UnixTime,
}

/// What a client gets (RFC 6749 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// For the API.
    pub access: Minted,
    /// For the client, if the scope contains `openid`.
    pub id: Option<Minted>,
    /// For the next time. It never expires, and is always the same for the same login.
    pub refresh: String,
    /// How long the tokens live.
    pub lifetime: Span,
    /// What they are for.
    pub scope: String,
}

impl TokenOrder {
    /// Signs the tokens.
    pub fn sign(self) -> Tokens {
        let [access_id, id_id] = self.ids;
        let openid = self.login.scope.split(' ').any(|scope| scope == "openid");
        let access = self.token(access_id, TokenKind::Access { scope: self.login.scope.clone() });
        let id = openid.then(|| self.token(id_id, TokenKind::Id { nonce: self.nonce.clone() }));
        let lifetime = self.mint.lifetime();
        Tokens { access, id, refresh: self.refresh_token, lifetime, scope: self.login.scope }
    }

    fn token(&self, id: TokenId, kind: TokenKind) -> Minted {
        let (subject, client) = (self.login.subject.clone(), self.login.client.clone());
        self.mint.mint(&self.signer, &TokenRequest { kind, subject, client, issued: self.issued, id })
    }
}

/// Makes refresh tokens that need no memory: the login itself, and a code that shows that it is ours.
#[derive(Debug)]
pub(crate) struct RefreshSeal(hmac::Key);

impl RefreshSeal {
    /// The seal of this seed: a repeated run knows the refresh tokens of the first.
    pub(crate) fn new(seed: u64) -> Self {
        let secret = digest(&SHA256, format!("keyquake refresh tokens {seed}").as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))
    }

    pub(crate) fn seal(&self, login: &Login) -> String {
        // A struct of texts is always JSON.
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(login).unwrap_or_default());
        let code = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, payload.as_bytes()));
        format!("{payload}.{code}")
    }

    /// The login that a grant stands for, and the nonce for its ID token.
    pub(crate) fn open(&self, grant: &Grant) -> Result<(Login, Option<String>), TokenRefusal> {
        match grant {
            Grant::ClientCredentials { login, nonce } => Ok((login.clone(), nonce.clone())),
            Grant::RefreshToken { token, client, nonce } => {
                let login = self.unseal(token).ok_or(TokenRefusal::InvalidGrant)?;
                if client.as_ref().is_some_and(|client| *client != login.client) {
                    return Err(TokenRefusal::InvalidGrant);
                }
                Ok((login, nonce.clone()))
            }
        }
    }

    fn unseal(&self, token: &str) -> Option<Login> {
        let (payload, code) = token.split_once('.')?;
        let code = URL_SAFE_NO_PAD.decode(code).ok()?;
        hmac::verify(&self.0, payload.as_bytes(), &code).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { subject: "session-1".into(), client: "app".into(), scope: "openid".into() }
    }

    fn refresh(token: &str, client: Option<&str>) -> Grant {
        Grant::RefreshToken { token: token.into(), client: client.map(Into::into), nonce: None }
    }

    #[test]
    fn a_refresh_token_remembers_its_login() {
        let seal = RefreshSeal::new(7);
        let token = seal.seal(&login());
        assert_eq!(seal.open(&refresh(&token, None)), Ok((login(), None)));
        assert_eq!(seal.open(&refresh(&token, Some("app"))), Ok((login(), None)));
        assert_eq!(RefreshSeal::new(7).seal(&login()), token);
    }

    #[test]
    fn refresh_tokens_of_others_are_refused() {
        let seal = RefreshSeal::new(7);
        let token = seal.seal(&login());
        let (payload, code) = token.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"subject":"root","client":"app","scope":""}"#);
        let stranger = RefreshSeal::new(8).seal(&login());
        let tampered =
            [format!("{forged}.{code}"), payload.into(), format!("{payload}."), stranger, ".".into()];
        for token in tampered {
            assert_eq!(seal.open(&refresh(&token, None)), Err(TokenRefusal::InvalidGrant), "{token}");
        }
        assert_eq!(seal.open(&refresh(&token, Some("other"))), Err(TokenRefusal::InvalidGrant));
    }
}
