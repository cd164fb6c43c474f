//! The token endpoint (RFC 6749 section 3.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::header::{CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::guard::basic_credentials;
use super::wire::{Unanswered, Wire};
use super::{Provider, json_reply};
use crate::fault::{Endpoint, Reply};
use crate::grant::{Grant, Login, TokenRefusal, Tokens};

type FormPairs = Result<Form<Vec<(String, String)>>, FormRejection>;

pub(super) async fn issue(
    State(provider): State<Arc<Provider>>,
    wire: Wire,
    headers: HeaderMap,
    form: FormPairs,
) -> Result<Response, Unanswered> {
    let strike = provider.with(|idp, now| idp.strike(now, Endpoint::Token, None));
    let parameters = Parameters::read(form);
    let grant_type = parameters.as_ref().map_or("other", Parameters::grant_type);
    let answer = parameters.and_then(|parameters| parameters.grant(&headers)).and_then(|grant| {
        let order = provider.with(|idp, now| idp.order(now, provider.clock().unix(now), &grant))?;
        // The lock is free while the key is at work.
        Ok(order.sign())
    });
    let answer = strike.bend(match answer {
        Ok(tokens) => tokens_reply(&tokens),
        Err(error) => error.reply(),
    });
    provider.with(|idp, _| idp.token_answered(grant_type, answer.status()));
    wire.carry_out(&provider, answer).await
}

/// The answer to a good request (RFC 6749 section 5.1, OpenID Connect Core 1.0 section 3.1.3.3).
#[derive(Serialize)]
struct TokensBody<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: &'a str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
}

fn tokens_reply(tokens: &Tokens) -> Reply {
    let body = TokensBody {
        access_token: &tokens.access.token,
        token_type: "Bearer",
        expires_in: tokens.lifetime.as_nanos() / 1_000_000_000,
        refresh_token: &tokens.refresh,
        scope: &tokens.scope,
        id_token: tokens.id.as_ref().map(|id| id.token.as_str()),
    };
    uncached(json_reply(StatusCode::OK, &body))
}

/// Nothing of this endpoint may be stored (RFC 6749 section 5.1).
fn uncached(mut reply: Reply) -> Reply {
    reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Why there are no tokens (RFC 6749 section 5.2).
#[derive(Debug)]
enum TokenError {
    InvalidRequest(StatusCode, String),
    InvalidClient,
    UnsupportedGrantType,
    Refused(TokenRefusal),
}

impl From<TokenRefusal> for TokenError {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl TokenError {
    fn reply(&self) -> Reply {
        let bad = StatusCode::BAD_REQUEST;
        let (status, code, description) = match self {
            Self::InvalidRequest(status, why) => (*status, "invalid_request", why.clone()),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client", "name the client".into()),
            Self::UnsupportedGrantType => {
                (bad, "unsupported_grant_type", "use `client_credentials` or `refresh_token`".into())
            }
            Self::Refused(why @ TokenRefusal::InvalidGrant) => (bad, "invalid_grant", why.to_string()),
            // Not in the list of section 5.2, which has no word for a server that cannot.
            Self::Refused(why @ TokenRefusal::NoActiveKey) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why.to_string())
            }
        };
        let mut reply = json_reply(status, &json!({ "error": code, "error_description": description }));
        if status == StatusCode::UNAUTHORIZED {
            reply.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        }
        uncached(reply)
    }
}

/// The parameters of a request, each of them once (RFC 6749 section 3.2).
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn read(form: FormPairs) -> Result<Self, TokenError> {
        let Form(pairs) =
            form.map_err(|error| TokenError::InvalidRequest(error.status(), error.body_text()))?;
        let mut parameters = BTreeMap::new();
        // Without a value a parameter counts as left out.
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            if parameters.contains_key(&name) {
                let why = format!("`{name}` is given twice");
                return Err(TokenError::InvalidRequest(StatusCode::BAD_REQUEST, why));
            }
            parameters.insert(name, value);
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The grant type as it is counted.
    fn grant_type(&self) -> &'static str {
        match self.get("grant_type") {
            Some("client_credentials") => "client_credentials",
            Some("refresh_token") => "refresh_token",
            _ => "other",
        }
    }

    fn grant(&self, headers: &HeaderMap) -> Result<Grant, TokenError> {
        let missing =
            |name| TokenError::InvalidRequest(StatusCode::BAD_REQUEST, format!("`{name}` is missing"));
        let text = |name| self.get(name).map(str::to_owned);
        let client = basic_credentials(headers).map(|(user, _)| user).or_else(|| text("client_id"));
        let nonce = text("nonce");
        match self.get("grant_type").ok_or_else(|| missing("grant_type"))? {
            "client_credentials" => {
                let client = client.ok_or(TokenError::InvalidClient)?;
                let scope = text("scope").unwrap_or_default();
                // A client that acts for itself is the subject (RFC 9068 section 2.2).
                let login = Login { subject: client.clone(), client, scope };
                Ok(Grant::ClientCredentials { login, nonce })
            }
            "refresh_token" => {
                let token = text("refresh_token").ok_or_else(|| missing("refresh_token"))?;
                Ok(Grant::RefreshToken { token, client, nonce })
            }
            _ => Err(TokenError::UnsupportedGrantType),
        }
    }
}
