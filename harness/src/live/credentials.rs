//! What live requests carry: tokens as headers, and what sessions ask for the next ones with.

use axum::http::HeaderValue;
use keyquake_core::{Time, UnixTime};
use keyquake_idp::{Forgery, Grant, Idp, Login, Minted};

use super::AUDIENCE;
use crate::oracle::TokenFacts;
use crate::plan::Plan;
use crate::scenario::Endpoint;
use crate::sessions::Sessions;

/// What a request carries.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) authorization: HeaderValue,
    /// The nonce of the login, for ID tokens.
    pub(crate) nonce: Option<HeaderValue>,
    pub(crate) facts: TokenFacts,
}

/// What a session got from the IdP.
#[derive(Clone, Debug)]
pub(crate) struct SessionToken {
    pub(crate) credentials: Credentials,
    /// What it asks with next time.
    pub(crate) refresh_token: String,
}

/// The IdP had no token for a session.
#[derive(Debug, thiserror::Error)]
#[error("no first token for session {session}: {reason}")]
pub(crate) struct NoFirstToken {
    session: u32,
    reason: String,
}

impl SessionToken {
    /// The token as the answer to a login or a renewal has it.
    pub(super) fn new(
        endpoint: Endpoint,
        session: u32,
        (token, facts): (&str, TokenFacts),
        refresh_token: String,
    ) -> Self {
        let nonce = nonce_of(endpoint, session).and_then(|nonce| HeaderValue::from_str(&nonce).ok());
        Self { credentials: Credentials { authorization: bearer(token), nonce, facts }, refresh_token }
    }
}

/// Logs all sessions in; `date` is that of the start of warm-up.
pub(super) fn log_in(
    plan: &Plan,
    idp: &mut Idp,
    date: UnixTime,
) -> Result<Sessions<SessionToken>, NoFirstToken> {
    let endpoint = plan.traffic.endpoint;
    let start = Time::ZERO - plan.warmup;
    Sessions::log_in(plan, plan.traffic.sessions, |session, age| {
        let nonce = nonce_of(endpoint, session);
        let grant = Grant::ClientCredentials { login: login(endpoint, session), nonce };
        let order = idp.order(start, date - age, &grant);
        let order = order.map_err(|refusal| NoFirstToken { session, reason: refusal.to_string() })?;
        let tokens = order.sign();
        // An ID token comes only to who logs in with a nonce.
        let token = match endpoint {
            Endpoint::Api => tokens.access,
            Endpoint::Session => tokens.id.unwrap_or(tokens.access),
        };
        Ok(SessionToken::new(endpoint, session, (&token.token, facts(&token, None)), tokens.refresh))
    })
}

/// A token as a header. The alphabet of tokens is one of headers.
pub(super) fn bearer(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

/// What tells one login of a session from another.
pub(super) fn nonce_of(endpoint: Endpoint, session: u32) -> Option<String> {
    (endpoint == Endpoint::Session).then(|| format!("nonce-{session}"))
}

/// The login of a session. Its ID tokens are for the service itself, which takes none that another client asked for
/// (OpenID Connect Core 1.0 section 3.1.3.7 (5)).
pub(super) fn login(endpoint: Endpoint, session: u32) -> Login {
    let subject = format!("session-{session}");
    let client = match endpoint {
        Endpoint::Api => subject.clone(),
        Endpoint::Session => AUDIENCE.to_owned(),
    };
    Login { subject, client, scope: "openid".to_owned() }
}

/// What is true of a token that was just made.
pub(super) fn facts(token: &Minted, forged: Option<Forgery>) -> TokenFacts {
    TokenFacts { key: token.key, expires: token.expires, forged }
}
