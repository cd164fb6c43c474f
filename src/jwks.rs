//! Reads a key set (RFC 7517 section 5), tolerantly: what cannot be used is noted, and never spoils the rest.
//!
//! An issuer adds keys of new kinds while its old ones go on signing, so a reader that refuses the whole set
//! for one entry turns an addition into an outage.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use base64_simd::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{JsonFault, Shape, Value};
use crate::token::MAX_KID_BYTES;
use crate::{Algorithm, KeyVersion, Kid};

/// At most 64 members in one key.
const SHAPE: Shape<64> = Shape { lists: &["key_ops"] };

/// What one fetch of a key set brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jwks {
    /// The keys that tokens can be verified with, in the order of the set. Names may repeat.
    pub keys: Vec<Jwk>,
    /// The place in the set of each key that cannot be used, and why.
    pub unusable: Vec<(usize, Unusable)>,
    /// How many keys were not looked at because [`Jwks::MAX_KEYS`] came before them.
    pub over_bound: usize,
}

/// A public key that verifies signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// Its name, if it has one.
    pub kid: Option<Kid>,
    /// The one algorithm that it is used with: `alg`, or else the one that its type goes with.
    pub algorithm: Algorithm,
    /// The key itself.
    pub material: Material,
}

/// The numbers that make a public key, big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// An odd modulus of 2048 to 8192 bits and an odd exponent of at least 3, both without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
    },
    /// Coordinates on P-256. Whether they lie on the curve is for the verifier to find out.
    Ec {
        /// The x coordinate.
        x: [u8; 32],
        /// The y coordinate.
        y: [u8; 32],
    },
}

/// Why a body is no key set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The body is longer than [`Jwks::MAX_BYTES`].
    #[error("the key set is larger than 512 KiB")]
    TooLarge,
    /// The body is not UTF-8 (RFC 8259 section 8.1).
    #[error("the key set is not UTF-8")]
    Encoding,
    /// The body is not JSON: an error page, or cut short.
    #[error("the key set is not JSON (line {line}, column {column})")]
    NotJson {
        /// The line of the first mistake, from 1.
        line: usize,
        /// The column of the first mistake, from 1.
        column: usize,
    },
    /// The body is JSON, but not an object with one array called `keys` (RFC 7517 section 5).
    #[error("the key set is not an object with one array `keys`")]
    NotAKeySet,
}

/// Why one key of a set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is not one strict JSON object; `null`, or a member twice.
    #[error("{0}")]
    Json(JsonFault),
    /// Its `kty` is none that goes with our algorithms, such as `AKP` or `OKP`.
    #[error("unknown key type")]
    UnknownType,
    /// It is a shared secret, and now everyone has it.
    #[error("a symmetric key in a public key set")]
    Symmetric,
    /// It holds its private half, so anyone could have signed with it.
    #[error("a private key in a public key set")]
    Private,
    /// Its curve is not P-256.
    #[error("unknown curve")]
    UnknownCurve,
    /// Its `use` is not `sig` (RFC 7517 section 4.2).
    #[error("`use` is not `sig`")]
    Use,
    /// Its `key_ops` do not have `verify` (RFC 7517 section 4.3).
    #[error("`key_ops` lack `verify`")]
    KeyOps,
    /// Its `alg` is none of ours, or does not go with its type (RFC 7517 section 4.4).
    #[error("`alg` is not supported for this type of key")]
    Algorithm,
    /// Its modulus is even, or shorter than 2048 bits (RFC 7518 section 3.3), or longer than the 8192 bits that
    /// crypto libraries accept, because the work of one signature grows with the square.
    #[error("the RSA modulus is even, or not of 2048 to 8192 bits")]
    RsaModulus,
    /// Its exponent is even or 1, which makes no RSA key (RFC 8017 section 3.1), or has more than the 33 bits that
    /// crypto libraries accept.
    #[error("the RSA exponent is even, or 1, or longer than 33 bits")]
    RsaExponent,
    /// A member that its type needs is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member has the wrong type, length or encoding.
    #[error("`{0}` is malformed")]
    Malformed(&'static str),
}

