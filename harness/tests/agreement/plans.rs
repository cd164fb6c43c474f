//! Scenarios at random, over the whole space of policies: what a rotation, a fault, clients and a cache can be.

use std::collections::BTreeMap;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// What each field of a policy can be. What is named more often is drawn more often, so that most fields are as most
/// clients have them and a plan is not all corners.
const FIELDS: &[(&str, &[&str])] = &[
    // A cache that keeps nothing fetches for each token, and one with a single entry for each other one: all of their
    // requests come while the cache changes, and what depends on which of two came first, a record cannot tell.
    ("store", &["'set'", "'set'", "'set'", "'per_kid'", "'per_kid_over_set'"]),
    ("max_entries", &["16", "2"]),
    ("inner_ttl", &["'inf'", "'4s'"]),
    ("ttl", &["'3s'", "'5s'", "'8s'", "'30s'", "'inf'"]),
    ("ttl_source", &["'fixed'", "'fixed'", "'http'"]),
    ("http_min", &["'0s'", "'2s'"]),
    ("http_max", &["'1d'", "'6s'"]),
    ("http_out_of_range", &["'clamp'", "'ignore'"]),
    ("http_no_cache", &["'expire_now'", "'ignore'"]),
    ("ttl_jitter", &["0.0", "0.0", "0.4"]),
    (
        "on_expiry",
        &["'block'", "'block'", "'block'", "'leader_blocks'", "'background'", "'gate_only'", "'never'"],
    ),
    ("refresh_ahead", &["'0s'", "'0s'", "'1s'"]),
    ("refresh_ahead_share", &["0.0", "0.0", "0.3"]),
    ("init", &["'lazy'", "'lazy'", "'eager_fail'", "'eager_tolerate'", "'async'"]),
    ("poll_interval", &["'0s'", "'0s'", "'4s'"]),
    ("poll_interval_on_failure", &["'0s'", "'1s'"]),
    ("poll_backoff_max", &["'0s'", "'6s'"]),
    ("poll_attempts", &["1", "1", "2"]),
    ("on_unknown_kid", &["'refetch'", "'refetch'", "'refetch'", "'reject'", "'refetch_background'"]),
    ("on_bad_signature", &["'reject'", "'refetch'", "'refetch_background'"]),
    ("on_missing_kid", &["'only_key'", "'reject'", "'by_alg'"]),
    ("missing_kid_refetch", &["false", "true"]),
    ("negative_ttl", &["'0s'", "'0s'", "'3s'"]),
    ("last_known_good", &["'0s'", "'0s'", "'4s'"]),
    ("limiter", &["'none'", "'cooldown'", "'window'", "'bucket'"]),
    ("limiter_interval", &["'2s'", "'5s'"]),
    ("limiter_burst", &["1", "2", "5"]),
    ("limiter_anchor", &["'success'", "'attempt'", "'miss'"]),
    ("limiter_scope", &["'miss'", "'miss'", "'all'"]),
    ("on_limited", &["'reject'", "'use_cached'", "'wait'"]),
    ("limited_max_wait", &["'1m'", "'1s'"]),
    ("failure_backoff", &["'0s'", "'1s'"]),
    ("on_fetch_error", &["'stale'", "'fail'", "'clear'"]),
    ("stale_for", &["'3s'", "'inf'"]),
    ("failure_rearms_ttl", &["false", "false", "true"]),
    ("attempts", &["1", "1", "2"]),
    ("check_status", &["true", "false"]),
    ("parse", &["'skip'", "'strict'"]),
    ("on_empty_set", &["'fail'", "'accept'"]),
    (
        "coalescing",
        &[
            "'set'",
            "'set'",
            "'set'",
            "'kid'",
            "'none'",
            "'lock_recheck'",
            "'serial'",
            "'losers_fail'",
            "'losers_cached'",
        ],
    ),
    ("coalescing_max_age", &["'inf'", "'inf'", "'100ms'"]),
    ("readers_during_fetch", &["'pass'", "'pass'", "'block'"]),
    ("max_waiters", &["1000", "100"]),
    ("max_fetches", &["64", "2"]),
    ("fetch_timeout", &["'5s'", "'2s'"]),
    ("token_cache_ttl", &["'0s'", "'0s'", "'3s'", "'inf'"]),
    // Of a cache that is always full, the order of two requests decides who is forgotten, and a record cannot tell it.
    ("token_cache_max", &["1000", "50"]),
    ("leeway", &["'5m'", "'0s'", "'2s'"]),
    ("http_unknown_kid", &["401", "403", "500"]),
    ("http_fetch_error", &["503", "401"]),
    ("http_limited", &["401", "429"]),
];

