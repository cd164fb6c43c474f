//! Keep-alive connections to one replica, each with one request at a time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::answer;
pub(crate) use super::answer::Broken;
use super::door::Door;

/// A connection that is ready for a request. It leads to one instance for as long as it lives.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What the replica is called there.
    host: Arc<str>,
    buffer: Vec<u8>,
    /// Known once it has answered.
    instance: Option<u32>,
}

/// What a request says of where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whereto<'c> {
    pub(crate) host: &'c str,
    /// What comes before its path.
    pub(crate) base: &'c str,
}

/// How a request ended, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) instance: Option<u32>,
}

impl Connection {
    pub(crate) fn instance(&self) -> Option<u32> {
        self.instance
    }

    /// Whether the target has closed it, or said something unasked.
    fn is_over(&self) -> bool {
        !matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The idle connections to one replica.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) door: Arc<Door>,
    kept: usize,
    idle: RefCell<Vec<Connection>>,
}

impl Connections {
    /// No more than `kept` connections are kept once they are idle.
    pub(crate) fn new(door: Arc<Door>, kept: u32) -> Self {
        Self { door, kept: kept as usize, idle: RefCell::default() }
    }

    /// Opens the connections that are to be kept.
    pub(crate) async fn open_all(&self) -> Result<(), Broken> {
        for _ in 0..self.kept {
            let connection = self.open().await?;
            self.idle.borrow_mut().push(connection);
        }
        Ok(())
    }

    /// Closes idle connections whenever the door is shut: some services wait for that before they end.
    pub(crate) async fn close_with_door(&self) -> Infallible {
        loop {
            self.door.emptied().await;
            self.idle.borrow_mut().clear();
        }
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
                Some(connection) if connection.is_over() => {}
                Some(connection) => return Ok(connection),
                None => return Ok(self.open().await?),
            }
        }
    }

    async fn open(&self) -> io::Result<Connection> {
        let (stream, host) = self.door.connect().await?;
        Ok(Connection { stream, host, buffer: Vec::new(), instance: None })
    }

    /// Sends a request, which `write` puts together, reads its answer to the end and keeps the connection.
    pub(crate) async fn exchange(
        &self,
        mut connection: Connection,
        write: impl FnOnce(&mut Vec<u8>, Whereto<'_>),
    ) -> Result<Answered, Broken> {
        let Connection { stream, host, buffer, instance } = &mut connection;
        write(buffer, Whereto { host, base: self.door.base() });
        stream.write_all(buffer).await?;
        buffer.clear();
        let answer = answer::read(stream, buffer).await?;
        *instance = answer.instance.or(*instance);
        let answered = Answered { status: answer.status, instance: *instance };
        if answer.keeps && !self.door.is_shut() && self.idle.borrow().len() < self.kept {
            self.idle.borrow_mut().push(connection);
        }
        Ok(answered)
    }
}
