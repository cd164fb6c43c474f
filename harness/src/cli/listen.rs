//! A port of a person's choice.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::Unusable;

/// Listens there.
///
/// # Errors
///
/// Why that cannot be, with a way out.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Unusable> {
    TcpListener::bind(address).await.map_err(|error| Unusable(cannot_listen(address, &error)))
}

/// What is wrong with an address, and the way out if that is its port.
fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "\nhint: `--port 0` takes a free one",
        io::ErrorKind::PermissionDenied => {
            "\nhint: ports below 1024 are often reserved; `--port 0` takes a free one"
        }
        io::ErrorKind::AddrNotAvailable => "\nhint: `--host` must be an address of this machine",
        _ => "",
    };
    format!("error: cannot listen on {address}: {error}{hint}")
}
