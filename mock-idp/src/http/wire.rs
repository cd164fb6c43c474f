//! The connections below HTTP, so that a fault can break one, and what carries answers out over them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::{Owners, Provider};
use crate::fault::{Answer, Ending, Reply};

/// The connection that a request came over. One that was not accepted by [`Lines`] can be closed and not reset.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    torn: Arc<AtomicBool>,
    /// The other end, and ours.
    ends: Option<[SocketAddr; 2]>,
    /// Who has its other end, once somebody has asked.
    owner: Arc<OnceCell<Option<u32>>>,
}

/// There is no answer: the connection is reset in place of one.
pub(super) struct Unanswered;

impl Wire {
    fn of(stream: &TcpStream, peer: SocketAddr) -> Self {
        Self { ends: stream.local_addr().ok().map(|here| [peer, here]), ..Self::default() }
    }

    /// The instance that has the other end, if the provider was told how to find out and it is one.
    pub(super) async fn owner(&self, provider: &Arc<Provider>) -> Option<u32> {
        let ends = self.ends.filter(|_| provider.owners.get().is_some())?;
        let provider = Arc::clone(provider);
        // Whoever looks may take milliseconds.
        let look = || spawn_blocking(move || provider.owners.get().and_then(|Owners(owner)| owner(ends)));
        *self.owner.get_or_init(async || look().await.ok().flatten()).await
    }

    /// Waits as an answer asks, and makes the response of it.
    ///
    /// # Errors
    ///
    /// [`Unanswered`] if it is none, or if the provider shuts down before it is due.
    pub(super) async fn carry_out(
        &self,
        provider: &Provider,
        answer: Answer,
    ) -> Result<Response, Unanswered> {
        if !provider.pause(answer.after).await {
            return Err(self.tear());
        }
        match answer.ending {
            Ending::Reply(reply) => Ok(reply.into_response()),
            Ending::Cut { reply, at } => Ok(cut(&reply, at)),
            Ending::Hang(fault) => {
                provider.outlast(fault).await;
                Err(self.tear())
            }
            Ending::Reset => Err(self.tear()),
        }
    }

    /// From now on nothing can be written, and closing means resetting.
    fn tear(&self) -> Unanswered {
        self.torn.store(true, Ordering::Relaxed);
        Unanswered
    }
}

impl<S: Sync> FromRequestParts<S> for Wire {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get::<ConnectInfo<Self>>()
            .map(|ConnectInfo(wire)| wire.clone())
            .unwrap_or_default())
    }
}

impl Connected<IncomingStream<'_, Lines>> for Wire {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().wire()
    }
}

impl IntoResponse for Unanswered {
    fn into_response(self) -> Response {
        Response::new(Body::new(Broken { whole_part: Bytes::new(), flushed: true }))
    }
}

fn cut(reply: &Reply, at: usize) -> Response {
    let body = Broken { whole_part: reply.body.slice(..at), flushed: false };
    let length = [(CONTENT_LENGTH, reply.body.len().to_string())];
    (reply.status, length, reply.headers.clone(), Body::new(body)).into_response()
}

/// A body that breaks off, which makes the server close the connection.
#[derive(Debug)]
struct Broken {
    /// What comes before.
    whole_part: Bytes,
    /// Whether there was an occasion to send it.
    flushed: bool,
}

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.whole_part.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.whole_part)))));
        }
        if !self.flushed {
            // What is written is sent only when the body has no more for now.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
    }
}

/// A listener whose connections can be reset.
#[derive(Debug)]
pub(super) struct Lines(pub(super) TcpListener);

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Answers are small: waiting to fill a packet would only delay them.
        drop(stream.set_nodelay(true));
        let wire = Wire::of(&stream, address);
        (Line { stream, wire }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// One connection. Once it is torn it takes no more, and goes down with a reset (RFC 9293 section 3.5.3).
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    wire: Wire,
}

impl Line {
    /// What can tear it.
    pub(super) fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// The first byte that the other side sends, which stays to be read; `None` if it closes the connection.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.stream.peek(&mut byte).await? > 0).then_some(byte[0]))
    }

    /// The way to write, as long as there is one.
    fn writer(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let line = self.get_mut();
        if line.wire.torn.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Pin::new(&mut line.stream))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.wire.torn.load(Ordering::Relaxed) {
            // Without it the connection ends in order, which is a way of not answering too.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_shutdown(context)
    }
}
