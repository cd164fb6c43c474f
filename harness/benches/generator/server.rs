//! Whom all contestants ask.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// A server that does as little as it can, on a thread of its own until the end of the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answered: Arc<AtomicU64>,
}

impl Server {
    /// Counts what it answers.
    pub(crate) fn start() -> Self {
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        let app = Router::new().route(
            "/api",
            get(async move || {
                count.fetch_add(1, Ordering::Relaxed);
                StatusCode::OK
            }),
        );
        Self { address: serve(app), answered }
    }

    /// Never answers.
    pub(crate) fn start_silent() -> Self {
        let app = Router::new().route("/api", get(std::future::pending::<StatusCode>));
        Self { address: serve(app), answered: Arc::default() }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

fn serve(app: Router) -> SocketAddr {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || runtime.block_on(async { axum::serve(listener, app).await }));
    address
}