/// The plan of this number, as the text of a scenario. It depends on nothing but its arguments.
pub(super) fn plan(seed: u64, number: u64) -> String {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    Draw(ChaCha8Rng::from_seed(bytes)).plan(seed, number)
}

/// Events fall between the requests that come at even intervals: of one instant, live and replayed differ.
struct Draw(ChaCha8Rng);

impl Draw {
    fn any<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.random_range(0..of.len())]
    }

    fn plan(&mut self, seed: u64, number: u64) -> String {
        let policy = self.policy();
        let parts = [
            format!("# Plan {number} of seed {seed}.\nname = 'plan-{number}'\nseed = {seed}\n"),
            "duration = '16s'\nwarmup = '2s'\n".to_owned(),
            format!("speed = {}\n", self.any(&["2", "4", "4", "6"])),
            self.idp(),
            self.rotations(),
            self.fault(),
            self.any(&["", "", "[[runbook]]\nwhen = '9041ms'\ndo = { restart = { rolling = '2s' } }\n"])
                .to_owned(),
            self.fleet(&policy),
            format!("[fleet.policy]\n{policy}"),
            self.traffic(),
        ];
        parts.concat()
    }

    /// A value for each field, but for those that contradict others.
    fn policy(&mut self) -> String {
        let mut policy: BTreeMap<&str, &str> =
            FIELDS.iter().map(|(field, values)| (*field, self.any(values))).collect();
        if policy["store"] != "'set'" {
            policy.extend([("init", "'lazy'"), ("poll_interval", "'0s'")]);
        }
        if policy["store"].contains("per_kid") && policy["on_unknown_kid"] == "'reject'" {
            policy.insert("on_unknown_kid", "'refetch'");
        }
        if policy["store"] == "'per_kid_over_set'" {
            policy.insert("on_expiry", "'block'");
        }
        let in_turn = ["'serial'", "'lock_recheck'", "'none'"].contains(&policy["coalescing"]);
        if policy["store"].contains("per_kid") || in_turn {
            // Where several fetches are wanted at once, the order of two requests decides which of them the limiter lets
            // pass, and with it who is served until the next: a record cannot tell it.
            policy.insert("limiter", "'none'");
        }
        policy.iter().map(|(field, value)| format!("{field} = {value}\n")).collect()
    }

    fn idp(&mut self) -> String {
        format!(
            "[idp]\nalgorithm = {}\ntoken_lifetime = {}\n{}\n",
            self.any(&["'ES256'", "'ES256'", "'RS256'"]),
            self.any(&["'6s'", "'20s'", "'10m'"]),
            self.any(&["", "max_age = '4s'", "cache_control = 'no-cache'", "cache_control = ''"]),
        )
    }

    fn rotations(&mut self) -> String {
        const STYLES: &[&str] = &[
            "style = 'no-overlap'",
            "style = 'just-in-time'",
            "style = 'rekey'",
            "style = 'revoke'",
            "style = 'late'\nlead = '-2s'",
            "lead = '1s'\nretention = '3s'",
        ];
        let mut text = format!("[[rotation]]\nat = '4037ms'\n{}\n", self.any(STYLES));
        if self.0.random_bool(0.4) {
            text.push_str(&format!("[[rotation]]\nat = '10517ms'\n{}\n", self.any(STYLES)));
        }
        text
    }

    fn fault(&mut self) -> String {
        let fault = self.any(&[
            "",
            "",
            "jwks = { status = 503 }",
            "jwks = { status = 503, keys = 'wrong_set' }",
            "jwks = { hang = true }",
            "jwks = { reset = true }",
            "jwks = { delay = '700ms' }",
            "jwks = { status = 500 }\nprobability = '50%'",
            "jwks = { body = 'empty_set' }",
            "jwks = { body = 'html' }",
            "jwks = { keys = 'swapped' }",
            "jwks = { keys = ['unknown_kty'] }",
            "jwks = { drop = true }",
            "jwks = { stale = '6s' }",
            "token = { status = 503 }",
            "token = { delay = '600ms' }",
        ]);
        let from = self.any(&["2s", "5s"]);
        if fault.is_empty() {
            return String::new();
        }
        format!("[[fault]]\nfrom = '{from}'\nfor = '5s'\n{fault}\n")
    }

    fn fleet(&mut self, policy: &str) -> String {
        // Which worker has a request is seen when it answers, and those who wait for a limiter often get no answer in time.
        let workers: &[&str] = if policy.contains("on_limited = 'wait'") { &["1"] } else { &["1", "1", "2"] };
        format!(
            "[fleet]\nreplicas = {}\nworkers = {}\ncache = {}\n{}\n",
            self.any(&["1", "2", "3"]),
            self.any(workers),
            self.any(&["'cold'", "'staggered'", "{ age = '3s' }"]),
            self.any(&["", "", "", "concurrency = 4"]),
        )
    }

    fn traffic(&mut self) -> String {
        const STREAMS: &[&str] = &[
            "name = 'logins'\ntoken = 'login'\nrate = '8/s'",
            "name = 'id-logins'\ntoken = 'login'\nendpoint = '/session'\nrate = '5/s'",
            "name = 'strays'\ntoken = 'unknown_kid'\nrate = '3/s'\nfrom = '3s'\nuntil = '12s'",
            "name = 'thief'\ntoken = 'key:key-1'\nrate = '5/s'",
            "name = 'busy-thief'\ntoken = 'key:key-1'\nfresh = true\nrate = '5/s'",
            "name = 'burst'\ntoken = 'bad_signature'\nburst = { at = '6500ms', count = 20 }",
            "name = 'others'\ntoken = 'wrong_aud'\nrate = '2/s'",
            "name = 'unsigned'\ntoken = 'alg_none'\nrate = '2/s'",
            "name = 'future'\ntoken = 'not_yet_valid'\nrate = '2/s'",
        ];
        let mut text = format!(
            "[traffic]\nrate = {}\nsessions = {}\nrenew_at = {}\nbalance = {}\narrivals = {}\ntimeout = {}\non_reject = {}\nendpoint = {}\n\
             background = {{ expired = '3%', forged = '3%' }}\n",
            self.any(&["'100/s'", "'200/s'"]),
            self.any(&["5", "40"]),
            self.any(&["'80%'", "'50%'"]),
            self.any(&["'random'", "'random'", "'sticky'"]),
            self.any(&["'poisson'", "'poisson'", "'even'"]),
            self.any(&["'10s'", "'3s'"]),
            self.any(&["'keep'", "'relogin'", "{ renew = { after = '1s' } }"]),
            self.any(&["'/api'", "'/api'", "'/session'"]),
        );
        for stream in STREAMS {
            if self.0.random_bool(0.3) {
                text.push_str(&format!("[[traffic.stream]]\n{stream}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyquake_core::Policy;

    use super::*;

    #[test]
    fn every_field_of_a_policy_is_drawn() {
        let policy = serde_json::to_value(Policy::default()).expect("a policy is data");
        let fields: BTreeSet<&str> =
            policy.as_object().expect("of fields").keys().map(String::as_str).collect();
        assert_eq!(FIELDS.iter().map(|(field, _)| *field).collect::<BTreeSet<_>>(), fields);
    }

    #[test]
    fn a_plan_is_drawn_again_from_its_numbers_and_no_other_is() {
        assert_eq!(plan(7, 3), plan(7, 3));
        let plans: BTreeSet<String> = (0..50).flat_map(|number| [plan(7, number), plan(8, number)]).collect();
        assert_eq!(plans.len(), 100);
    }
}
