//! The provider's face: HTTP/1.1, plain or over TLS, on a listener that the caller has bound.

mod admin;
mod guard;
mod metrics;
mod tls;
mod token;
mod well_known;
mod wire;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use keyquake_core::{Span, Time};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub use self::guard::{Guard, GuardError};
pub use self::tls::{Tls, TlsError};

use self::tls::EncryptedLines;
use self::wire::{Lines, Wire};
use crate::clock::Clock;
use crate::fault::{FaultId, Reply};
use crate::idp::Idp;

/// The longest body of a request that is read, in bytes.
const MAX_BODY: usize = 16 * 1_024;

/// A provider with a clock and a guard, shared by everyone who serves or watches it.
#[derive(Debug)]
pub struct Provider {
    idp: Mutex<Idp>,
    clock: RwLock<Clock>,
    guard: Guard,
    owners: OnceLock<Owners>,
    replanned: Notify,
    outlook: watch::Sender<Outlook>,
}

/// Says which instance has the other end of a connection, the first of the two, if any has.
struct Owners(Box<dyn Fn([SocketAddr; 2]) -> Option<u32> + Send + Sync>);

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owners")
    }
}

/// What requests that are held wait for.
#[derive(Debug, Default)]
struct Outlook {
    in_force: BTreeSet<FaultId>,
    closing: bool,
}

impl Provider {
    /// Gives a provider its clock and its guard.
    pub fn new(idp: Idp, clock: Clock, guard: Guard) -> Self {
        Self {
            idp: Mutex::new(idp),
            clock: RwLock::new(clock),
            guard,
            owners: OnceLock::new(),
            replanned: Notify::new(),
            outlook: watch::Sender::default(),
        }
    }

    /// The clock that the provider follows.
    pub fn clock(&self) -> Clock {
        *self.clock.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it another clock, whose time comes after what the present one shows. Requests that are held keep theirs.
    pub fn restart(&self, clock: Clock) {
        *self.clock.write().unwrap_or_else(PoisonError::into_inner) = clock;
        self.replanned.notify_one();
    }

    /// Has requests whose URL names no instance attributed by the ends of their connection, the other first and then our
    /// own. The first to say so is heard.
    pub fn attribute_by(&self, owner: impl Fn([SocketAddr; 2]) -> Option<u32> + Send + Sync + 'static) {
        let _ = self.owners.set(Owners(Box::new(owner)));
    }

    /// Does something with the provider at the present moment, while nobody else does. Keep it short: requests
    /// wait for it.
    pub fn with<R>(&self, act: impl FnOnce(&mut Idp, Time) -> R) -> R {
        // A panic elsewhere leaves a state that is whole: it is swapped at once.
        let mut idp = self.idp.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = idp.next_event();
        // The clock is read inside the lock, so that moments come in the order in which they are acted upon.
        let result = act(&mut idp, self.clock().now());
        if idp.next_event() != planned {
            self.replanned.notify_one();
        }
        let in_force = idp.faults_in_force();
        self.outlook.send_if_modified(|shown| {
            let changed = shown.in_force != *in_force;
            if changed {
                shown.in_force.clone_from(in_force);
            }
            changed
        });
        result
    }

    /// Waits; `false` if the provider shuts down before the end of it.
    async fn pause(&self, span: Span) -> bool {
        if span == Span::ZERO {
            return true;
        }
        let mut outlook = self.outlook.subscribe();
        let clock = self.clock();
        tokio::select! {
            () = tokio::time::sleep_until(clock.instant(clock.now() + span).into()) => true,
            _ = outlook.wait_for(|outlook| outlook.closing) => false,
        }
    }

    /// Waits for the end of a fault, or for the provider to shut down.
    async fn outlast(&self, fault: FaultId) {
        let mut outlook = self.outlook.subscribe();
        let over = |outlook: &Outlook| outlook.closing || !outlook.in_force.contains(&fault);
        // The sender is the provider's own, and so outlives the wait.
        drop(outlook.wait_for(over).await);
    }

    /// Lets go of requests that are held.
    fn close(&self) {
        self.outlook.send_modify(|outlook| outlook.closing = true);
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
                () = tokio::time::sleep_until(self.clock().instant(at).into()) => {}
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

/// Serves a provider, over TLS if that is given, until `shutdown` is ready, and the requests in flight to their end,
/// except those that a fault holds back.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    provider: Arc<Provider>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let app = router(Arc::clone(&provider)).into_make_service_with_connect_info::<Wire>();
    let closing = {
        let provider = Arc::clone(&provider);
        async move {
            shutdown.await;
            provider.close();
        }
    };
    let serving = async {
        let lines = Lines(listener);
        match tls {
            None => axum::serve(lines, app).with_graceful_shutdown(closing).await,
            Some(tls) => {
                axum::serve(EncryptedLines::new(lines, tls), app).with_graceful_shutdown(closing).await
            }
        }
    };
    tokio::select! {
        outcome = serving => outcome,
        never = provider.keep_time() => match never {},
    }
}

async fn guard(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    match provider.guard.refuse(&headers) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
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