impl Jwks {
    /// The longest body that is looked at, in bytes.
    pub const MAX_BYTES: usize = 512 * 1024;
    /// The most keys that are looked at.
    pub const MAX_KEYS: usize = 1_000;

    /// Reads the body of a key set. A byte order mark before it is ignored (RFC 8259 section 8.1).
    ///
    /// # Errors
    /// The body as a whole is no key set. A set without any usable key is not an error.
    pub fn parse(body: &[u8]) -> Result<Self, JwksError> {
        if body.len() > Self::MAX_BYTES {
            return Err(JwksError::TooLarge);
        }
        let text = core::str::from_utf8(body).map_err(|_| JwksError::Encoding)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(Document).and_then(|jwks| json.end().map(|()| jwks)).map_err(|error| {
            if error.is_data() {
                return JwksError::NotAKeySet;
            }
            JwksError::NotJson { line: error.line(), column: error.column() }
        })
    }

    fn push(&mut self, place: usize, key: Result<Jwk, Unusable>) {
        match key {
            Ok(key) => self.keys.push(key),
            Err(why) => self.unusable.push((place, why)),
        }
    }
}

/// Visits the object around the keys; its other members are ignored, as RFC 7517 section 5 asks.
struct Document;

impl<'a> Visitor<'a> for Document {
    type Value = Jwks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one array `keys`")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Jwks, A::Error> {
        let mut jwks = None;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name != "keys" {
                map.next_value::<IgnoredAny>()?;
            } else if jwks.is_some() {
                return Err(A::Error::duplicate_field("keys"));
            } else {
                jwks = Some(map.next_value_seed(Keys)?);
            }
        }
        jwks.ok_or_else(|| A::Error::missing_field("keys"))
    }
}

/// Visits the keys. Each is first cut out as text, whatever it holds, and then read by itself.
struct Keys;

impl<'a> serde::de::DeserializeSeed<'a> for Keys {
    type Value = Jwks;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Jwks, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Keys {
    type Value = Jwks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of keys")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Jwks, A::Error> {
        let mut jwks = Jwks::default();
        for place in 0..Jwks::MAX_KEYS {
            let Some(key) = seq.next_element::<&'a RawValue>()? else { return Ok(jwks) };
            jwks.push(place, Jwk::read(key.get()));
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            jwks.over_bound += 1;
        }
        Ok(jwks)
    }
}

impl Jwk {
    /// Names the material of this key.
    pub fn version(&self) -> KeyVersion {
        self.material.version()
    }

    /// Reads one key. What it is comes first, then what it is for, then its numbers.
    fn read(text: &str) -> Result<Self, Unusable> {
        let members = Members::read(text)?;
        let algorithm = match &*string(members.kty, "kty")? {
            "RSA" => Algorithm::Rs256,
            "EC" => Algorithm::Es256,
            "oct" => return Err(Unusable::Symmetric),
            _ => return Err(Unusable::UnknownType),
        };
        if members.private {
            return Err(Unusable::Private);
        }
        check_purpose(members.usage, members.key_ops)?;
        let material = match algorithm {
            Algorithm::Rs256 => rsa(members.n, members.e)?,
            Algorithm::Es256 => p256(members.crv, members.x, members.y)?,
        };
        if members.alg.is_some() && string(members.alg, "alg")? != algorithm.name() {
            return Err(Unusable::Algorithm);
        }
        let kid = match members.kid {
            None => None,
            Some(Value::Text(kid)) if (1..=MAX_KID_BYTES).contains(&kid.len()) => Some(Kid::from(&*kid)),
            Some(_) => return Err(Unusable::Malformed("kid")),
        };
        Ok(Self { kid, algorithm, material })
    }
}

