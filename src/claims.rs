//! What a token says (RFC 7519 section 4.1, OpenID Connect Core 1.0 section 2).

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::json::{Shape, Value};
use crate::{Malformed, Part, UnixTime};

/// At most 64 claims; each other than these is read, bounded and ignored.
const SHAPE: Shape<64> = Shape { lists: &["aud"] };

/// The claims of a token, borrowed from where it was decoded.
///
/// Only [`Verified::check`](crate::Verified::check) hands them out: whoever has them knows that they are true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
    /// Who issued the token.
    pub iss: Option<Cow<'a, str>>,
    /// Whom it speaks of.
    pub sub: Cow<'a, str>,
    /// Whom it is for.
    pub aud: Audience<'a>,
    /// To which client it was issued.
    pub azp: Option<Cow<'a, str>>,
    /// When it ends.
    pub exp: UnixTime,
    /// When it starts, if later than its issue.
    pub nbf: Option<UnixTime>,
    /// When it was issued.
    pub iat: UnixTime,
    /// What ties an ID token to the login that asked for it.
    pub nonce: Option<Cow<'a, str>>,
}

/// Whom a token is for: one name, or an array of any number of them (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// Written as a string.
    One(Cow<'a, str>),
    /// Written as an array; empty also when there is no such claim.
    Many(Vec<Cow<'a, str>>),
}

impl Audience<'_> {
    /// Whether `name` is, exactly, among those whom the token is for.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }

    /// Whether the token is for more than one.
    pub fn is_several(&self) -> bool {
        matches!(self, Self::Many(many) if many.len() > 1)
    }
}

impl<'a> Claims<'a> {
    /// Reads a decoded payload.
    ///
    /// `sub`, `exp` and `iat` have to be there, as ID tokens (OpenID Connect Core 1.0 section 2) and access tokens
    /// (RFC 9068 section 2.2) both require; that `iss` and `aud` are the right ones is not this function's matter.
    ///
    /// # Errors
    /// The payload is not one strict JSON object, or a claim has the wrong type or is missing.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut iss = None;
        let mut sub = None;
        let mut aud = Audience::Many(Vec::new());
        let mut azp = None;
        let mut exp = None;
        let mut nbf = None;
        let mut iat = None;
        let mut nonce = None;
        SHAPE.read(
            payload,
            |fault| Malformed::Json(Part::Payload, fault),
            |name, value| {
                match name {
                    "iss" => iss = Some(text(value, "iss")?),
                    "sub" => sub = Some(text(value, "sub")?),
                    "aud" => aud = audience(value)?,
                    "azp" => azp = Some(text(value, "azp")?),
                    "exp" => exp = Some(date(&value, "exp")?),
                    "nbf" => nbf = Some(date(&value, "nbf")?),
                    "iat" => iat = Some(date(&value, "iat")?),
                    "nonce" => nonce = Some(text(value, "nonce")?),
                    _ => {}
                }
                Ok(())
            },
        )?;
        Ok(Self {
            iss,
            sub: sub.ok_or(Malformed::MissingClaim("sub"))?,
            aud,
            azp,
            exp: exp.ok_or(Malformed::MissingClaim("exp"))?,
            nbf,
            iat: iat.ok_or(Malformed::MissingClaim("iat"))?,
            nonce,
        })
    }
}

fn text<'a>(value: Value<'a>, claim: &'static str) -> Result<Cow<'a, str>, Malformed> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(Malformed::Claim(claim)),
    }
}

fn audience(value: Value<'_>) -> Result<Audience<'_>, Malformed> {
    match value {
        Value::Text(one) => Ok(Audience::One(one)),
        Value::Texts(many) => Ok(Audience::Many(many)),
        _ => Err(Malformed::Claim("aud")),
    }
}

/// Reads a `NumericDate` (RFC 7519 section 2), cut to whole seconds.
///
/// Below 2^53 each whole number is exact in every JSON implementation (RFC 8259 section 6); a claim beyond
/// that, or before 1970, is a mistake and not a date.
fn date(value: &Value<'_>, claim: &'static str) -> Result<UnixTime, Malformed> {
    const END: f64 = (1_u64 << 53) as f64;
    match *value {
        Value::Number(seconds) if (0.0..END).contains(&seconds) => Ok(UnixTime(seconds as i64)),
        _ => Err(Malformed::Claim(claim)),
    }
}
