//! Reads a token: a JWS in compact serialization (RFC 7515 section 7.1) whose payload is a set of claims.
//!
//! Strictness is the point. Where two parsers could understand one token differently, it is refused, because
//! one of the two may be another service's.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use base64_simd::{AsOut, URL_SAFE_NO_PAD};

use crate::claims::Claims;
use crate::json::{Shape, Value};
use crate::{Algorithm, Class, Expectations, Kid, Malformed, Part, Rejection};

/// At most 32 header parameters. None of ours is a list: `crit` is refused whatever it holds.
const SHAPE: Shape<32> = Shape { lists: &[] };

/// The longest name of a key, in bytes.
pub(crate) const MAX_KID_BYTES: usize = 512;

/// Room to decode tokens into; kept from one token to the next, it makes reading them free of allocations.
#[derive(Clone, Debug, Default)]
pub struct Scratch(Vec<u8>);

/// A token that is well formed. Nothing it says is to be believed yet.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    pub(crate) expected: &'a Expectations,
    pub(crate) signing_input: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) claims: Claims<'a>,
    kid: Option<Cow<'a, str>>,
    algorithm: Algorithm,
}

impl<'a> Token<'a> {
    /// The longest token that is looked at, in bytes: twice what servers usually let through in one header line.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Reads a token that `expected` describes: the first of the eight checks.
    ///
    /// # Errors
    /// [`Rejection::Malformed`], or [`Rejection::AlgorithmDenied`] when `alg` is not among the expected ones; both
    /// are known before any key is asked for.
    pub fn parse(
        token: &'a [u8],
        expected: &'a Expectations,
        scratch: &'a mut Scratch,
    ) -> Result<Self, Rejection> {
        let [header, payload, signature] = split(token)?;
        let mut free = scratch.reserve([header, payload, signature]);
        let decoded = decode(header, &mut free, Part::Header)?;
        let Header { algorithm, kid } = Header::read(decoded, expected)?;
        let claims = Claims::read(decode(payload, &mut free, Part::Payload)?)?;
        let signature = decode(signature, &mut free, Part::Signature)?;
        let signing_input = &token[..header.len() + 1 + payload.len()];
        Ok(Self { expected, signing_input, signature, claims, kid, algorithm })
    }

    /// What decides which keys may verify the token.
    pub fn class(&self) -> Class {
        Class { kid: self.kid.as_deref().map(Kid::from), algorithm: self.algorithm }
    }

    /// The name of the key that the token says signed it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm that the token claims; it is one of the expected ones.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Scratch {
    /// Room for these segments when decoded.
    fn reserve(&mut self, segments: [&[u8]; 3]) -> &mut [u8] {
        let needed = segments.map(room).iter().sum();
        if self.0.len() < needed {
            self.0.resize(needed, 0);
        }
        &mut self.0
    }
}

/// Cuts a token at its dots. A fourth segment is not looked into, so that thousands of dots cost nothing.
fn split(token: &[u8]) -> Result<[&[u8]; 3], Malformed> {
    if token.len() > Token::MAX_BYTES {
        return Err(Malformed::TooLong);
    }
    let mut dots = memchr::memchr_iter(b'.', token);
    let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
        return Err(Malformed::Segments);
    };
    let segments = [&token[..first], &token[first + 1..second], &token[second + 1..]];
    if segments.contains(&[].as_slice()) {
        return Err(Malformed::Segments);
    }
    Ok(segments)
}

/// Decodes a segment into the start of `free`, which is shortened by what that took.
fn decode<'a>(segment: &[u8], free: &mut &'a mut [u8], part: Part) -> Result<&'a [u8], Malformed> {
    let (decoded, rest) = core::mem::take(free).split_at_mut(room(segment));
    *free = rest;
    let decoded = URL_SAFE_NO_PAD.decode(segment, decoded.as_out()).map_err(|_| Malformed::Base64(part))?;
    Ok(decoded)
}

/// At most so many bytes a segment has when decoded.
fn room(segment: &[u8]) -> usize {
    URL_SAFE_NO_PAD.estimated_decoded_length(segment.len())
}

/// What a header says, as far as it matters. `jwk`, `jku`, `x5u` and `x5c` do not: a token cannot bring the key
/// that proves it (RFC 8725 section 3.10).
struct Header<'a> {
    algorithm: Algorithm,
    kid: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    fn read(header: &'a [u8], expected: &Expectations) -> Result<Self, Rejection> {
        let mut alg = None;
        let mut kid = None;
        let mut typ = None;
        SHAPE.read(
            header,
            |fault| Malformed::Json(Part::Header, fault),
            |name, value| {
                match (name, value) {
                    ("alg", Value::Text(name)) => alg = Some(name),
                    ("alg", _) => return Err(Malformed::Algorithm),
                    ("kid", Value::Text(name)) if (1..=MAX_KID_BYTES).contains(&name.len()) => {
                        kid = Some(name)
                    }
                    ("kid", _) => return Err(Malformed::Kid),
                    ("typ", Value::Text(name)) => typ = Some(name),
                    ("typ", _) => return Err(Malformed::Type),
                    ("crit", _) => return Err(Malformed::Critical),
                    ("b64", _) => return Err(Malformed::UnencodedPayload),
                    _ => {}
                }
                Ok(())
            },
        )?;
        let alg = alg.ok_or(Malformed::Algorithm)?;
        let algorithm = Algorithm::from_name(&alg)
            .filter(|algorithm| expected.algorithms.contains(algorithm))
            .ok_or(Rejection::AlgorithmDenied)?;
        if !expected.token.accepts(typ.as_deref()) {
            return Err(Malformed::Type.into());
        }
        Ok(Self { algorithm, kid })
    }
}
