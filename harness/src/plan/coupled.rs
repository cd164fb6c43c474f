//! Plans whose requests depend on each other in ways that only playing each of them tells.

use keyquake_core::{Coalescing, OnLimited, Readers, Span, Time};
use keyquake_idp::Endpoint;

use super::Plan;
use crate::scenario::{Arrivals, Balance};

/// Why a plan must be played request by request.
pub(super) fn reason(plan: &Plan) -> Option<&'static str> {
    let faults = || plan.timeline.events().iter().filter_map(|timed| timed.event.fault());
    let hit = |endpoint| {
        let mut windows = faults().filter_map(|fault| plan.timeline.fault(fault));
        windows.any(|window| window.fault.endpoint == endpoint)
    };
    let start = Time::ZERO - plan.warmup;
    let moments =
        || plan.timeline.events().iter().map(|timed| timed.at).filter(|at| start < *at).chain([start]);
    let renewed_after =
        plan.token_lifetime.scale(plan.traffic.renew_at.fraction()).saturating_add(plan.fetch_time);
    let fetch = if hit(Endpoint::Jwks) { plan.policy.fetch_timeout } else { plan.fetch_time };
    let waits = fetch.scale(f64::from(plan.policy.attempts)).min(plan.traffic.timeout);
    if plan.streams.iter().any(|stream| stream.spacing == Arrivals::Even && stream.per_second > 0.0) {
        Some("requests come at even intervals")
    } else if plan.traffic.balance == Balance::Sticky {
        Some("sessions keep to their replicas")
    } else if hit(Endpoint::Token) {
        Some("the token endpoint has faults")
    } else if plan.capacity.is_some() {
        Some("workers handle only so many requests at a time")
    } else if matches!(plan.policy.coalescing, Coalescing::LockRecheck | Coalescing::Serial)
        || plan.policy.readers_during_fetch == Readers::Block
    {
        Some("requests queue for the lock of a cache")
    } else if plan.policy.on_limited == OnLimited::Wait {
        Some("requests wait for a limiter to open")
    } else if plan.policy.token_cache_ttl > Span::ZERO {
        Some("tokens that have passed are remembered")
    } else if moments().any(|at| plan.timeline.active_key(at).is_none()) {
        Some("for a while no key signs")
    } else if renewed_after >= plan.token_lifetime {
        Some("tokens can expire before they are renewed")
    } else if renewed_after.saturating_add(waits) >= plan.token_lifetime {
        Some("tokens can expire while requests wait for keys")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::simulated;

    #[test]
    fn what_couples_requests_is_found_and_nothing_else() {
        let free = "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = { status = 503 }\n[traffic]\nrate = \"10/s\"\nrenew_at = \"90%\"\n";
        assert_eq!(simulated(free).coupled, None);
        let cases = [
            ("[traffic]\nrate = \"10/s\"\narrivals = \"even\"", "requests come at even intervals"),
            ("[traffic]\nrate = \"10/s\"\nbalance = \"sticky\"", "sessions keep to their replicas"),
            (
                "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\ntoken = { delay = \"1s\" }",
                "the token endpoint has faults",
            ),
            ("[fleet]\nconcurrency = 3", "workers handle only so many requests at a time"),
            ("[fleet.policy]\ncoalescing = \"lock_recheck\"", "requests queue for the lock of a cache"),
            ("[fleet.policy]\nreaders_during_fetch = \"block\"", "requests queue for the lock of a cache"),
            ("[fleet.policy]\non_limited = \"wait\"", "requests wait for a limiter to open"),
            ("[fleet.policy]\ntoken_cache_ttl = \"1s\"", "tokens that have passed are remembered"),
            ("[[rotation]]\nat = \"10s\"\nstyle = \"revoke\"\nreplace = false", "for a while no key signs"),
            ("[traffic]\nrate = \"10/s\"\nrenew_at = \"100%\"", "tokens can expire before they are renewed"),
            (
                "[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = { hang = true }\n[idp]\ntoken_lifetime = \"20s\"",
                "tokens can expire while requests wait for keys",
            ),
        ];
        for (lines, reason) in cases {
            let plan = simulated(lines);
            assert_eq!(plan.coupled, Some(reason), "{lines}");
            let warning = format!("each request was played, because {reason}");
            assert!(plan.warnings.contains(&warning), "{:?}", plan.warnings);
        }
    }
}
