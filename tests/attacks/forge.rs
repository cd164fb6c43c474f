//! Makes tokens, good and bad, and asks the validator about them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::{
    Algorithm, Expectations, KeyVersion, Rejection, Scratch, Token, TokenKind, UnixTime, Verify,
};

pub(crate) const NOW: i64 = 1_700_000_000;
pub(crate) const ISSUER: &str = "https://idp.test";
pub(crate) const AUDIENCE: &str = "keyquake";
pub(crate) const NONCE: &str = "n-0S6_WzA2Mj";
pub(crate) const KID: &str = "k1";

/// One token, and what has to become of it.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) kind: TokenKind,
    pub(crate) token: Vec<u8>,
    pub(crate) expected: Result<(), Rejection>,
}

impl Case {
    /// A token that has to pass: the twin that shows that its neighbours are not refused for something else.
    pub(crate) fn good(what: &'static str, token: Vec<u8>) -> Self {
        Self { id: "good", what, kind: TokenKind::IdToken, token, expected: Ok(()) }
    }

    /// A token that has to be refused for exactly this cause.
    pub(crate) fn bad(
        id: &'static str,
        what: &'static str,
        token: Vec<u8>,
        expected: impl Into<Rejection>,
    ) -> Self {
        Self { id, what, kind: TokenKind::IdToken, token, expected: Err(expected.into()) }
    }

    /// The same case at an endpoint for another kind of token.
    pub(crate) fn at(self, kind: TokenKind) -> Self {
        Self { kind, ..self }
    }
}

/// Judges each case with [`Seal`], and wants both tokens that pass and tokens that do not.
pub(crate) fn check_all(cases: &[Case]) {
    assert!(cases.iter().any(|case| case.expected.is_ok()), "no case that passes");
    assert!(cases.iter().any(|case| case.expected.is_err()), "no case that fails");
    let mut wrong = Vec::new();
    for case in cases {
        let verdict = judge(&case.token, case.kind, &[(KID, &Seal)]);
        if verdict != case.expected {
            wrong.push(format!("{} {}: {verdict:?}, not {:?}", case.id, case.what, case.expected));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a service decides that holds these keys, expects [`NONCE`] and lives at [`NOW`].
pub(crate) fn judge<K: Verify>(token: &[u8], kind: TokenKind, keys: &[(&str, &K)]) -> Result<(), Rejection> {
    let expected = Expectations::new(ISSUER, AUDIENCE, kind);
    let mut scratch = Scratch::default();
    let token = Token::parse(token, &expected, &mut scratch)?;
    let kid = token.kid().ok_or(Rejection::KidMissing)?;
    let mut candidates = keys.iter().filter(|(name, _)| *name == kid).peekable();
    candidates.peek().ok_or(Rejection::KidUnknown)?;
    let verified = token.verify(candidates.map(|(_, key)| (KeyVersion(0), *key)))?;
    verified.check(Some(NONCE), UnixTime(NOW)).map(|_| ())
}

/// A key for cases whose subject is not the mathematics of signatures: a keyed sum that changes with every bit.
pub(crate) struct Seal;

impl Seal {
    pub(crate) fn sign(message: &[u8]) -> Vec<u8> {
        let sum = message.iter().fold(0x5ea1_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
        });
        sum.to_be_bytes().to_vec()
    }
}

impl Verify for Seal {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Rs256
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Self::sign(message) == signature
    }
}

/// A token of this header and this payload, signed.
pub(crate) fn signed(
    header: impl AsRef<[u8]>,
    payload: impl AsRef<[u8]>,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let mut token = format!("{}.{}", base64(header), base64(payload));
    let signature = sign(token.as_bytes());
    token.push('.');
    token.push_str(&base64(signature));
    token.into_bytes()
}

/// A sealed token of this header and this payload.
pub(crate) fn sealed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Vec<u8> {
    signed(header, payload, Seal::sign)
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A good header with these members changed; an empty value takes one away.
pub(crate) fn header(changes: &[(&str, &str)]) -> String {
    object(&[("alg", r#""RS256""#), ("typ", r#""JWT""#), ("kid", r#""k1""#)], changes)
}

/// The good claims of an ID token with these changed; an empty value takes one away.
pub(crate) fn claims(changes: &[(&str, &str)]) -> String {
    let good = [
        ("iss", r#""https://idp.test""#),
        ("sub", r#""alice""#),
        ("aud", r#""keyquake""#),
        ("exp", "1700003600"),
        ("iat", "1700000000"),
        ("nonce", r#""n-0S6_WzA2Mj""#),
    ];
    object(&good, changes)
}

pub(crate) fn object(good: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let mut members = good.to_vec();
    for change in changes {
        match members.iter_mut().find(|(name, _)| *name == change.0) {
            Some(member) => *member = *change,
            None => members.push(*change),
        }
    }
    let written: Vec<_> = members
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!(r#""{name}":{value}"#))
        .collect();
    format!("{{{}}}", written.join(","))
}
