//! How long a response is fresh, by its headers.

use std::time::{Duration, SystemTime};

use axum::http::header::{AGE, AsHeaderName, CACHE_CONTROL, DATE, EXPIRES};
use axum::http::{HeaderMap, HeaderValue};
use keyquake_core::{Freshness, Span};

/// Reads the headers that speak of freshness (RFC 9111 section 4.2).
///
/// What cannot be understood counts as stale, as section 4.2.1 advises; an `Age` that cannot is ignored (section 5.1).
pub(crate) fn freshness(headers: &HeaderMap) -> Freshness {
    let mut said = Freshness { age: age(headers), ..Freshness::UNSAID };
    for (name, value) in directives(headers) {
        if name.eq_ignore_ascii_case("no-cache") || name.eq_ignore_ascii_case("no-store") {
            said.no_cache = true;
        } else if name.eq_ignore_ascii_case("max-age") && said.max_age.is_none() {
            said.max_age = Some(delta_seconds(value).unwrap_or(Span::ZERO));
        }
    }
    // `max-age` overrides `Expires` (section 5.3).
    said.max_age = said.max_age.or_else(|| expires(headers));
    said
}

/// What a key set says that comes with this `Cache-Control` header and no other that matters.
pub(crate) fn freshness_of(cache_control: Option<&str>) -> Freshness {
    let header = cache_control.and_then(|value| HeaderValue::from_str(value).ok());
    freshness(&header.map(|value| (CACHE_CONTROL, value)).into_iter().collect())
}

/// The directives of all `Cache-Control` headers with their arguments, quotes removed (section 5.2).
fn directives(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|directive| {
        let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
        (name.trim(), argument.trim().trim_matches('"'))
    })
}

/// Of several, the first counts.
fn age(headers: &HeaderMap) -> Span {
    text(headers, AGE).and_then(delta_seconds).unwrap_or(Span::ZERO)
}

/// `Expires` less `Date`. A time that is no date, such as `0`, has passed (section 5.3); without a `Date` it could
/// only be held against a clock that is not the sender's, so nothing is said.
fn expires(headers: &HeaderMap) -> Option<Span> {
    let Some(expires) = date(text(headers, EXPIRES)?) else { return Some(Span::ZERO) };
    let lifetime = expires.duration_since(text(headers, DATE).and_then(date)?).unwrap_or(Duration::ZERO);
    Some(Span::from_secs(lifetime.as_secs()))
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// Seconds as section 1.2.2 has them: digits, and no bound, so that too many of them are just a long time.
fn delta_seconds(text: &str) -> Option<Span> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Span::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const A_MINUTE_LATER: &str = "Sun, 06 Nov 1994 12:01:00 GMT";

    fn read(lines: &[(&'static str, &str)]) -> Freshness {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        freshness(&lines.iter().map(header).collect())
    }

    #[test]
    fn headers_say_how_long() {
        let max_age = |lines: &[_]| read(lines).max_age.map(Span::as_secs);
        for (expected, lines) in [
            (None, [].as_slice()),
            (Some(60), &[("cache-control", "max-age=60")]),
            (Some(60), &[("cache-control", "public, Max-Age=\"60\" , must-revalidate")]),
            (Some(60), &[("cache-control", "public"), ("cache-control", "max-age=60")]),
            (Some(60), &[("cache-control", "max-age=60, max-age=70")]),
            (Some(60), &[("cache-control", "max-age=60"), ("expires", NOON), ("date", NOON)]),
            (Some(u64::from(u32::MAX)), &[("cache-control", "max-age=99999999999999999999999")]),
            (Some(0), &[("cache-control", "max-age=soon")]),
            (Some(0), &[("cache-control", "max-age=-1")]),
            (Some(0), &[("cache-control", "max-age")]),
            (None, &[("cache-control", "s-maxage=60")]),
            (None, &[("cache-control", "max-age=60\u{e9}")]),
            (Some(60), &[("expires", A_MINUTE_LATER), ("date", NOON)]),
            (Some(0), &[("expires", NOON), ("date", A_MINUTE_LATER)]),
            (Some(0), &[("expires", "0"), ("date", NOON)]),
            (None, &[("expires", A_MINUTE_LATER)]),
            (None, &[("expires", A_MINUTE_LATER), ("date", "noon")]),
        ] {
            assert_eq!(max_age(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn headers_forbid_to_keep() {
        for (expected, directives) in [
            (true, "no-cache"),
            (true, "max-age=60, NO-STORE"),
            (true, "no-cache=\"set-cookie\""),
            (false, "no-transform"),
            (false, ""),
        ] {
            assert_eq!(read(&[("cache-control", directives)]).no_cache, expected, "{directives}");
        }
    }

    #[test]
    fn headers_say_how_old() {
        let age = |lines: &[_]| read(lines).age.as_secs();
        assert_eq!(age(&[("age", "7")]), 7);
        assert_eq!(age(&[("age", "7"), ("age", "8")]), 7);
        assert_eq!(age(&[("age", "-7")]), 0);
        assert_eq!(age(&[]), 0);
    }
}
