//! Workers behind one port, each with a cache of its own: one connection passes while another fails.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Connections that wait for their worker.
const BACKLOG: usize = 1_024;

/// Serves connections by these workers in turn: the first by the first, and so on.
pub(crate) fn serve(listener: TcpListener, workers: Vec<Router>) {
    let address = listener.local_addr();
    let mut senders = Vec::new();
    for app in workers {
        let (sender, connections) = mpsc::channel(BACKLOG);
        senders.push(sender);
        let turn = Turn { connections, address: address.as_ref().copied().map_err(io::Error::kind) };
        tokio::spawn(async move { axum::serve(turn, app).await });
    }
    tokio::spawn(hand_out(listener, senders));
}

async fn hand_out(mut listener: TcpListener, workers: Vec<mpsc::Sender<(TcpStream, SocketAddr)>>) {
    for worker in workers.iter().cycle() {
        // Waits out what is transient, such as too many open files.
        let (stream, peer) = Listener::accept(&mut listener).await;
        // Answers are small: waiting to fill a packet would only delay them.
        drop(stream.set_nodelay(true));
        if worker.send((stream, peer)).await.is_err() {
            return;
        }
    }
}

/// The connections of one worker.
struct Turn {
    connections: mpsc::Receiver<(TcpStream, SocketAddr)>,
    address: Result<SocketAddr, io::ErrorKind>,
}

impl Listener for Turn {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.map_err(io::Error::from)
    }
}
