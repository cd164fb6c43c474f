//! What a request is answered with, and how.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use keyquake_core::Span;

use super::FaultId;

/// An answer of the provider, before anyone has sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The headers, without those that belong to the connection.
    pub headers: HeaderMap,
    /// The body, shared with the provider's state.
    pub body: Bytes,
}

impl Reply {
    /// A reply of this media type.
    pub fn new(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let media_type = HeaderValue::from_static(media_type);
        Self {
            status,
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]),
            body: body.into(),
        }
    }

    /// A reply that consists of its status.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// What is done with a request, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How long it waits before anything is done.
    pub after: Span,
    /// What is done then.
    pub ending: Ending,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is answered.
    Reply(Reply),
    /// It is answered up to this byte of the body; then the connection closes.
    Cut {
        /// The answer, and the length that it announces.
        reply: Reply,
        /// How many bytes of the body are sent; fewer than it has.
        at: usize,
    },
    /// It is held without an answer until this fault is over, and then the connection is reset.
    Hang(FaultId),
    /// The connection is reset without an answer.
    Reset,
}

impl Answer {
    /// The status that is sent, if one is.
    pub fn status(&self) -> Option<u16> {
        match &self.ending {
            Ending::Reply(reply) | Ending::Cut { reply, .. } => Some(reply.status.as_u16()),
            Ending::Hang(_) | Ending::Reset => None,
        }
    }
}
