//! The service as clients see it: paths, credentials, statuses.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use keyquake_core::{Expectations, Policy, Rejection};

use super::{Presented, Replica};

/// Which replica answers.
const X_REPLICA: HeaderName = HeaderName::from_static("x-keyquake-replica");
/// The nonce that a session keeps from its login, and an ID token has to repeat.
const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");

impl Replica {
    /// The service: `/api` takes access tokens, `/session` ID tokens with their nonce in `x-nonce`, and `/healthz`
    /// is always well.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api", get(api))
            .route("/session", get(session))
            .route("/healthz", get(healthz))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(self))
    }
}

async fn api(State(replica): State<Arc<Replica>>, request: Request) -> Response {
    replica.place(request, |replica| &replica.api).await
}

async fn session(State(replica): State<Arc<Replica>>, request: Request) -> Response {
    replica.place(request, |replica| &replica.session).await
}

async fn healthz(State(replica): State<Arc<Replica>>) -> Response {
    replica.answer(StatusCode::NO_CONTENT)
}

async fn not_found(State(replica): State<Arc<Replica>>) -> Response {
    replica.answer(StatusCode::NOT_FOUND)
}

async fn method_not_allowed(State(replica): State<Arc<Replica>>) -> Response {
    replica.answer(StatusCode::METHOD_NOT_ALLOWED)
}

impl Replica {
    /// Handles a request in its place, if there are only so many.
    async fn place(
        self: Arc<Self>,
        request: Request,
        endpoint: impl Fn(&Self) -> &Expectations + Send + 'static,
    ) -> Response {
        let headers = request.into_parts().0.headers;
        let Some(places) = self.places.load_full() else {
            return self.admit(endpoint(&self), &headers).await;
        };
        let Some(place) = places.take().await else { return self.refuse(Rejection::Overloaded) };
        let replica = Arc::clone(&self);
        // A thread works on when its client has gone.
        let handled = tokio::spawn(async move {
            let response = replica.admit(endpoint(&replica), &headers).await;
            drop(place);
            response
        });
        handled.await.unwrap_or_else(|_| self.refuse(Rejection::Overloaded))
    }

    async fn admit(&self, expected: &Expectations, headers: &HeaderMap) -> Response {
        let Some(token) = bearer(headers) else {
            // Who brings no credentials is told nothing but how (RFC 6750 section 3.1).
            return self.answer((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]));
        };
        let nonce = only(headers, &X_NONCE).and_then(|nonce| str::from_utf8(nonce.as_bytes()).ok());
        match self.judge(Presented { token, nonce, expected }).await {
            Ok(()) => self.answer("accepted"),
            Err(rejection) => self.refuse(rejection),
        }
    }

    fn refuse(&self, rejection: Rejection) -> Response {
        let status = status(rejection, &self.policy);
        let challenge = (status == StatusCode::UNAUTHORIZED).then(|| {
            let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{rejection}\"");
            [(WWW_AUTHENTICATE, challenge)]
        });
        match challenge {
            Some(challenge) => self.answer((status, challenge, rejection.name())),
            None => self.answer((status, rejection.name())),
        }
    }

    fn answer(&self, answer: impl IntoResponse) -> Response {
        let mut response = answer.into_response();
        response.headers_mut().insert(X_REPLICA, self.name.clone());
        response
    }
}

/// The status that a client sees for a rejection.
pub(crate) fn status(rejection: Rejection, policy: &Policy) -> StatusCode {
    let by_policy = |status| StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED);
    match rejection {
        Rejection::KidUnknown => by_policy(policy.http_unknown_kid),
        Rejection::RefetchLimited => by_policy(policy.http_limited),
        Rejection::JwksUnavailable => by_policy(policy.http_fetch_error),
        Rejection::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        Rejection::Malformed(_)
        | Rejection::AlgorithmDenied
        | Rejection::KidMissing
        | Rejection::BadSignature
        | Rejection::Issuer
        | Rejection::Audience
        | Rejection::Expired
        | Rejection::NotYetValid
        | Rejection::Nonce => StatusCode::UNAUTHORIZED,
    }
}

/// What follows `Bearer` and at least one space (RFC 6750 section 2.1). The scheme ignores case (RFC 9110 section
/// 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer";
    let (scheme, rest) = only(headers, &AUTHORIZATION)?.as_bytes().split_at_checked(SCHEME.len())?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = &rest[spaces..];
    (scheme.eq_ignore_ascii_case(SCHEME) && spaces > 0 && !token.is_empty()).then_some(token)
}

/// The value of a header that is there once. Of two, nobody knows which one a proxy in between has checked.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_strictly() {
        for (expected, lines) in [
            (None, [].as_slice()),
            (Some("a.b.c"), &["Bearer a.b.c"]),
            (Some("a.b.c"), &["bEARER   a.b.c"]),
            (Some("a.b.c d"), &["Bearer a.b.c d"]),
            (None, &["Bearer"]),
            (None, &["Bearer "]),
            (None, &["Bearera.b.c"]),
            (None, &["Bearer\ta.b.c"]),
            (None, &["Basic a.b.c"]),
            (None, &[" Bearer a.b.c"]),
            (None, &["Bea"]),
            (None, &[""]),
            (None, &["Bearer a.b.c", "Bearer a.b.c"]),
        ] {
            let headers = lines.iter().map(|line| (AUTHORIZATION, line.parse().unwrap())).collect();
            assert_eq!(bearer(&headers), expected.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test]
    fn the_policy_says_what_clients_see() {
        let policy =
            Policy { http_unknown_kid: 403, http_fetch_error: 500, http_limited: 429, ..Policy::default() };
        for (expected, rejection) in [
            (403, Rejection::KidUnknown),
            (500, Rejection::JwksUnavailable),
            (429, Rejection::RefetchLimited),
            (503, Rejection::Overloaded),
            (401, Rejection::KidMissing),
            (401, Rejection::BadSignature),
            (401, Rejection::Expired),
        ] {
            assert_eq!(status(rejection, &policy), expected, "{rejection}");
        }
    }
}
