//! The laws of the cache of tokens, over random policies and scripts. The model lists what has happened, and forgets
//! nothing.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// So many tokens there are.
const TOKENS: u8 = 5;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A request with this token, which passes the checks or would not.
    Request {
        token: u8,
        passes: bool,
    },
    Pass(Span),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..TOKENS, any::<bool>()).prop_map(|(token, passes)| Op::Request { token, passes }),
        2 => (0..20_000_000_000_u64).prop_map(|nanos| Op::Pass(Span::from_nanos(nanos))),
    ]
}

prop_compose! {
    fn policy()(
        ttl in prop_oneof![3 => (1..60_u64).prop_map(Span::from_secs), 1 => Just(Span::INFINITE)],
        token_cache_max in 1..=u32::from(TOKENS),
    ) -> Policy {
        Policy { token_cache_ttl: ttl, token_cache_max, ..Policy::default() }
    }
}

fn date(now: Time) -> UnixTime {
    UnixTime(now.as_nanos().div_euclid(1_000_000_000))
}

/// When each token expires.
fn expiry(token: u8) -> UnixTime {
    UnixTime(30 * i64::from(token + 1))
}

/// How many other tokens were used since this one.
fn others_since(uses: &[u8], token: u8) -> usize {
    let mut others: Vec<u8> = uses.iter().rev().take_while(|used| **used != token).copied().collect();
    others.sort_unstable();
    others.dedup();
    others.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A token passes without a check only if it has passed one, not too long ago, and has not expired; and then it does,
    /// unless as many others as there is room for were used since.
    #[test]
    fn a_token_passes_because_it_has_passed(policy in policy(), script in prop::collection::vec(op(), 1..80)) {
        let mut cache = TokenCache::new(&policy).unwrap();
        let mut now = Time::ZERO;
        let mut checked: Vec<(u8, Time)> = Vec::new();
        let mut uses: Vec<u8> = Vec::new();
        for op in script {
            let (token, passes) = match op {
                Op::Pass(span) => {
                    now = now + span;
                    continue;
                }
                Op::Request { token, passes } => (token, passes),
            };
            let last = checked.iter().rfind(|(other, _)| *other == token);
            let fresh = last.is_some_and(|(_, at)| now < *at + policy.token_cache_ttl) && date(now) < expiry(token);
            let known = cache.knows(&token, now, date(now));
            prop_assert!(fresh || !known, "{token} at {now:?}");
            prop_assert!(
                known || !fresh || others_since(&uses, token) >= policy.token_cache_max as usize,
                "{token} at {now:?}"
            );
            if !known && passes {
                cache.remember(token, expiry(token), now);
                checked.push((token, now));
            }
            if known || passes {
                uses.push(token);
            }
            prop_assert!(cache.passed.len() <= policy.token_cache_max as usize);
            prop_assert_eq!(cache.passed.len(), cache.by_use.len());
        }
    }
}
