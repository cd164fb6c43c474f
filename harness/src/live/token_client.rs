//! The token endpoint as a session sees it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::UnixTime;
use keyquake_idp::{KeyId, Timeline};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Site;
use super::credentials::{SessionToken, login, nonce_of};
use crate::oracle::TokenFacts;
use crate::scenario::Endpoint;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1_024;

/// How many renewals are under way at once; the others wait for their turn.
pub(super) const AT_ONCE: usize = 256;

/// Asks the token endpoint for tokens.
#[derive(Debug)]
pub(crate) struct TokenClient {
    client: Client,
    turns: Semaphore,
    url: String,
    endpoint: Endpoint,
    kids: Vec<(String, KeyId)>,
    timeline: Timeline,
}

/// Why there is no token: the endpoint is down, or said no.
#[derive(Debug)]
pub(crate) struct NoToken;

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    id_token: Option<String>,
    refresh_token: String,
}

#[derive(Deserialize)]
struct Header {
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

impl TokenClient {
    pub(super) fn new(site: Site<'_>, timeout: Duration) -> reqwest::Result<Self> {
        let Site { plan, issuer, .. } = site;
        let kids =
            plan.timeline.keys().filter_map(|(id, _)| Some((issuer.keys.get(id)?.key.kid().to_string(), id)));
        Ok(Self {
            client: Client::builder()
                .tls_certs_only(issuer.certificate())
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(timeout)
                .build()?,
            turns: Semaphore::new(AT_ONCE),
            url: format!("{}/token", issuer.url),
            endpoint: plan.traffic.endpoint,
            kids: kids.collect(),
            timeline: plan.timeline.clone(),
        })
    }

    /// Gets a session its next token: with its refresh token, or by a login. `signing` is the key that signs at present.
    pub(crate) async fn renew(
        &self,
        session: u32,
        refresh_token: Option<&str>,
        signing: KeyId,
    ) -> Result<SessionToken, NoToken> {
        let _turn = self.turns.acquire().await.map_err(|_| NoToken)?;
        let mut answer = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form(session, refresh_token))
            .send()
            .await
            .map_err(|_| NoToken)?;
        if answer.status() != 200 {
            return Err(NoToken);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| NoToken)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(NoToken);
            }
            body.extend_from_slice(&chunk);
        }
        self.read(session, &body, signing).ok_or(NoToken)
    }

    /// The parameters of the request. None of their values has a character that would need escaping.
    fn form(&self, session: u32, refresh_token: Option<&str>) -> String {
        let login = login(self.endpoint, session);
        let mut form = match refresh_token {
            Some(token) => format!("grant_type=refresh_token&refresh_token={token}"),
            None => {
                format!("grant_type=client_credentials&client_id={}&scope={}", login.client, login.scope)
            }
        };
        if let Some(nonce) = nonce_of(self.endpoint, session) {
            form.push_str("&nonce=");
            form.push_str(&nonce);
        }
        form
    }

    fn read(&self, session: u32, body: &[u8], signing: KeyId) -> Option<SessionToken> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let token = match self.endpoint {
            Endpoint::Api => answer.access_token,
            Endpoint::Session => answer.id_token?,
        };
        let mut segments = token.split('.');
        let header: Header = segment(segments.next()?)?;
        let claims: Claims = segment(segments.next()?)?;
        let facts =
            TokenFacts { key: self.key(&header.kid, signing)?, expires: UnixTime(claims.exp), forged: None };
        Some(SessionToken::new(self.endpoint, session, (&token, facts), answer.refresh_token))
    }

    /// The key of this name; keys that share a name never sign at the same time.
    fn key(&self, kid: &str, signing: KeyId) -> Option<KeyId> {
        let mut named = self.kids.iter().filter(|(name, _)| name == kid).map(|(_, id)| *id);
        let first = named.next()?;
        let shares = named.clone().next().is_some();
        Some(if shares && self.timeline.life(signing).is_some() { signing } else { first })
    }
}

fn segment<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
