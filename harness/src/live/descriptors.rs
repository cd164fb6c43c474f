//! Open files: a run holds both ends of each of its connections, so the system's limit for one process comes soon.

use crate::plan::{Plan, Target};

use super::token_client;

/// What a run opens beside its connections: standard streams, event queues, the files of a report.
const REST: u64 = 64;

/// The limit of the system does not allow for the plan.
#[derive(Debug, thiserror::Error)]
#[error("the run may have {needed} files and connections open at once, and the system allows {allowed}")]
pub(crate) struct TooFew {
    /// What the limit would have to be.
    pub(crate) needed: u64,
    /// What it is, and cannot be raised above.
    pub(crate) allowed: u64,
}

/// Makes sure that a plan never runs out of descriptors, and raises this process's limit if that helps.
///
/// # Errors
///
/// Even the highest limit that this process may set itself is too low.
pub(crate) fn reserve(plan: &Plan) -> Result<(), TooFew> {
    raise_to(needed(plan))
}

/// The most descriptors that a plan has open at once.
fn needed(plan: &Plan) -> u64 {
    let replicas = u64::from(plan.replicas);
    let kept = replicas * u64::from(plan.traffic.connections);
    // When all that are kept are busy, the requests beyond them open their own.
    let requests = kept + u64::from(plan.traffic.max_in_flight);
    let renewals = u64::from(plan.traffic.sessions).min(token_client::AT_ONCE as u64);
    let fetches = plan.caches.len() as u64 * plan.policy.max_concurrent_fetches() as u64;
    let listeners = replicas + 1;
    // To each keeper of a target, from it, and from what it keeps; and its log.
    let pipes = plan.target.as_ref().and_then(Target::command).map_or(0, |_| 4 * replicas);
    REST + listeners + pipes + 2 * (requests + renewals + fetches)
}

#[cfg(unix)]
fn raise_to(needed: u64) -> Result<(), TooFew> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is `None`.
    let allows = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if allows(current) {
        return Ok(());
    }
    if allows(maximum) && setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).is_ok() {
        return Ok(());
    }
    // Some systems refuse less than the maximum that they state.
    Err(TooFew { needed, allowed: maximum.filter(|limit| *limit < needed).or(current).unwrap_or(0) })
}

/// Other systems have no such limit.
#[cfg(not(unix))]
fn raise_to(_needed: u64) -> Result<(), TooFew> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;

    #[test]
    fn both_ends_of_every_connection_count() {
        let plan = |replicas: u32, rest: &str| {
            let traffic = "[traffic]\nrate = \"10/s\"\nconnections = 8\nmax_in_flight = 100\nsessions = 5";
            plan(&format!("[fleet]\nreplicas = {replicas}\n{rest}\n{traffic}"))
        };
        let one_fetch = "policy = { coalescing = \"set\" }";
        assert_eq!(needed(&plan(1, one_fetch)), 64 + 2 + 2 * (8 + 100 + 5 + 1));
        assert_eq!(needed(&plan(10, one_fetch)), 64 + 11 + 2 * (80 + 100 + 5 + 10));
        let many = "policy = { coalescing = \"none\", max_fetches = 3 }";
        assert_eq!(needed(&plan(10, many)), 64 + 11 + 2 * (80 + 100 + 5 + 30));
    }

    #[test]
    fn a_stream_that_is_alone_opens_nothing_of_its_own() {
        let plan = |stream: &str| {
            plan(&format!("[fleet]\nreplicas = 10\n[traffic]\nrate = \"10/s\"\nconnections = 8\n{stream}"))
        };
        // It takes its replicas from the fleet, and its requests are among `max_in_flight`.
        let thief = "[[traffic.stream]]\nname = \"thief\"\ntoken = \"key:key-1\"\nrate = \"1/s\"\n\
                     replicas = [9]\nalone = true";
        assert_eq!(needed(&plan(thief)), needed(&plan("")));
    }

    #[cfg(unix)]
    #[test]
    fn what_no_limit_can_allow_is_refused_with_both_numbers() {
        let TooFew { needed, allowed } = raise_to(1 << 40).unwrap_err();
        assert!(needed == 1 << 40 && allowed < needed);
    }
}
