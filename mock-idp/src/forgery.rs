//! Tokens that every validator must refuse, for the negative streams.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::{Algorithm, Span, UnixTime};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::key::Signer;
use crate::token::{Audience, Claims, Header, Mint, Minted, TokenId, TokenRequest, seal, signing_input};

/// What is wrong with a forged token. Everything else about it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    /// Well signed, and expired an hour before it is issued.
    Expired,
    /// Well signed, and valid from an hour after it is issued.
    NotYetValid,
    /// Well signed, for somebody else.
    #[serde(rename = "wrong_aud")]
    WrongAudience,
    /// Well signed, in the name of somebody else.
    #[serde(rename = "wrong_iss")]
    WrongIssuer,
    /// The right key's name, and noise of the right length as its signature.
    BadSignature,
    /// The name of a key that is nowhere, another one for every token, and noise as its signature.
    UnknownKid,
    /// The unsecured token of RFC 7515 appendix A.5: no algorithm, no signature.
    AlgNone,
}

/// Farther from now than any validator's clock skew: the usual bound is 300 s.
const BEYOND_SKEW: Span = Span::from_secs(3_600);
const WRONG_AUDIENCE: &str = "somebody-else";
const WRONG_ISSUER: &str = "https://somebody-else.invalid";

impl Forgery {
    /// When such a token says that it expires, if tokens issued then live that long.
    pub fn expiry(self, issued: UnixTime, lifetime: Span) -> UnixTime {
        match self {
            Self::Expired => issued - BEYOND_SKEW,
            Self::NotYetValid => issued + BEYOND_SKEW + lifetime,
            _ => issued + lifetime,
        }
    }
}

impl Mint {
    /// Forges a token. Those with noise for a signature cost no signing.
    pub fn forge(&self, signer: &Signer, request: &TokenRequest, forgery: Forgery) -> Minted {
        let mut header = Header::of(signer, &request.kind);
        let mut claims = self.claims(request);
        let unknown_kid = URL_SAFE_NO_PAD.encode(noise::<32>(request.id));
        match forgery {
            Forgery::Expired => self.expire(&mut claims, request),
            Forgery::NotYetValid => self.postpone(&mut claims, request),
            Forgery::WrongAudience => claims.aud = Audience::One(WRONG_AUDIENCE),
            Forgery::WrongIssuer => claims.iss = WRONG_ISSUER,
            Forgery::UnknownKid => header.kid = &unknown_kid,
            Forgery::AlgNone => header.alg = "none",
            Forgery::BadSignature => {}
        }
        let input = signing_input(&header, &claims);
        let signature = match forgery {
            Forgery::AlgNone => Vec::new(),
            Forgery::BadSignature | Forgery::UnknownKid => garbage(signer, request.id),
            _ => signer.key.sign(input.as_bytes()),
        };
        seal(signer.id, &claims, input, &signature)
    }

    fn expire(&self, claims: &mut Claims<'_>, request: &TokenRequest) {
        claims.exp = Forgery::Expired.expiry(request.issued, self.lifetime()).0;
        claims.iat = (request.issued - BEYOND_SKEW - self.lifetime()).0;
        claims.nbf = claims.iat;
    }

    fn postpone(&self, claims: &mut Claims<'_>, request: &TokenRequest) {
        claims.iat = (request.issued + BEYOND_SKEW).0;
        claims.nbf = claims.iat;
        claims.exp = Forgery::NotYetValid.expiry(request.issued, self.lifetime()).0;
    }
}

/// A signature that is in range, so that refusing it takes the whole computation.
fn garbage(signer: &Signer, id: TokenId) -> Vec<u8> {
    let mut bytes = noise::<512>(id)[..signer.key.signature_len()].to_vec();
    // Below the modulus, or below the order of the curve in both of its numbers.
    let number_len = match signer.key.algorithm() {
        Algorithm::Rs256 => bytes.len(),
        Algorithm::Es256 => bytes.len() / 2,
    };
    for number in bytes.chunks_mut(number_len) {
        number[0] = 0;
    }
    bytes
}

/// Bytes that follow from a token's name.
fn noise<const LEN: usize>(id: TokenId) -> [u8; LEN] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&id.0.to_le_bytes());
    let mut bytes = [0; LEN];
    ChaCha8Rng::from_seed(seed).fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{decode_part, ring_of_one, witness};
    use crate::token::TokenKind;

    const ALL: [Forgery; 7] = [
        Forgery::Expired,
        Forgery::NotYetValid,
        Forgery::WrongAudience,
        Forgery::WrongIssuer,
        Forgery::BadSignature,
        Forgery::UnknownKid,
        Forgery::AlgNone,
    ];

    fn forge(signer: &Signer, forgery: Forgery, id: u128) -> Minted {
        let request = TokenRequest {
            kind: TokenKind::Access { scope: String::new() },
            subject: "session-1".into(),
            client: "keyquake".into(),
            issued: UnixTime(1_700_000_000),
            id: TokenId(id),
        };
        Mint::new("http://idp", "keyquake", Span::from_secs(600)).forge(signer, &request, forgery)
    }

    #[test]
    fn a_signature_is_noise_where_the_forgery_says_so() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let signer = ring_of_one(algorithm);
            for forgery in ALL {
                let forged = forge(&signer, forgery, 1);
                let genuine = witness::signature_is_genuine(signer.key.public_jwk(), &forged.token);
                let signed =
                    !matches!(forgery, Forgery::BadSignature | Forgery::UnknownKid | Forgery::AlgNone);
                assert_eq!(genuine, signed, "{forgery:?} with {algorithm}");
            }
        }
    }

    #[test]
    fn noise_has_the_length_of_a_signature_and_follows_from_the_name() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let signer = ring_of_one(algorithm);
            let [one, again, other] = [1, 1, 2].map(|id| forge(&signer, Forgery::BadSignature, id).token);
            let signature = URL_SAFE_NO_PAD.decode(one.rsplit('.').next().unwrap()).unwrap();
            assert_eq!(signature.len(), signer.key.signature_len());
            assert_eq!(one, again);
            assert_ne!(one, other);
        }
    }

    #[test]
    fn claims_and_header_are_wrong_in_one_thing() {
        let signer = ring_of_one(Algorithm::Es256);
        let part = |forgery, index| decode_part(&forge(&signer, forgery, 1).token, index);
        let dates = |forgery| {
            let forged = forge(&signer, forgery, 1);
            (forged.issued.0 - 1_700_000_000, forged.expires.0 - 1_700_000_000)
        };
        assert_eq!(dates(Forgery::Expired), (-4_200, -3_600));
        assert_eq!(dates(Forgery::NotYetValid), (3_600, 4_200));
        assert_eq!(part(Forgery::NotYetValid, 1)["nbf"], 1_700_003_600);
        assert_eq!(part(Forgery::WrongAudience, 1)["aud"], WRONG_AUDIENCE);
        assert_eq!(part(Forgery::WrongIssuer, 1)["iss"], WRONG_ISSUER);
        assert_eq!(part(Forgery::AlgNone, 0)["alg"], "none");
        assert!(forge(&signer, Forgery::AlgNone, 1).token.ends_with('.'));
        assert_eq!(part(Forgery::BadSignature, 0)["kid"], signer.key.kid().as_str());
    }

    #[test]
    fn every_stray_token_names_a_key_of_its_own() {
        let signer = ring_of_one(Algorithm::Es256);
        let kid = |id| decode_part(&forge(&signer, Forgery::UnknownKid, id).token, 0)["kid"].clone();
        assert_ne!(kid(1), kid(2));
        assert_eq!(kid(1), kid(1));
    }
}
