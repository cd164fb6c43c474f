//! Whose token a request carries, as a scenario says it in one word.

use std::fmt;
use std::str::FromStr;

use keyquake_idp::{Forgery, KeyId};
use serde::{Deserialize, Deserializer};

use super::units::from_text;

/// Whose token a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// A session's, which renews it.
    Session,
    /// A login's: issued for this request by the key that signs then.
    Login,
    /// One that this key signs, whatever has become of it: `key:key-1`.
    Key(KeyId),
    /// One that must be refused.
    Forged(Forgery),
}

const WORDS: [(&str, TokenSource); 9] = [
    ("session", TokenSource::Session),
    ("login", TokenSource::Login),
    ("expired", TokenSource::Forged(Forgery::Expired)),
    ("not_yet_valid", TokenSource::Forged(Forgery::NotYetValid)),
    ("wrong_aud", TokenSource::Forged(Forgery::WrongAudience)),
    ("wrong_iss", TokenSource::Forged(Forgery::WrongIssuer)),
    ("bad_signature", TokenSource::Forged(Forgery::BadSignature)),
    ("unknown_kid", TokenSource::Forged(Forgery::UnknownKid)),
    ("alg_none", TokenSource::Forged(Forgery::AlgNone)),
];

impl FromStr for TokenSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(label) = text.strip_prefix("key:") {
            return label.parse().map(Self::Key).map_err(|error| format!("{error}, so write `key:key-1`"));
        }
        let known = WORDS.into_iter().find(|(word, _)| *word == text);
        known.map(|(_, source)| source).ok_or_else(|| {
            let words = WORDS.map(|(word, _)| format!("`{word}`")).join(", ");
            format!("unknown token `{text}`, expected {words} or `key:<label>`")
        })
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key:{key}"),
            source => {
                f.write_str(WORDS.into_iter().find(|(_, known)| known == source).map_or("", |(word, _)| word))
            }
        }
    }
}

impl<'de> Deserialize<'de> for TokenSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "whose token is sent, like \"login\" or \"key:key-1\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for (word, source) in WORDS {
            assert_eq!((word.parse(), source.to_string().as_str()), (Ok(source), word));
        }
        assert_eq!("key:key-2".parse(), Ok(TokenSource::Key("key-2".parse().unwrap())));
        assert_eq!("key:key-2".parse::<TokenSource>().unwrap().to_string(), "key:key-2");
    }

    #[test]
    fn unknown_words_are_answered_with_the_known_ones() {
        let complaint = "unknown_kd".parse::<TokenSource>().unwrap_err();
        assert!(complaint.contains("`unknown_kid`"), "{complaint}");
        assert!("key:first".parse::<TokenSource>().unwrap_err().contains("key-1"));
    }
}
