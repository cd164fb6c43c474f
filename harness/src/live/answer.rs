//! Answers as they come over a connection: as much of HTTP/1.1 (RFC 9112) as a client needs that only wants the status.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head of an answer, and the most lines in it.
const MAX_HEAD: usize = 64 * 1_024;
const MAX_LINES: usize = 64;
/// The longest body that is read, in bytes.
const MAX_BODY: u64 = 1 << 20;
/// How much is read at a time: most answers fit.
const READ_AT_ONCE: usize = 2 * 1_024;

/// The header that names the instance.
const INSTANCE: &str = "x-keyquake-replica";

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) instance: Option<u32>,
    /// Whether the connection can take another request.
    pub(super) keeps: bool,
}

/// The target broke the connection, refused it, or did not speak HTTP.
#[derive(Debug)]
pub(crate) struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<httparse::Error> for Broken {
    fn from(_: httparse::Error) -> Self {
        Self
    }
}

impl From<httparse::InvalidChunkSize> for Broken {
    fn from(_: httparse::InvalidChunkSize) -> Self {
        Self
    }
}

/// Where the body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

struct Head {
    answer: Answer,
    body: Body,
    length: usize,
}

/// Reads one answer to its end. `buffer` is empty before, and after it if the connection keeps.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Answer, Broken> {
    let head = loop {
        if let Some(head) = parse_head(buffer)? {
            buffer.drain(..head.length);
            // Whatever is said in between is not the answer (RFC 9110 section 15.2).
            if head.answer.status >= 200 {
                break head;
            }
        } else if buffer.len() > MAX_HEAD || more(stream, buffer).await? == 0 {
            return Err(Broken);
        }
    };
    match head.body {
        Body::Length(length) => skip(stream, buffer, length).await?,
        Body::Chunked => skip_chunks(stream, buffer).await?,
        Body::UntilClose => skip_all(stream, buffer).await?,
    }
    // What comes unasked belongs to nobody's request.
    let keeps = head.answer.keeps && buffer.is_empty();
    Ok(Answer { keeps, ..head.answer })
}

/// The head of an answer, once it is there as a whole.
fn parse_head(buffer: &[u8]) -> Result<Option<Head>, Broken> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut response = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(length) = response.parse(buffer)? else { return Ok(None) };
    let status = response.code.ok_or(Broken)?;
    let (mut keeps, mut instance) = (response.version == Some(1), None);
    let mut body = Body::UntilClose;
    for httparse::Header { name, value } in response.headers.iter() {
        if name.eq_ignore_ascii_case("content-length") && body == Body::UntilClose {
            body = Body::Length(str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Broken)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            keeps &= !value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(INSTANCE) {
            instance = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        }
    }
    // These have no body, whatever else they say.
    if [204, 304].contains(&status) || status < 200 {
        body = Body::Length(0);
    }
    let keeps = keeps && body != Body::UntilClose;
    Ok(Some(Head { answer: Answer { status, instance, keeps }, body, length }))
}

/// Skips so many bytes.
async fn skip(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    length: u64,
) -> Result<(), Broken> {
    if length > MAX_BODY {
        return Err(Broken);
    }
    let mut left = length as usize;
    loop {
        let there = left.min(buffer.len());
        buffer.drain(..there);
        left -= there;
        if left == 0 {
            return Ok(());
        }
        if more(stream, buffer).await? == 0 {
            return Err(Broken);
        }
    }
}

