//! Keep-alive connections to one replica, each with one request at a time.

use std::cell::RefCell;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderName;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest body of an answer that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// The answer's header that names the instance.
const INSTANCE: HeaderName = HeaderName::from_static("x-keyquake-replica");

/// A connection that is ready for a request. It leads to one instance for as long as it lives.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Known once it has answered.
    instance: Option<u32>,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) instance: Option<u32>,
}

impl Connection {
    pub(crate) fn instance(&self) -> Option<u32> {
        self.instance
    }
}

/// The idle connections to one replica.
#[derive(Debug)]
pub(crate) struct Connections {
    address: SocketAddr,
    kept: usize,
    idle: RefCell<Vec<Connection>>,
}

/// The target broke the connection, refused it, or did not speak HTTP.
#[derive(Debug)]
pub(crate) struct Broken;

impl Connections {
    /// No more than `kept` connections are kept once they are idle.
    pub(crate) fn new(address: SocketAddr, kept: u32) -> Self {
        Self { address, kept: kept as usize, idle: RefCell::default() }
    }

    /// Opens the connections that are to be kept.
    pub(crate) async fn open_all(&self) -> Result<(), Broken> {
        for _ in 0..self.kept {
            let connection = self.open().await?;
            self.idle.borrow_mut().push(connection);
        }
        Ok(())
    }

    /// An idle connection, chosen by `draw`, or a new one when all are busy.
    pub(crate) async fn take(&self, draw: u32) -> Result<Connection, Broken> {
        loop {
            let connection = {
                let mut idle = self.idle.borrow_mut();
                let count = idle.len();
                (count > 0).then(|| idle.swap_remove(draw as usize % count))
            };
            match connection {
                // The target may close what is idle.
                Some(connection) if connection.sender.is_closed() => {}
                Some(connection) => return Ok(connection),
                None => return self.open().await,
            }
        }
    }

    async fn open(&self) -> Result<Connection, Broken> {
        let stream = TcpStream::connect(self.address).await.map_err(|_| Broken)?;
        stream.set_nodelay(true).map_err(|_| Broken)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Broken)?;
        tokio::task::spawn_local(driver);
        Ok(Connection { sender, instance: None })
    }

    /// Sends a request, reads its answer to the end and keeps the connection.
    pub(crate) async fn send(
        &self,
        mut connection: Connection,
        request: Request<Empty<Bytes>>,
    ) -> Result<Answer, Broken> {
        let answer = connection.sender.send_request(request).await.map_err(|_| Broken)?;
        let status = answer.status().as_u16();
        let named = answer.headers().get(INSTANCE).and_then(|name| name.to_str().ok()?.parse().ok());
        connection.instance = named.or(connection.instance);
        let instance = connection.instance;
        Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|_| Broken)?;
        // The driver frees the connection a moment after the last byte.
        if connection.sender.ready().await.is_ok() && self.idle.borrow().len() < self.kept {
            self.idle.borrow_mut().push(connection);
        }
        Ok(Answer { status, instance })
    }
}
