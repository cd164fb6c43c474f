//! Laws that hold for every token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyquake_core::{Algorithm, Expectations, KeyVersion, Scratch, Token, TokenKind, Verify};
use proptest::prelude::*;

use crate::forge::{AUDIENCE, ISSUER, KID, Seal, base64, claims, header, judge, sealed};

/// Text that is often nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        "\"(alg|kid|typ|crit|iss|sub|aud|exp|RS256|k1|\\\\u0061lg|\\\\ud800)\"",
        "-?[0-9]{1,20}(\\.[0-9]{1,3})?(e[0-9]{1,3})?",
        "null|true|\"\\PC{0,4}\"",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(token in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(judge(&token, TokenKind::IdToken, &[(KID, &Seal)]).is_err());
    }

    #[test]
    fn any_header_and_payload_are_read_without_panic(
        head in nearly_json(),
        body in nearly_json(),
        swap in any::<bool>(),
    ) {
        let head = if swap { header(&[]) } else { head };
        prop_assert!(judge(&sealed(head, body), TokenKind::IdToken, &[(KID, &Seal)]).is_err());
    }

    #[test]
    fn a_changed_byte_is_never_accepted(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut token = sealed(header(&[]), claims(&[]));
        prop_assert_eq!(judge(&token, TokenKind::IdToken, &[(KID, &Seal)]), Ok(()));
        let place = place.index(token.len());
        prop_assume!(token[place] != byte);
        token[place] = byte;
        prop_assert!(judge(&token, TokenKind::IdToken, &[(KID, &Seal)]).is_err());
    }

    #[test]
    fn a_segment_is_read_as_another_library_reads_it(
        digits in prop::collection::vec(0_u8..64, 1..200),
        change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut segment: Vec<u8> = digits.iter().map(|digit| ALPHABET[usize::from(*digit)]).collect();
        if let Some((place, byte)) = change {
            let place = place.index(segment.len());
            segment[place] = byte;
        }
        let witness = URL_SAFE_NO_PAD.decode(&segment);
        let head = format!("{}.{}.", base64(header(&[])), base64(claims(&[])));
        let token = [head.as_bytes(), &segment].concat();
        let expected = Expectations::new(ISSUER, AUDIENCE, TokenKind::IdToken);
        let mut scratch = Scratch::default();
        let token = Token::parse(&token, &expected, &mut scratch);
        prop_assert_eq!(token.is_ok(), witness.is_ok());
        if let (Ok(token), Ok(signature)) = (token, witness) {
            prop_assert!(token.verify([(KeyVersion(0), &Only(signature))]).is_ok());
        }
    }

    #[test]
    fn what_was_in_the_scratch_before_does_not_matter(before in prop::collection::vec(any::<u8>(), 0..200)) {
        let expected = Expectations::new(ISSUER, AUDIENCE, TokenKind::IdToken);
        let mut scratch = Scratch::default();
        let _ = Token::parse(&before, &expected, &mut scratch);
        let token = sealed(header(&[]), claims(&[]));
        prop_assert!(Token::parse(&token, &expected, &mut scratch).is_ok());
    }
}

/// Believes one signature, of whatever message.
struct Only(Vec<u8>);

impl Verify for Only {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Rs256
    }

    fn verify(&self, _: &[u8], signature: &[u8]) -> bool {
        signature == self.0
    }
}

/// Counts how often it is asked.
struct Never(std::cell::Cell<usize>);

impl Verify for Never {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Rs256
    }

    fn verify(&self, _: &[u8], _: &[u8]) -> bool {
        self.0.set(self.0.get() + 1);
        false
    }
}

#[test]
fn at_most_eight_keys_are_tried() {
    let expected = Expectations::new(ISSUER, AUDIENCE, TokenKind::IdToken);
    let mut scratch = Scratch::default();
    let token = sealed(header(&[("kid", "")]), claims(&[]));
    let token = Token::parse(&token, &expected, &mut scratch).unwrap();
    let key = Never(std::cell::Cell::new(0));
    let refused = token.verify((0..100).map(|version| (KeyVersion(version), &key))).unwrap_err();
    assert_eq!(key.0.get(), Token::MAX_CANDIDATES);
    assert_eq!(refused.tried, Some(KeyVersion(7)));

    let none: [(KeyVersion, &Never); 0] = [];
    assert_eq!(token.verify(none).unwrap_err().tried, None);
}