/// Skips a body in chunks and what trails it (RFC 9112 section 7.1).
async fn skip_chunks(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(), Broken> {
    let mut total = 0;
    loop {
        let size = loop {
            match httparse::parse_chunk_size(buffer)? {
                httparse::Status::Complete((line, size)) => {
                    buffer.drain(..line);
                    break size;
                }
                httparse::Status::Partial if buffer.len() > MAX_HEAD => return Err(Broken),
                httparse::Status::Partial if more(stream, buffer).await? == 0 => return Err(Broken),
                httparse::Status::Partial => {}
            }
        };
        if size == 0 {
            return skip_trailers(stream, buffer).await;
        }
        // Chunks claim any size.
        total = size.saturating_add(total);
        if total > MAX_BODY {
            return Err(Broken);
        }
        // Each chunk ends with a line break of its own.
        skip(stream, buffer, size + 2).await?;
    }
}

async fn skip_trailers(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(), Broken> {
    loop {
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        if let httparse::Status::Complete((length, _)) = httparse::parse_headers(buffer, &mut lines)? {
            buffer.drain(..length);
            return Ok(());
        }
        if buffer.len() > MAX_HEAD || more(stream, buffer).await? == 0 {
            return Err(Broken);
        }
    }
}

async fn skip_all(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(), Broken> {
    let mut total = 0;
    loop {
        total += buffer.len() as u64;
        buffer.clear();
        if total > MAX_BODY {
            return Err(Broken);
        }
        if more(stream, buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Reads what there is, and returns how much: nothing at the end.
async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<usize, Broken> {
    buffer.reserve(READ_AT_ONCE);
    Ok(stream.read_buf(buffer).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads answers that come in pieces of this size until the bytes are used up or one of them is broken.
    fn read_in_pieces(bytes: &[u8], size: usize) -> Vec<Option<Answer>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stream = in_pieces(bytes, size);
        let mut buffer = Vec::new();
        let mut answers = Vec::new();
        runtime.block_on(async {
            loop {
                match read(&mut stream, &mut buffer).await {
                    Ok(answer) => answers.push(Some(answer)),
                    Err(Broken) => {
                        answers.push(None);
                        return;
                    }
                }
                if !answers.last().unwrap().is_some_and(|answer| answer.keeps) {
                    return;
                }
            }
        });
        answers
    }

    /// A stream that gives no more than `size` bytes at a time.
    fn in_pieces(bytes: &[u8], size: usize) -> impl AsyncRead + Unpin {
        struct Pieces(std::collections::VecDeque<Vec<u8>>);
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                if let Some(piece) = self.0.pop_front() {
                    buffer.put_slice(&piece);
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        Pieces(bytes.chunks(size).map(<[u8]>::to_vec).collect())
    }

    fn one(bytes: &str) -> Option<Answer> {
        read_in_pieces(bytes.as_bytes(), 1_000)[0]
    }

    fn answer(status: u16, keeps: bool) -> Option<Answer> {
        Some(Answer { status, instance: None, keeps })
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", answer(200, true)),
            ("HTTP/1.1 401 \r\nContent-Length: 0\r\n\r\n", answer(401, true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", answer(204, true)),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", answer(304, true)),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", answer(200, false)),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", answer(200, false)),
            ("HTTP/1.1 503 X\r\nconnection: Close\r\ncontent-length: 1\r\n\r\na", answer(503, false)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", answer(200, true)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
                answer(200, true),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\na: b\r\n\r\n",
                answer(200, true),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", answer(200, false)),
            ("HTTP/1.1 799 X\r\ncontent-length: 0\r\n\r\n", answer(799, true)),
        ] {
            assert_eq!(one(bytes), expected, "{bytes:?}");
        }
        let named = one("HTTP/1.1 200 OK\r\nX-Keyquake-Replica: 7\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert_eq!(named.instance, Some(7));
    }

    #[test]
    fn what_is_no_answer_is_broken() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(MAX_HEAD + 1));
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_BODY + 1);
        let huge = format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(MAX_BODY as usize + 1));
        let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for bytes in [
            "",
            "HTTP/1.1 200",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: three\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc",
            &format!("{chunk}5\r\nab"),
            &format!("{chunk}zz\r\nab"),
            &format!("{chunk}FFFFFFFFFFFFFFFF\r\n"),
            &format!("{chunk}1\r\na\r\nFFFFFFFFFFFFFFFF\r\n"),
            &endless,
            &long,
            &huge,
        ] {
            assert_eq!(one(bytes), None, "{}", &bytes[..bytes.len().min(60)]);
        }
    }

    proptest! {
        /// How the bytes of an answer are cut into pieces does not matter, whole or broken off.
        #[test]
        fn pieces_do_not_matter(kind in 0..3_usize, size in 1..120_usize, left in 0..120_usize) {
            let answers = [
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-keyquake-replica: 7\r\n\r\nabc",
                "HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
                "HTTP/1.1 503 Gone\r\n\r\nuntil the end",
            ];
            let whole = answers[kind].as_bytes();
            let bytes = &whole[..left.min(whole.len())];
            let in_pieces = read_in_pieces(bytes, size);
            prop_assert_eq!(&in_pieces, &read_in_pieces(bytes, 1));
            prop_assert!(in_pieces[0].is_some() || bytes.len() < whole.len());
        }

        /// Whatever comes, it ends without a panic.
        #[test]
        fn noise_ends(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1..50_usize) {
            let mut noisy = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            noisy.extend(&bytes);
            read_in_pieces(&noisy, size);
            read_in_pieces(&bytes, size);
        }
    }
}
