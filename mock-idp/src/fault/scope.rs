//! Which requests a fault strikes.

use std::collections::BTreeSet;
use std::fmt;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Endpoint, FaultError, FaultId};
use crate::chance::generator;
use crate::share::Share;

/// What of a request decides whether a fault strikes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Where it arrived.
    pub endpoint: Endpoint,
    /// The cache that asks, if the URL tells.
    pub instance: Option<u32>,
    /// How many requests arrived at the endpoint before it.
    pub number: u64,
}

/// For which requests a fault is in force: each limit that is named must let a request through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Each request is struck or spared by chance.
    pub probability: Option<Share>,
    /// Only requests of these replicas are struck.
    pub replicas: Option<Replicas>,
}

/// Some of the replicas, by the number in `/instances/{number}/`. Requests without a number belong to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// So many of them: always the same ones, and those of a smaller share are among those of a larger.
    Share(Share),
    /// These.
    Listed(BTreeSet<u32>),
}

impl Scope {
    pub(super) fn check(&self, endpoint: Endpoint) -> Result<(), FaultError> {
        if self.probability == Some(Share::NONE) {
            return Err(FaultError::Nobody("probability"));
        }
        match &self.replicas {
            Some(_) if endpoint == Endpoint::Token => Err(FaultError::TokenReplicas),
            Some(Replicas::Share(Share::NONE)) => Err(FaultError::Nobody("replicas")),
            Some(Replicas::Listed(listed)) if listed.is_empty() => Err(FaultError::Nobody("replicas")),
            _ => Ok(()),
        }
    }

    pub(super) fn holds(&self, seed: u64, id: FaultId, request: RequestFacts) -> bool {
        let among = |replicas: &Replicas| request.instance.is_some_and(|number| replicas.has(seed, number));
        self.replicas.as_ref().is_none_or(among)
            && self.probability.is_none_or(|share| share.takes(draw(seed, id, request.number)))
    }
}

/// The draw of this fault for the request of this number: another fault or another number has another.
fn draw(seed: u64, id: FaultId, number: u64) -> u64 {
    let fault = u64::try_from(id.index()).unwrap_or(u64::MAX);
    // No endpoint sees 2^48 requests.
    generator(seed, *b"strikes?", fault << 48 | number).next_u64()
}

impl Replicas {
    fn has(&self, seed: u64, number: u32) -> bool {
        match self {
            Self::Share(share) => share.takes(place(seed, number)),
            Self::Listed(listed) => listed.contains(&number),
        }
    }
}

/// A replica's place on a circle. Steps of the golden section spread any number of replicas so evenly that about the
/// asked share of them lies in any arc, and a further replica moves nobody.
fn place(seed: u64, number: u32) -> u64 {
    // 2^64 over the golden ratio.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    generator(seed, *b"replicas", 0).next_u64().wrapping_add(STEP.wrapping_mul(number.into()))
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share} of the replicas"),
            Self::Listed(listed) => {
                let numbers: Vec<String> = listed.iter().map(u32::to_string).collect();
                let noun = if listed.len() == 1 { "replica" } else { "replicas" };
                write!(f, "{noun} {}", numbers.join(", "))
            }
        }
    }
}

impl Serialize for Replicas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Share(share) => share.serialize(serializer),
            Self::Listed(listed) => listed.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShareOrList;

        impl<'de> de::Visitor<'de> for ShareOrList {
            type Value = Replicas;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share like \"20%\" or a list of replicas like [0, 3]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Replicas, E> {
                text.parse().map(Replicas::Share).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Replicas, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Replicas::Listed)
            }
        }

        deserializer.deserialize_any(ShareOrList)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64, instance: Option<u32>) -> RequestFacts {
        RequestFacts { endpoint: Endpoint::Jwks, instance, number }
    }

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    fn struck(scope: &Scope, seed: u64, fault: usize) -> Vec<u64> {
        (0..1_000).filter(|n| scope.holds(seed, FaultId::at(fault), request(*n, None))).collect()
    }

    #[test]
    fn chance_strikes_its_share_and_repeats_by_the_number() {
        let half = Scope { probability: Some(share("50%")), replicas: None };
        let first = struck(&half, 7, 0);
        assert!((450..550).contains(&first.len()), "{}", first.len());
        assert_eq!(struck(&half, 7, 0), first);
        assert_ne!(struck(&half, 8, 0), first);
        assert_ne!(struck(&half, 7, 1), first);
        let always = Scope { probability: Some(share("100%")), replicas: None };
        assert_eq!(struck(&always, 7, 0).len(), 1_000);
    }

    #[test]
    fn a_share_of_the_replicas_is_about_that_share_and_stays() {
        let chosen = |seed, text: &str, fleet: u32| -> Vec<u32> {
            let scope = Scope { probability: None, replicas: Some(Replicas::Share(share(text))) };
            (0..fleet).filter(|i| scope.holds(seed, FaultId::at(0), request(0, Some(*i)))).collect()
        };
        for seed in 0..50 {
            for fleet in [10, 20, 100] {
                let (fifth, half) = (chosen(seed, "20%", fleet), chosen(seed, "50%", fleet));
                let beside = (fleet / 5).abs_diff(fifth.len() as u32);
                assert!(beside <= 2 && !fifth.is_empty(), "{fifth:?} of {fleet}");
                assert!(fifth.iter().all(|replica| half.contains(replica)));
            }
            assert!(chosen(seed, "20%", 100).starts_with(&chosen(seed, "20%", 10)));
            assert_eq!(chosen(seed, "100%", 10).len(), 10);
        }
        assert_ne!(chosen(1, "20%", 20), chosen(2, "20%", 20));
    }

    #[test]
    fn scoped_faults_spare_requests_that_name_no_replica() {
        let listed = Replicas::Listed(BTreeSet::from([0, 3]));
        let scope = Scope { probability: None, replicas: Some(listed) };
        let holds = |instance| scope.holds(7, FaultId::at(0), request(0, instance));
        assert_eq!([Some(0), Some(1), Some(3), None].map(holds), [true, false, true, false]);
        let all = Scope { probability: None, replicas: Some(Replicas::Share(share("100%"))) };
        assert!(!all.holds(7, FaultId::at(0), request(0, None)));
        assert!(Scope::default().holds(7, FaultId::at(0), request(0, None)));
    }
}
