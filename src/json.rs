//! Reads one JSON object strictly, member by member, without building a tree.
//!
//! What the JSON grammar leaves open is closed here: names are unique, however they are spelt, and the number of
//! members and the depth are bounded. An object of plain members costs no allocation.

mod plain;

use alloc::borrow::{Cow, ToOwned};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use arrayvec::ArrayVec;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deep objects and arrays may be nested in one member.
const MAX_DEPTH: u8 = 32;

/// What is wrong with a text that should be one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// The bytes are not UTF-8 (RFC 8725 section 3.7).
    #[error("not UTF-8")]
    Encoding,
    /// The text is not JSON, or there is more after it, or a number or an escape means nothing.
    #[error("not JSON")]
    Syntax,
    /// The text is JSON, but not an object (RFC 7519 section 7.2).
    #[error("not an object")]
    NotAnObject,
    /// One name twice (RFC 7515 section 4, RFC 7519 section 4).
    #[error("a name occurs twice")]
    DuplicateName,
    /// More members than the caller's bound.
    #[error("too many members")]
    TooManyMembers,
    /// Nested deeper than 32 levels.
    #[error("nested too deep")]
    TooDeep,
}

/// What a member holds, as far as anyone asks.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    /// Exact for whole numbers below 2^53.
    Number(f64),
    /// An array of strings, if the object's shape wants it.
    Texts(Vec<Cow<'a, str>>),
    /// Anything else: read to its end, and dropped.
    Other,
}

/// What an object may look like: at most `N` members, of which `lists` are of interest as arrays of strings.
pub(crate) struct Shape<const N: usize> {
    pub(crate) lists: &'static [&'static str],
}

impl<const N: usize> Shape<N> {
    /// Hands each member of the object in `bytes` to `take`, which may refuse it.
    ///
    /// # Errors
    /// What `take` returned, or else what `refuse` makes of a fault in the text.
    pub(crate) fn read<'a, E>(
        &self,
        bytes: &'a [u8],
        refuse: impl FnOnce(JsonFault) -> E,
        mut take: impl FnMut(&str, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Ok(text) = core::str::from_utf8(bytes) else { return Err(refuse(JsonFault::Encoding)) };
        let mut members = ArrayVec::<_, N>::new();
        match plain::read(text, &mut members) {
            Some(()) => members.drain(..).try_for_each(|(name, value)| take(name, value)),
            None => self.read_any(text, refuse, take),
        }
    }

    /// The same for any text, plain or not; what it says is the rule.
    fn read_any<'a, E>(
        &self,
        text: &'a str,
        refuse: impl FnOnce(JsonFault) -> E,
        take: impl FnMut(&str, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let fault = Cell::new(None);
        let mut refusal = None;
        let members = Members { shape: self, take, fault: &fault, refusal: &mut refusal };

        let mut json = serde_json::Deserializer::from_str(text);
        let outcome = json.deserialize_map(members).and_then(|()| json.end());
        let Err(error) = outcome else { return Ok(()) };
        Err(refusal.unwrap_or_else(|| {
            // The only mistake of kind that `Members` can meet is that the text is no object.
            let other = if error.is_data() { JsonFault::NotAnObject } else { JsonFault::Syntax };
            refuse(fault.take().unwrap_or(other))
        }))
    }
}

/// Visits the members of the outermost object.
///
/// A serde error can carry only a message, so what is really wrong is left in `fault` or `refusal`.
struct Members<'s, const N: usize, F, E> {
    shape: &'s Shape<N>,
    take: F,
    fault: &'s Cell<Option<JsonFault>>,
    refusal: &'s mut Option<E>,
}

impl<'a, const N: usize, F, E> Visitor<'a> for Members<'_, N, F, E>
where
    F: FnMut(&str, Value<'a>) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut names: ArrayVec<Cow<'_, str>, N> = ArrayVec::new();
        let anything = Reader { depth: MAX_DEPTH, list: false, fault: self.fault };
        while let Some(Value::Text(name)) = map.next_key_seed(anything)? {
            if names.contains(&name) {
                return Err(stop(self.fault, JsonFault::DuplicateName));
            }
            if names.is_full() {
                return Err(stop(self.fault, JsonFault::TooManyMembers));
            }
            let list = self.shape.lists.contains(&&*name);
            let value = map.next_value_seed(Reader { list, ..anything })?;
            if let Err(refusal) = (self.take)(&name, value) {
                *self.refusal = Some(refusal);
                return Err(A::Error::custom("refused"));
            }
            names.push(name);
        }
        Ok(())
    }
}

/// Reads any value to its end, at most `depth` levels deep.
#[derive(Clone, Copy)]
struct Reader<'s> {
    depth: u8,
    list: bool,
    fault: &'s Cell<Option<JsonFault>>,
}

impl Reader<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, list: false, ..self }),
            None => Err(stop(self.fault, JsonFault::TooDeep)),
        }
    }
}

impl<'a> DeserializeSeed<'a> for Reader<'_> {
    type Value = Value<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Value<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Reader<'_> {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Value<'a>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'a>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'a>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'a>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'a>, E> {
        Ok(Value::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'a>, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value<'a>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Value<'a>, A::Error> {
        let inner = self.inner()?;
        let mut list = self.list.then(Vec::new);
        while let Some(element) = seq.next_element_seed(inner)? {
            let Value::Text(text) = element else {
                list = None;
                continue;
            };
            if let Some(list) = &mut list {
                list.push(text);
            }
        }
        Ok(list.map_or(Value::Other, Value::Texts))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Value<'a>, A::Error> {
        let inner = self.inner()?;
        while map.next_key_seed(inner)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(Value::Other)
    }
}

/// Notes what is wrong and returns the error that unwinds the parser.
fn stop<E: Error>(fault: &Cell<Option<JsonFault>>, what: JsonFault) -> E {
    fault.set(Some(what));
    E::custom("stopped")
}
