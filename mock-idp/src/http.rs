//! The provider's face: plain HTTP/1.1 on a listener that the caller has bound.

mod admin;
mod guard;
mod metrics;
mod token;
mod well_known;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::ListenerExt;
use keyquake_core::Time;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use self::guard::{Guard, GuardError};

use crate::clock::Clock;
use crate::fault::Reply;
use crate::idp::Idp;

/// The longest body of a request that is read, in bytes.
const MAX_BODY: usize = 16 * 1_024;

/// A provider with a clock and a guard, shared by everyone who serves or watches it.
#[derive(Debug)]
pub struct Provider {
    idp: Mutex<Idp>,
    clock: Clock,
    guard: Guard,
    replanned: Notify,
}

impl Provider {
    /// Gives a provider its clock and its guard.
    pub fn new(idp: Idp, clock: Clock, guard: Guard) -> Self {
        Self { idp: Mutex::new(idp), clock, guard, replanned: Notify::new() }
    }

    /// The clock that the provider follows.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Does something with the provider at the present moment, while nobody else does. Keep it short: requests
    /// wait for it.
    pub fn with<R>(&self, act: impl FnOnce(&mut Idp, Time) -> R) -> R {
        // A panic elsewhere leaves a state that is whole: it is swapped at once.
        let mut idp = self.idp.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = idp.next_event();
        // The clock is read inside the lock, so that moments come in the order in which they are acted upon.
        let result = act(&mut idp, self.clock.now());
        if idp.next_event() != planned {
            self.replanned.notify_one();
        }
        result
    }

    /// Applies events at their moments even if nobody asks, so that logs and metrics are prompt.
    async fn keep_time(&self) -> Infallible {
        loop {
            let next = self.with(|idp, now| {
                idp.advance(now);
                idp.next_event()
            });
            let Some(at) = next else {
                self.replanned.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.instant(at).into()) => {}
                () = self.replanned.notified() => {}
            }
        }
    }
}

/// The provider's routes. Those that hand out tokens or change anything are guarded.
pub fn router(provider: Arc<Provider>) -> Router {
    let guarded = Router::new()
        .route("/token", post(token::issue))
        .route("/admin/rotate", post(admin::rotate))
        .route("/admin/faults", post(admin::start_fault))
        .route("/admin/faults/{id}", delete(admin::end_fault))
        .route("/admin/state", get(admin::state))
        .route_layer(from_fn_with_state(Arc::clone(&provider), guard));
    Router::new()
        .route("/.well-known/openid-configuration", get(well_known::metadata))
        .route("/.well-known/jwks.json", get(well_known::key_set))
        .route("/instances/{instance}/.well-known/openid-configuration", get(well_known::instance_metadata))
        .route("/instances/{instance}/.well-known/jwks.json", get(well_known::instance_key_set))
        .route("/metrics", get(metrics::text))
        .merge(guarded)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(provider)
}

/// Serves a provider until `shutdown` is ready, and the requests in flight to their end.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    provider: Arc<Provider>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Answers are small: waiting to fill a packet would only delay them.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let app = router(Arc::clone(&provider));
    tokio::select! {
        outcome = axum::serve(listener, app).with_graceful_shutdown(shutdown) => outcome,
        never = provider.keep_time() => match never {},
    }
}

async fn guard(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    match provider.guard.check(&headers) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.reply().into_response(),
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
    }
}

fn json_reply(status: StatusCode, body: &impl Serialize) -> Reply {
    // Our own structs of texts and numbers are always JSON.
    Reply::new(status, "application/json", serde_json::to_vec(body).unwrap_or_default())
}

fn error_reply(status: StatusCode, error: impl ToString) -> Reply {
    json_reply(status, &json!({ "error": error.to_string() }))
}

#[cfg(test)]
mod tests;
