//! Why a token is refused: one cause each.

use core::fmt;

use crate::JsonFault;

/// Why a token was refused: one cause each. It is a result, as good as any other, and not a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It cannot be read without doubt.
    Malformed(Malformed),
    /// It claims an algorithm that is not accepted.
    AlgorithmDenied,
    /// It names no key, and the policy wants one.
    KidMissing,
    /// It names a key that the issuer's key set does not hold.
    KidUnknown,
    /// It names an unknown key, and the policy forbids to look again so soon.
    RefetchLimited,
    /// The key set could not be fetched.
    JwksUnavailable,
    /// Too many wait for the key set already.
    Overloaded,
    /// None of the keys made the signature.
    BadSignature,
    /// It is another issuer's.
    Issuer,
    /// It is for someone else.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not come, or it claims to have been issued in the future.
    NotYetValid,
    /// It belongs to another login.
    Nonce,
}

/// What makes a token malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The token is longer than [`Token::MAX_BYTES`](crate::Token::MAX_BYTES).
    #[error("longer than 16 KiB")]
    TooLong,
    /// There are not exactly three segments, or one is empty (RFC 7515 section 7.1).
    #[error("not three segments")]
    Segments,
    /// A segment is not base64url as RFC 7515 section 2 has it: padding, blanks, another alphabet or spare bits.
    #[error("the {0} is not base64url")]
    Base64(Part),
    /// The header or the payload is not one strict JSON object.
    #[error("the {0}: {1}")]
    Json(Part, JsonFault),
    /// `alg` is missing or not a string (RFC 7515 section 4.1.1).
    #[error("`alg` is missing or not a string")]
    Algorithm,
    /// `kid` is not a string (RFC 7515 section 4.1.4), or empty, or longer than 512 bytes.
    #[error("`kid` is not a string of 1 to 512 bytes")]
    Kid,
    /// `typ` is not a string, or not one that this endpoint takes (RFC 8725 section 3.11).
    #[error("`typ` is not accepted here")]
    Type,
    /// `crit` asks for extensions, and this validator knows none (RFC 7515 section 4.1.11).
    #[error("`crit` asks for extensions that are not understood")]
    Critical,
    /// `b64` speaks of unencoded payloads (RFC 7797), which a JWT never has (its section 7).
    #[error("`b64` is not understood")]
    UnencodedPayload,
    /// This claim has the wrong type, or is a number that cannot be a date.
    #[error("`{0}` has the wrong type")]
    Claim(&'static str),
    /// This claim has to be there.
    #[error("`{0}` is missing")]
    MissingClaim(&'static str),
}

/// The parts of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first segment.
    Header,
    /// The second segment.
    Payload,
    /// The third segment.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

impl Rejection {
    /// The name in records and headers; it does not change.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::AlgorithmDenied => "algorithm_denied",
            Self::KidMissing => "kid_missing",
            Self::KidUnknown => "kid_unknown",
            Self::RefetchLimited => "refetch_limited",
            Self::JwksUnavailable => "jwks_unavailable",
            Self::Overloaded => "overloaded",
            Self::BadSignature => "bad_signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Nonce => "nonce",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}