/// The members of a key that matter to us, as they stand there.
#[derive(Default)]
struct Members<'a> {
    kty: Option<Value<'a>>,
    usage: Option<Value<'a>>,
    key_ops: Option<Value<'a>>,
    alg: Option<Value<'a>>,
    kid: Option<Value<'a>>,
    n: Option<Value<'a>>,
    e: Option<Value<'a>>,
    crv: Option<Value<'a>>,
    x: Option<Value<'a>>,
    y: Option<Value<'a>>,
    /// There is a member that only private keys have (RFC 7518 sections 6.2.2 and 6.3.2).
    private: bool,
}

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Self, Unusable> {
        let mut members = Self::default();
        SHAPE.read(text.as_bytes(), Unusable::Json, |name, value| {
            let member = match name {
                "kty" => &mut members.kty,
                "use" => &mut members.usage,
                "key_ops" => &mut members.key_ops,
                "alg" => &mut members.alg,
                "kid" => &mut members.kid,
                "n" => &mut members.n,
                "e" => &mut members.e,
                "crv" => &mut members.crv,
                "x" => &mut members.x,
                "y" => &mut members.y,
                "d" | "p" | "q" | "dp" | "dq" | "qi" | "oth" => {
                    members.private = true;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *member = Some(value);
            Ok(())
        })?;
        Ok(members)
    }
}

/// Refuses keys that are for something else than verifying. Both members are optional.
fn check_purpose(usage: Option<Value<'_>>, key_ops: Option<Value<'_>>) -> Result<(), Unusable> {
    if usage.is_some() && string(usage, "use")? != "sig" {
        return Err(Unusable::Use);
    }
    match key_ops {
        None => Ok(()),
        Some(Value::Texts(ops)) if ops.iter().any(|op| op == "verify") => Ok(()),
        Some(Value::Texts(_)) => Err(Unusable::KeyOps),
        Some(_) => Err(Unusable::Malformed("key_ops")),
    }
}

fn rsa(n: Option<Value<'_>>, e: Option<Value<'_>>) -> Result<Material, Unusable> {
    let n = unsigned(n, "n")?;
    let e = unsigned(e, "e")?;
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(&n) || !(2048..=8192).contains(&bits(&n)) {
        return Err(Unusable::RsaModulus);
    }
    if !is_odd(&e) || !(2..=33).contains(&bits(&e)) {
        return Err(Unusable::RsaExponent);
    }
    Ok(Material::Rsa { n, e })
}

fn p256(crv: Option<Value<'_>>, x: Option<Value<'_>>, y: Option<Value<'_>>) -> Result<Material, Unusable> {
    if string(crv, "crv")? != "P-256" {
        return Err(Unusable::UnknownCurve);
    }
    // The length is fixed (RFC 7518 section 6.2.1.2), leading zeros included.
    let coordinate = |value, name| octets(value, name)?.try_into().map_err(|_| Unusable::Malformed(name));
    Ok(Material::Ec { x: coordinate(x, "x")?, y: coordinate(y, "y")? })
}

/// Reads a `Base64urlUInt`. Leading zeros are wrong (RFC 7518 section 2), but known of some libraries (its section
/// 6.3.1.1) and harmless: they are dropped, so that both spellings are one key.
fn unsigned(value: Option<Value<'_>>, name: &'static str) -> Result<Vec<u8>, Unusable> {
    let mut octets = octets(value, name)?;
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.drain(..zeros);
    Ok(octets)
}

fn octets(value: Option<Value<'_>>, name: &'static str) -> Result<Vec<u8>, Unusable> {
    URL_SAFE_NO_PAD.decode_to_vec(&*string(value, name)?).map_err(|_| Unusable::Malformed(name))
}

fn string<'a>(value: Option<Value<'a>>, name: &'static str) -> Result<Cow<'a, str>, Unusable> {
    match value {
        Some(Value::Text(text)) => Ok(text),
        Some(_) => Err(Unusable::Malformed(name)),
        None => Err(Unusable::Missing(name)),
    }
}

/// The length in bits of a number without leading zero octets.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

impl Material {
    /// Names this material: FNV-1a over the type and the numbers.
    ///
    /// That is no protection against an issuer that wants two keys to have one name: its own keys are all it could
    /// confuse.
    pub fn version(&self) -> KeyVersion {
        let (kind, [first, second]): (u8, [&[u8]; 2]) = match self {
            Self::Rsa { n, e } => (1, [n, e]),
            Self::Ec { x, y } => (2, [x, y]),
        };
        // The length in between keeps the end of one number from passing for the start of the other.
        let length = (first.len() as u64).to_be_bytes();
        let bytes =
            [kind].into_iter().chain(length).chain(first.iter().copied()).chain(second.iter().copied());
        KeyVersion(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}
