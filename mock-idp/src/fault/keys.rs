//! What a fault makes of the keys of a set.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::Algorithm;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

use crate::decoy::{Jwk, decoy, noise, private_decoy};

/// The most extra keys of one fault.
const MAX_EXTRAS: usize = 64;

/// Which keys are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// As many keys that the provider never had, under other names: another tenant's set.
    WrongSet,
    /// Other key material under the names of the provider's own keys.
    Swapped,
    /// The provider's own keys, after these.
    With(Vec<Extra>),
}

/// A key that stands ahead of the provider's own, and that verifiers must pass over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// A key of a type that nobody knows.
    UnknownKty,
    /// A post-quantum key, ML-DSA-44 of type `AKP`.
    Akp,
    /// A key on a curve that nobody knows.
    UnknownCrv,
    /// `null`.
    Null,
    /// A sound key without a name.
    NoKid,
    /// A sound key for encryption (`use` is `enc`, RFC 7517 section 4.2).
    Encryption,
    /// A P-256 key with its private half.
    Private,
}

impl Keys {
    /// Whether the provider's own keys are served.
    pub(crate) fn has_own(&self) -> bool {
        matches!(self, Self::With(_))
    }

    /// What stands in the set in place of the provider's own keys.
    pub(crate) fn bend(&self, own: Vec<Jwk>, algorithm: Algorithm, seed: u64) -> Vec<Value> {
        let decoys = (0..).map(|number| decoy(algorithm, seed, number));
        match self {
            Self::WrongSet => decoys.take(own.len()).map(|key| json!(key)).collect(),
            Self::Swapped => own
                .into_iter()
                .zip(decoys)
                .map(|(own, mut other)| {
                    if let Some(kid) = own.get("kid") {
                        other.insert("kid", kid.clone());
                    }
                    json!(other)
                })
                .collect(),
            Self::With(extras) => {
                let extras = extras.iter().map(|extra| extra.jwk(algorithm, seed));
                extras.chain(own.into_iter().map(|key| json!(key))).collect()
            }
        }
    }
}

impl Extra {
    /// The name in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownKty => "unknown_kty",
            Self::Akp => "akp",
            Self::UnknownCrv => "unknown_crv",
            Self::Null => "null",
            Self::NoKid => "no_kid",
            Self::Encryption => "encryption",
            Self::Private => "private",
        }
    }

    fn jwk(self, algorithm: Algorithm, seed: u64) -> Value {
        // Apart from the decoys of `wrong_set` and `swapped`, and each kind apart from the others.
        let number = u64::from(u32::MAX) + self as u64;
        let kid = format!("extra-{}", self.name());
        let mut sound = decoy(algorithm, seed, number);
        match self {
            Self::UnknownKty => json!({ "kty": "UNKNOWN", "kid": kid, "use": "sig", "alg": "UNKNOWN" }),
            Self::Akp => {
                // The length of an ML-DSA-44 public key (FIPS 204 section 4).
                let public = URL_SAFE_NO_PAD.encode(noise::<1_312>(seed, number));
                json!({ "kty": "AKP", "alg": "ML-DSA-44", "kid": kid, "use": "sig", "pub": public })
            }
            Self::UnknownCrv => {
                let mut key = decoy(Algorithm::Es256, seed, number);
                key.extend([("crv", "P-999".into()), ("kid", kid)]);
                json!(key)
            }
            Self::Null => Value::Null,
            Self::NoKid => {
                sound.remove("kid");
                json!(sound)
            }
            Self::Encryption => {
                // RFC 7518 section 4.1.
                let alg = match algorithm {
                    Algorithm::Rs256 => "RSA-OAEP-256",
                    Algorithm::Es256 => "ECDH-ES",
                };
                sound.extend([("use", "enc".into()), ("alg", alg.into()), ("kid", kid)]);
                json!(sound)
            }
            Self::Private => {
                let mut key = private_decoy(seed, number);
                key.insert("kid", kid);
                json!(key)
            }
        }
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::WrongSet => serializer.serialize_str("wrong_set"),
            Self::Swapped => serializer.serialize_str("swapped"),
            Self::With(extras) => extras.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrList;

        impl<'de> de::Visitor<'de> for NameOrList {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"wrong_set\", \"swapped\" or a list of extra keys like [\"akp\", \"null\"]")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Keys, E> {
                match name {
                    "wrong_set" => Ok(Keys::WrongSet),
                    "swapped" => Ok(Keys::Swapped),
                    _ => Err(E::unknown_variant(name, &["wrong_set", "swapped"])),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
                let mut extras = Vec::new();
                while let Some(extra) = list.next_element()? {
                    if extras.len() >= MAX_EXTRAS {
                        return Err(de::Error::custom(format!("more than {MAX_EXTRAS} extra keys")));
                    }
                    extras.push(extra);
                }
                if extras.is_empty() {
                    Err(de::Error::custom("no extra keys"))
                } else {
                    Ok(Keys::With(extras))
                }
            }
        }

        deserializer.deserialize_any(NameOrList)
    }
}
