//! Who may ask for tokens and change things: whoever is on this machine, unless a web page made them do it, and
//! from elsewhere whoever has the token.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error_reply;
use crate::fault::Reply;

/// Refuses what a local server must not do for everybody.
///
/// A browser sends requests to this machine in the name of any page. So an `Origin` must be the server's own, and on
/// loopback the `Host` must name loopback: a page can point its own name at 127.0.0.1 (DNS rebinding).
#[derive(Debug)]
pub struct Guard {
    loopback: bool,
    /// The token's digest: what is compared has a fixed length.
    token: Option<[u8; 32]>,
}

/// Why there is no such guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The address can be reached from other machines.
    #[error("`{0}` is not a loopback address: a token is needed to guard tokens and keys")]
    TokenNeeded(IpAddr),
    /// An empty token guards nothing.
    #[error("the token is empty")]
    TokenEmpty,
}

impl Guard {
    /// The guard of a server that listens on this address. With a token it is asked for, on loopback too.
    ///
    /// # Errors
    ///
    /// [`GuardError`] if the address needs a token and there is none.
    pub fn new(bound: IpAddr, token: Option<&str>) -> Result<Self, GuardError> {
        let loopback = bound.to_canonical().is_loopback();
        match token {
            Some("") => Err(GuardError::TokenEmpty),
            None if !loopback => Err(GuardError::TokenNeeded(bound)),
            _ => Ok(Self { loopback, token: token.map(sha256) }),
        }
    }

    /// What to answer a request with these headers instead of doing what it asks for; `None` where it may go on.
    pub fn refuse(&self, headers: &HeaderMap) -> Option<Reply> {
        self.check(headers).err().map(Refusal::reply)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = single(headers, HOST).ok_or(Refusal::Host)?;
        if self.loopback && !names_loopback(host) {
            return Err(Refusal::Host);
        }
        if headers.contains_key(ORIGIN) && !is_own_origin(headers, host) {
            return Err(Refusal::Origin);
        }
        match self.token {
            Some(token) if !presents(headers, &token) => Err(Refusal::Token),
            _ => Ok(()),
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Host,
    Origin,
    Token,
}

impl Refusal {
    fn reply(self) -> Reply {
        match self {
            Self::Host => error_reply(StatusCode::FORBIDDEN, "the `Host` header does not name this machine"),
            Self::Origin => error_reply(StatusCode::FORBIDDEN, "the `Origin` is not this server's own"),
            Self::Token => {
                let mut reply = error_reply(StatusCode::UNAUTHORIZED, "this server's token is needed");
                reply.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                reply
            }
        }
    }
}

/// User and password of RFC 7617 section 2: how OAuth clients name themselves (RFC 6749 section 2.3.1).
pub(super) fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = STANDARD.decode(authorization(headers, "basic")?).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.into(), password.into()))
}

fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (named, credentials) = single(headers, AUTHORIZATION)?.split_once(' ')?;
    named.eq_ignore_ascii_case(scheme).then_some(credentials.trim())
}

/// The value of a header that is there exactly once.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn names_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback()))
}

/// Whether the page that asks was served from here. An opaque origin, `null`, is foreign.
fn is_own_origin(headers: &HeaderMap, host: &str) -> bool {
    let origin = single(headers, ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

/// Whether a request carries the token, as a bearer or as the secret of an OAuth client.
fn presents(headers: &HeaderMap, token: &[u8; 32]) -> bool {
    let bearer = authorization(headers, "bearer").map(sha256);
    let secret = basic_credentials(headers).map(|(_, password)| sha256(&password));
    bearer.or(secret).is_some_and(|given| verify_slices_are_equal(&given, token).is_ok())
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn on_loopback(pairs: &[(HeaderName, &str)]) -> Result<(), Refusal> {
        Guard::new(Ipv4Addr::LOCALHOST.into(), None).unwrap().check(&headers(pairs))
    }

    #[test]
    fn on_loopback_the_host_must_be_loopback() {
        for host in
            ["localhost", "LOCALHOST:8400", "127.0.0.1:8400", "127.1.2.3", "[::1]:8400", "[::ffff:127.0.0.1]"]
        {
            assert_eq!(on_loopback(&[(HOST, host)]), Ok(()), "{host}");
        }
        let foreign = [
            "evil.example",
            "evil.example:8400",
            "10.0.0.1",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil@127.0.0.1",
            "0.0.0.0:8400",
            "[::2]",
            "",
            "local host",
        ];
        for host in foreign {
            assert_eq!(on_loopback(&[(HOST, host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(on_loopback(&[]), Err(Refusal::Host));
        assert_eq!(on_loopback(&[(HOST, "localhost"), (HOST, "evil.example")]), Err(Refusal::Host));
    }

    #[test]
    fn an_origin_must_be_the_own_one() {
        let host = (HOST, "localhost:8400");
        assert_eq!(on_loopback(&[host.clone(), (ORIGIN, "http://localhost:8400")]), Ok(()));
        let foreign = [
            "http://evil.example",
            "http://localhost",
            "http://localhost:3000",
            "https://localhost:8400",
            "null",
            "",
            "http://127.0.0.1:8400",
        ];
        for origin in foreign {
            assert_eq!(on_loopback(&[host.clone(), (ORIGIN, origin)]), Err(Refusal::Origin), "{origin}");
        }
    }

    #[test]
    fn elsewhere_a_token_is_needed() {
        let address = Ipv4Addr::UNSPECIFIED.into();
        assert_eq!(Guard::new(address, None).err(), Some(GuardError::TokenNeeded(address)));
        assert_eq!(Guard::new(address, Some("")).err(), Some(GuardError::TokenEmpty));
        let guard = Guard::new(address, Some("s3cret")).unwrap();
        let check =
            |credentials: &str| guard.check(&headers(&[(HOST, "idp.test"), (AUTHORIZATION, credentials)]));
        let basic = |pair| format!("Basic {}", STANDARD.encode(pair));
        let (own, swapped, bare) = (basic("app:s3cret"), basic("s3cret:app"), basic("s3cret"));
        for good in ["Bearer s3cret", "bearer s3cret", &own] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["Bearer s3cre", "Bearer s3cret2", "s3cret", "Bearer", "", &swapped, &bare] {
            assert_eq!(check(bad), Err(Refusal::Token), "{bad}");
        }
        assert_eq!(guard.check(&headers(&[(HOST, "idp.test")])), Err(Refusal::Token));
        let page =
            headers(&[(HOST, "idp.test"), (ORIGIN, "http://evil.example"), (AUTHORIZATION, "Bearer s3cret")]);
        assert_eq!(guard.check(&page), Err(Refusal::Origin));
    }

    #[test]
    fn every_loopback_address_is_one() {
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(Guard::new(address.parse().unwrap(), None).is_ok(), "{address}");
        }
        assert!(Guard::new(Ipv6Addr::UNSPECIFIED.into(), None).is_err());
    }
}
