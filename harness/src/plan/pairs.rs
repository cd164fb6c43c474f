//! An IdP and a client that do not go together, whatever the traffic: seen from their settings alone.
//!
//! A run shows what one age of the caches and one kind of traffic make of a pair. This says what they can make of it.

use keyquake_core::{
    LimiterAnchor, LimiterKind, LimiterScope, OnExpiry, OnFetchError, OnMiss, Policy, Span, Store, TtlSource,
};
use keyquake_idp::{Rotation, Style};

use crate::scenario::Idp;
use crate::sut::freshness_of;

/// What is compared.
pub(super) struct Pair<'a> {
    pub(super) idp: &'a Idp,
    pub(super) policy: &'a Policy,
    /// How long after its issue a token can still be accepted.
    pub(super) token_reach: Span,
    /// Whether somebody sends tokens of keys that are made up.
    pub(super) strays: bool,
}

/// The longest that a client can go without looking for a new key, and why.
struct Blindness {
    lasts: Span,
    why: String,
}

impl Pair<'_> {
    /// What can go wrong, in words; nothing if the client has every key in time and drops it in time.
    pub(super) fn risks(&self, rotations: &[(usize, Rotation)]) -> Vec<String> {
        let mut risks = Vec::new();
        let mut seen = None;
        for (i, rotation) in rotations {
            // Those that repeat are alike.
            if seen.replace(*i) == Some(*i) {
                continue;
            }
            let found = [self.short_retention(rotation), self.late(rotation), self.unseen(rotation)];
            risks.extend(found.into_iter().flatten().map(|risk| format!("rotation {}: {risk}", i + 1)));
        }
        if !rotations.is_empty() {
            risks.extend(self.lingering());
        }
        risks.extend(self.uncached());
        risks
    }

    /// A token whose key is gone is refused though it has not expired (hashicorp/vault#11441). A style that has no
    /// retention was chosen for that; a profile was not.
    fn short_retention(&self, rotation: &Rotation) -> Option<String> {
        let reach = self.token_reach;
        let chosen = rotation.retention == Span::ZERO && self.idp.profile.is_none();
        let emergency = matches!(rotation.style, Style::Revoke | Style::Rekey);
        (rotation.retention < reach && !chosen && !emergency).then(|| {
            format!(
                "the old key is kept for {}, but its tokens live for {reach} with the leeway: valid tokens will lose \
                 their key",
                rotation.retention
            )
        })
    }

    /// What nobody has yet, nobody can verify: the wait is the IdP's, and what the client adds to it its own.
    fn late(&self, rotation: &Rotation) -> Option<String> {
        (rotation.style == Style::Late).then(|| {
            let Blindness { lasts, why } = self.blindness(rotation);
            let longer = if lasts > Span::ZERO {
                format!(", and this client {why}: up to {lasts} longer")
            } else {
                String::new()
            };
            format!(
                "this IdP signs with a new key {} before it publishes it, and nobody can verify its tokens until \
                 then{longer}",
                rotation.lead
            )
        })
    }

    /// A client that only polls needs a lead as long as it may go without looking; one that looks for unknown keys, as
    /// long as its cooldown (measured after a hard cut-over: 29 s of refusals with the 30 s of jose and PyJWT). That a
    /// new key signs at once is allowed (OpenID Connect Core 1.0 section 10.1.1).
    fn unseen(&self, rotation: &Rotation) -> Option<String> {
        if rotation.style == Style::Late || !rotation.replace {
            return None;
        }
        let Blindness { lasts, why } = self.blindness(rotation);
        let refused = lasts.saturating_sub(rotation.lead);
        let idp = match rotation.style {
            Style::Rekey => "this IdP gives a new key the old name".to_owned(),
            _ => format!("this IdP publishes a new key {} before it signs", rotation.lead),
        };
        let consequence = if refused.is_infinite() {
            "it refuses valid tokens until it is restarted".to_owned()
        } else {
            format!("it refuses valid tokens for up to {refused}")
        };
        (refused > Span::ZERO).then(|| format!("{idp}, and this client {why}: {consequence}"))
    }

    fn blindness(&self, rotation: &Rotation) -> Blindness {
        let policy = self.policy;
        let on_miss = match rotation.style {
            Style::Rekey => policy.on_bad_signature,
            _ => policy.on_unknown_kid,
        };
        let poll = self.looks_every();
        let every = if poll.is_infinite() { "never again".to_owned() } else { format!("only every {poll}") };
        let header = if policy.ttl_source == TtlSource::Http && self.header().is_some() {
            ", as the JWKS's headers let it"
        } else {
            ""
        };
        match on_miss {
            OnMiss::Reject => Blindness { lasts: poll, why: format!("looks for new keys {every}{header}") },
            _ if policy.on_expiry == OnExpiry::GateOnly => Blindness {
                lasts: self.lifetime().min(poll),
                why: format!(
                    "may not look for new keys within {} of its last fetch{header}",
                    self.lifetime()
                ),
            },
            _ if self.cools_down(rotation) => Blindness {
                lasts: policy.limiter_interval.min(poll),
                why: format!("does not look again within {} of its last fetch", policy.limiter_interval),
            },
            // What is meant for keys like the new one is spent on others (auth0/jwks-rsa-java#173).
            _ if self.strays && policy.limiter != LimiterKind::None => Blindness {
                lasts: policy.limiter_interval.min(poll),
                why: format!(
                    "looks only so often in {}, which made-up keys can use up",
                    policy.limiter_interval
                ),
            },
            OnMiss::Refetch | OnMiss::RefetchBackground => {
                Blindness { lasts: Span::ZERO, why: String::new() }
            }
        }
    }

    /// Whether a fetch for the new key can be held back though nobody sends made-up ones.
    fn cools_down(&self, rotation: &Rotation) -> bool {
        match (self.policy.limiter, self.policy.limiter_anchor) {
            (LimiterKind::None, _) => false,
            // The fetches that find nothing yet use it up.
            _ if rotation.style == Style::Late => true,
            (LimiterKind::Window | LimiterKind::Bucket, _) | (LimiterKind::Cooldown, LimiterAnchor::Miss) => {
                false
            }
            (LimiterKind::Cooldown, LimiterAnchor::Success) => true,
            (LimiterKind::Cooldown, LimiterAnchor::Attempt) => self.policy.limiter_scope == LimiterScope::All,
        }
    }

    /// Whoever has a key that was removed chooses when its tokens expire, so a client is safe from it only once it has
    /// dropped the key. To keep one longer than its own tokens live serves nobody else.
    fn lingering(&self) -> Option<String> {
        let (lifetime, reach) = (self.keeps(), self.token_reach);
        let in_outages =
            self.policy.on_fetch_error == OnFetchError::Stale && self.policy.stale_for.is_infinite();
        let kept = match lifetime {
            lifetime if lifetime.is_infinite() => "until it is restarted".to_owned(),
            lifetime if lifetime > reach => format!("for up to {lifetime}"),
            _ if in_outages => "for as long as the JWKS cannot be had".to_owned(),
            _ => return None,
        };
        let remembers = self.policy.token_cache_ttl > Span::ZERO;
        let what =
            if remembers { "a removed key, or a token of it that has passed," } else { "a removed key" };
        // A set that is fetched for another key replaces the whole. A token that is remembered asks for none.
        let replaced = self.policy.store == Store::Set && self.policy.on_unknown_kid != OnMiss::Reject;
        let unless = if replaced && !remembers { " (unless an unknown one makes it look)" } else { "" };
        Some(format!(
            "this client keeps {what} {kept}{unless}, and the key's own tokens live for {reach}: whoever has \
             stolen it has that long"
        ))
    }

    /// A client that obeys `no-cache` asks for every token (keycloak/keycloak#15216).
    fn uncached(&self) -> Option<String> {
        (self.lifetime() == Span::ZERO && self.policy.on_expiry == OnExpiry::Block).then(|| {
            let header = self.header().unwrap_or_default();
            format!(
                "this IdP says `{header}`, and this client obeys: it fetches the key set for every request"
            )
        })
    }

    /// How long a set stays fresh, at most.
    fn lifetime(&self) -> Span {
        let freshness = freshness_of(self.header().as_deref());
        self.policy.lifetime(freshness).scale(1.0 + self.policy.ttl_jitter)
    }

    /// How long it goes without a fetch while only known keys are asked for. A lookup within `refresh_ahead` of the end
    /// looks again.
    fn looks_every(&self) -> Span {
        let (lifetime, policy) = (self.lifetime(), self.policy);
        let share =
            if lifetime.is_infinite() { Span::ZERO } else { lifetime.scale(policy.refresh_ahead_share) };
        self.ends().saturating_sub(policy.refresh_ahead.max(share))
    }

    /// How long tokens of a key pass that is not in the set any more: as long as it is served, and then as long as those
    /// are remembered that came last.
    fn keeps(&self) -> Span {
        let under =
            if self.policy.store == Store::PerKidOverSet { self.policy.inner_ttl } else { Span::ZERO };
        let served = self.ends().saturating_add(self.policy.last_known_good).saturating_add(under);
        served.saturating_add(self.policy.token_cache_ttl)
    }

    /// When a set that is only read is followed by another.
    fn ends(&self) -> Span {
        let expires = match self.policy.on_expiry {
            OnExpiry::Never | OnExpiry::GateOnly => Span::INFINITE,
            OnExpiry::Block | OnExpiry::LeaderBlocks | OnExpiry::Background => self.lifetime(),
        };
        let polls = Some(self.policy.poll_interval).filter(|interval| *interval > Span::ZERO);
        expires.min(polls.unwrap_or(Span::INFINITE))
    }

    fn header(&self) -> Option<String> {
        self.idp.cache_control()
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{plan, simulated};
    use crate::simulate;

    /// The warnings of a rotation that is written so, before a client that is written so.
    fn risks(rotation: &str, policy: &str) -> Vec<String> {
        with_idp("token_lifetime = \"10m\"", rotation, policy)
    }

    fn with_idp(idp: &str, rotation: &str, policy: &str) -> Vec<String> {
        let lines = format!(
            "[idp]\n{idp}\n[fleet.policy]\nleeway = \"0s\"\n{policy}\n[[rotation]]\nat = \"30s\"\n{rotation}"
        );
        plan(&lines).warnings.clone()
    }

    fn only(risks: Vec<String>) -> String {
        assert_eq!(risks.len(), 1, "{risks:?}");
        risks.into_iter().next().unwrap_or_default()
    }

    const AT_ONCE: &str = "style = \"just-in-time\"";

    #[test]
    fn who_only_polls_needs_a_lead_as_long_as_the_poll() {
        let policy = "ttl = \"5m\"\non_unknown_kid = \"reject\"";
        let risk = only(risks(AT_ONCE, policy));
        assert_eq!(
            risk,
            "rotation 1: this IdP publishes a new key 0s before it signs, and this client looks for new keys only \
             every 5m: it refuses valid tokens for up to 5m"
        );
        assert!(only(risks("lead = \"2m\"", policy)).ends_with("for up to 3m"));
        assert_eq!(risks("lead = \"5m\"", policy), [""; 0]);
        let jitter = format!("{policy}\nttl_jitter = 0.2");
        assert!(only(risks("lead = \"5m\"", &jitter)).ends_with("for up to 1m"));
        let ahead = format!("{policy}\nrefresh_ahead = \"3m\"");
        assert_eq!(risks("lead = \"2m\"", &ahead), [""; 0]);
    }

    #[test]
    fn who_never_polls_is_blind_for_ever_and_keeps_what_it_has() {
        let found = risks(AT_ONCE, "ttl = \"inf\"\non_unknown_kid = \"reject\"");
        assert!(
            found[0]
                .ends_with("looks for new keys never again: it refuses valid tokens until it is restarted")
        );
        assert!(found[1].contains("keeps a removed key until it is restarted"), "{found:?}");
    }

    #[test]
    fn who_looks_for_unknown_keys_needs_a_lead_as_long_as_its_cooldown() {
        let policy = "limiter = \"cooldown\"\nlimiter_interval = \"30s\"";
        assert!(only(risks(AT_ONCE, policy)).contains("within 30s of its last fetch: it refuses"));
        assert_eq!(risks("lead = \"30s\"", policy), [""; 0]);
        let short = format!("{policy}\nttl = \"10s\"");
        assert!(only(risks(AT_ONCE, &short)).ends_with("for up to 10s"), "the ttl ends before it");
        for harmless in [
            "limiter = \"none\"",
            "limiter = \"window\"",
            "limiter = \"cooldown\"\nlimiter_anchor = \"miss\"",
            "limiter = \"cooldown\"\nlimiter_anchor = \"attempt\"",
        ] {
            assert_eq!(risks(AT_ONCE, harmless), [""; 0], "{harmless}");
        }
        let all = "limiter = \"cooldown\"\nlimiter_anchor = \"attempt\"\nlimiter_scope = \"all\"";
        assert_eq!(risks(AT_ONCE, all).len(), 1);
    }

    #[test]
    fn a_timer_or_a_gate_decides_when_a_client_looks() {
        let polls = "ttl = \"inf\"\non_unknown_kid = \"reject\"\npoll_interval = \"5m\"";
        assert!(
            only(risks(AT_ONCE, polls))
                .ends_with("looks for new keys only every 5m: it refuses valid tokens for up to 5m")
        );
        let gate = "ttl = \"4m\"\non_expiry = \"gate_only\"";
        let found = risks(AT_ONCE, gate);
        assert!(found[0].contains("may not look for new keys within 4m of its last fetch: it"), "{found:?}");
        assert!(found[1].contains("keeps a removed key until it is restarted"), "{found:?}");
        let good = "ttl = \"4m\"\nlast_known_good = \"1h\"";
        assert!(only(risks("lead = \"4m\"", good)).contains("keeps a removed key for up to 1h4m"));
    }

    #[test]
    fn a_limiter_can_be_used_up_by_who_makes_keys_up() {
        let flood = "ttl = \"10m\"\n[[traffic.stream]]\nname = \"flood\"\nrate = \"1/s\"\ntoken = ";
        let lines = |token: &str| format!("{flood}\"{token}\"\n[traffic]\nrate = \"10/s\"");
        let risk = only(risks(AT_ONCE, &lines("unknown_kid")));
        assert!(risk.contains("looks only so often in 1m, which made-up keys can use up"), "{risk}");
        assert_eq!(risks(AT_ONCE, &lines("bad_signature")), [""; 0]);
        assert_eq!(risks("lead = \"1m\"", &lines("unknown_kid")), [""; 0]);
    }

    #[test]
    fn a_new_key_under_the_old_name_is_another_question() {
        let rekey = "style = \"rekey\"";
        let risk = only(risks(rekey, "ttl = \"5m\""));
        assert!(risk.contains("gives a new key the old name") && risk.ends_with("for up to 5m"), "{risk}");
        assert_eq!(risks(rekey, "on_bad_signature = \"refetch\""), [""; 0]);
    }

    #[test]
    fn a_late_key_is_nobodys_fault_but_the_idps_until_it_is_there() {
        let late = |policy| only(risks("lead = \"-3s\"", policy));
        assert!(late("limiter = \"none\"").ends_with("nobody can verify its tokens until then"));
        let longer = late("limiter = \"cooldown\"\nlimiter_anchor = \"miss\"\nlimiter_interval = \"2s\"");
        assert!(longer.ends_with("within 2s of its last fetch: up to 2s longer"), "{longer}");
    }

    #[test]
    fn an_old_key_must_stay_as_long_as_its_tokens() {
        let kept = |retention: &str| risks(&format!("{AT_ONCE}\nretention = \"{retention}\""), "");
        assert!(only(kept("9m")).contains("kept for 9m, but its tokens live for 10m"));
        assert_eq!(kept("10m"), [""; 0]);
        assert_eq!(risks("style = \"no-overlap\"", ""), [""; 0], "chosen");
        let lent = with_idp("profile = \"authentik\"", "", "ttl = \"5m\"");
        assert!(only(lent).contains("kept for 0s, but its tokens live for 5m"));
    }

    #[test]
    fn a_removed_key_must_go_before_its_tokens_would_have() {
        assert_eq!(risks(AT_ONCE, "ttl = \"10m\""), [""; 0]);
        let risk = only(risks(AT_ONCE, "ttl = \"6h\""));
        assert!(
            risk.contains("keeps a removed key for up to 6h (unless an unknown one makes it look), and the key's own tokens live for 10m"),
            "{risk}"
        );
        let outage = only(risks(AT_ONCE, "stale_for = \"inf\""));
        assert!(outage.contains("for as long as the JWKS cannot be had"), "{outage}");
        assert_eq!(risks(AT_ONCE, "stale_for = \"inf\"\non_fetch_error = \"fail\""), [""; 0]);
        let risk = only(risks(AT_ONCE, "ttl = \"10m\"\ntoken_cache_ttl = \"5m\""));
        assert!(
            risk.contains("a removed key, or a token of it that has passed, for up to 15m, and"),
            "{risk}"
        );
    }

    #[test]
    fn headers_count_for_who_obeys_them() {
        let obeys = "ttl_source = \"http\"\non_unknown_kid = \"reject\"";
        let idp = |header: &str| format!("token_lifetime = \"10m\"\ncache_control = \"{header}\"");
        let week = with_idp(&idp("max-age=604800"), "lead = \"1d\"", &format!("{obeys}\nhttp_max = \"30d\""));
        assert!(week[0].contains("only every 7d, as the JWKS's headers let it: "), "{week:?}");
        assert!(week[0].ends_with("for up to 6d") && week[1].contains("for up to 7d"), "{week:?}");
        let each = only(with_idp(&idp("no-cache"), AT_ONCE, obeys));
        assert!(
            each.contains("says `no-cache`, and this client obeys: it fetches the key set for every"),
            "{each}"
        );
        assert_eq!(with_idp(&idp("no-cache"), AT_ONCE, ""), [""; 0], "who does not obey");
    }

    /// What the simulator makes of a pair: how many valid tokens are refused after the rotation.
    fn denied(rotation: &str, policy: &str) -> (Vec<String>, u64) {
        let plan = simulated(&format!(
            "[idp]\ntoken_lifetime = \"10m\"\n[[rotation]]\nat = \"30s\"\n{rotation}\n[fleet]\nreplicas = 20\n\
             [fleet.policy]\n{policy}\n[traffic]\nrate = \"100/s\"\n[[traffic.stream]]\nname = \"logins\"\n\
             rate = \"50/s\"\ntoken = \"login\""
        ));
        let record = simulate::run(&plan, "").unwrap().record();
        (plan.warnings.clone(), record.cells[0].metrics.all.denied)
    }

    #[test]
    fn the_simulator_agrees() {
        let (mut safe, mut risky) = (0, 0);
        for rotation in
            ["lead = \"0s\"", "lead = \"5s\"", "lead = \"8s\"", "lead = \"14s\"", "lead = \"20s\""]
        {
            for ttl in ["ttl = \"6s\"", "ttl = \"14s\""] {
                for miss in [
                    "on_unknown_kid = \"reject\"",
                    "limiter = \"none\"",
                    "limiter = \"window\"",
                    "limiter = \"cooldown\"\nlimiter_interval = \"8s\"",
                ] {
                    let (warnings, denied) = denied(rotation, &format!("{ttl}\n{miss}"));
                    assert_eq!(
                        warnings.is_empty(),
                        denied == 0,
                        "{rotation} {ttl} {miss}: {warnings:?} {denied}"
                    );
                    *(if denied == 0 { &mut safe } else { &mut risky }) += 1;
                }
            }
        }
        assert!(safe >= 5 && risky >= 5, "{safe} safe, {risky} risky");
    }
}
