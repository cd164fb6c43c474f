//! A fleet of the reference service, in this process: each replica on a port of its own.

use std::sync::Arc;

use keyquake_core::Time;
use keyquake_idp::KeyRing;
use rand::Rng;

use super::door::Door;
use super::issuer::bind;
use super::{AUDIENCE, Site, workers};
use crate::plan::Plan;
use crate::seed;
use crate::sut::{self, FetchLog, Replica};

/// The replicas, each with its workers.
pub(super) struct Reference {
    replicas: Vec<Vec<Arc<Replica>>>,
    doors: Vec<Arc<Door>>,
    fetches: FetchLog,
}

impl Reference {
    pub(super) async fn start(site: Site<'_>) -> anyhow::Result<Self> {
        let mut fleet = Self { replicas: Vec::new(), doors: Vec::new(), fetches: FetchLog::default() };
        for number in 0..site.plan.replicas {
            fleet.start_replica(site, number).await?;
        }
        Ok(fleet)
    }

    pub(super) fn doors(&self) -> &[Arc<Door>] {
        &self.doors
    }

    pub(super) fn fetches(&self) -> &FetchLog {
        &self.fetches
    }

    /// What the policy does when a service starts.
    pub(super) fn begin(&self) {
        self.replicas.iter().flatten().for_each(|worker| worker.start());
    }

    /// Starts a replica anew.
    pub(super) fn restart(&self, replica: u32) {
        for worker in &self.replicas[replica as usize] {
            // Its policy was followed before.
            let _ = worker.restart();
        }
    }

    /// Starts the workers of a replica behind one port.
    async fn start_replica(&mut self, site: Site<'_>, number: u32) -> anyhow::Result<()> {
        let listener = bind(0).await?;
        self.doors.push(Door::at(listener.local_addr()?));
        let per_replica = site.plan.workers;
        let workers: Vec<_> = (number * per_replica..(number + 1) * per_replica)
            .map(|instance| site.start_worker(instance, &self.fetches))
            .collect::<Result<_, _>>()?;
        workers::serve(listener, workers.iter().map(|worker| worker.router()).collect());
        self.replicas.push(workers);
        Ok(())
    }
}

impl Site<'_> {
    fn start_worker(&self, instance: u32, fetches: &FetchLog) -> anyhow::Result<Arc<Replica>> {
        let Self { plan, issuer, clock } = *self;
        let worker = Replica::new(sut::Settings {
            replica: instance,
            issuer: issuer.url.clone(),
            audience: AUDIENCE.to_owned(),
            jwks_url: format!("{}/instances/{instance}/.well-known/jwks.json", issuer.url).parse()?,
            ca: issuer.certificate(),
            algorithm: plan.algorithm,
            policy: plan.policy.clone(),
            capacity: plan.capacity,
            jitter_seed: seed::generator(plan.seed, "cache jitter", u64::from(instance)).next_u64(),
            clock,
            fetch_log: fetches.clone(),
        })?;
        if let Some(at) = plan.caches[instance as usize] {
            worker.preload(&published_then(plan, &issuer.keys, at), plan.freshness, at)?;
        }
        Ok(worker)
    }
}

/// The body of the JWKS as it was at a moment.
fn published_then(plan: &Plan, keys: &KeyRing, at: Time) -> Vec<u8> {
    let published = plan.timeline.keys().filter(|(_, life)| life.state(at).published);
    let jwks: Vec<_> = published.filter_map(|(id, _)| Some(keys.get(id)?.key.public_jwk().clone())).collect();
    serde_json::json!({ "keys": jwks }).to_string().into_bytes()
}
