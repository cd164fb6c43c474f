//! Where a replica is reached. A restart moves it, and keeps requests away meanwhile.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Notify;

use super::answer::{self, Broken};
use crate::plan::Place;

/// How often it is looked whether requests are still under way.
const LOOK: Duration = Duration::from_millis(10);

/// The way to one replica.
#[derive(Debug)]
pub(crate) struct Door {
    address: Mutex<Address>,
    /// What comes before each path.
    base: String,
    shut: AtomicBool,
    under_way: AtomicUsize,
    /// Nobody is behind it any more.
    emptied: Notify,
}

#[derive(Clone, Debug)]
enum Address {
    At(SocketAddr),
    /// On this machine, over either version of IP: some services take `localhost` for `::1` alone.
    Local(u16),
    Named(Place),
}

/// A request is under way behind a door until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'d>(&'d Door);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// To a replica on this machine.
    pub(crate) fn at(address: SocketAddr) -> Arc<Self> {
        Self::new(Address::At(address), String::new())
    }

    /// To a replica that will be on this machine, once it has a port.
    pub(crate) fn local() -> Arc<Self> {
        Self::new(Address::Local(0), String::new())
    }

    /// To one that runs already, perhaps elsewhere.
    pub(crate) fn to(place: &Place) -> Arc<Self> {
        Self::new(Address::Named(place.clone()), place.base.clone())
    }

    fn new(address: Address, base: String) -> Arc<Self> {
        Arc::new(Self {
            address: Mutex::new(address),
            base,
            shut: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            emptied: Notify::new(),
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) -> Inside<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Inside(self)
    }

    /// Sends requests elsewhere if there is an elsewhere, and waits for those under way, for so long at the most.
    pub(crate) async fn drain(&self, patience: Duration) {
        self.shut.store(true, Ordering::Relaxed);
        let all_out = async {
            while self.under_way.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(patience, all_out).await;
        self.emptied.notify_one();
    }

    /// Waits until the door is shut and nobody is behind it.
    pub(super) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// The replica takes requests again.
    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::Relaxed);
    }

    /// The replica is found on this port of this machine from now on.
    pub(crate) fn move_to(&self, port: u16) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Address::Local(port);
    }

    /// Connects, and says what the replica is called there (RFC 9110 section 7.2).
    ///
    /// # Errors
    ///
    /// The system's, and `PermissionDenied` when a name leads away from this machine that may not.
    pub(crate) async fn connect(&self) -> io::Result<(TcpStream, Arc<str>)> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (stream, authority) = match address {
            Address::At(address) => (TcpStream::connect(address).await?, address.to_string()),
            Address::Local(port) => (connect_locally(port).await?, format!("localhost:{port}")),
            Address::Named(place) => (connect(&place).await?, place.authority()),
        };
        stream.set_nodelay(true)?;
        Ok((stream, authority.into()))
    }

    /// The status of the answer to a request without credentials.
    ///
    /// # Errors
    ///
    /// As for [`Door::connect`], and `InvalidData` for what is no answer.
    pub(crate) async fn get(&self, path: &str) -> io::Result<u16> {
        let (mut stream, host) = self.connect().await?;
        let request =
            format!("GET {}{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", self.base);
        stream.write_all(request.as_bytes()).await?;
        let answer = answer::read(&mut stream, &mut Vec::new()).await;
        answer.map(|answer| answer.status).map_err(|Broken| io::ErrorKind::InvalidData.into())
    }

    /// Where that is, in words.
    pub(crate) fn place(&self) -> String {
        match &*self.address.lock().unwrap_or_else(PoisonError::into_inner) {
            Address::At(address) => address.to_string(),
            Address::Local(port) => format!("localhost:{port}"),
            Address::Named(place) => place.url(),
        }
    }
}

async fn connect_locally(port: u16) -> io::Result<TcpStream> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await
        }
        connected => connected,
    }
}

/// Connects to the first of a name's addresses that answers. A name means what it means now, so each is looked at here.
async fn connect(place: &Place) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in lookup_host((place.host.as_str(), place.port)).await? {
        if !place.beyond && !address.ip().to_canonical().is_loopback() {
            let message = format!("`{}` is {}, which is not this machine", place.host, address.ip());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_away_is_not_followed() {
        // An address stands for a name that resolves to it; nothing is sent to it.
        let place = Place { host: "192.0.2.1".to_owned(), port: 9, base: String::new(), beyond: false };
        let error = Door::to(&place).connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "`192.0.2.1` is 192.0.2.1, which is not this machine");
    }

    #[tokio::test]
    async fn a_service_may_listen_on_either_version_of_ip() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has both.
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue };
            let (door, port) = (Door::local(), listener.local_addr().unwrap().port());
            door.move_to(port);
            let (_, host) = door.connect().await.unwrap();
            assert_eq!(*host, format!("localhost:{port}"), "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_is_drained_when_all_are_out_or_patience_is() {
        let door = Door::at(([127, 0, 0, 1], 9).into());
        door.drain(Duration::from_secs(5)).await;
        assert!(door.is_shut());
        let inside = door.enter();
        door.drain(Duration::from_secs(5)).await;
        drop(inside);
        door.open();
        assert!(!door.is_shut());
    }
}
