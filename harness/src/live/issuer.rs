//! The IdP of a run: its keys, its face, and the CA behind it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use keyquake_core::{Span, Time};
use keyquake_idp::{Clock, Guard, Idp, KeyRing, Provider, Settings, Tls};
use reqwest::Certificate;
use tokio::net::TcpListener;

use super::AUDIENCE;
use crate::cli::Unusable;
use crate::plan::Plan;

/// An IdP that serves.
pub(super) struct Issuer {
    pub(super) url: String,
    pub(super) keys: KeyRing,
    pub(super) provider: Arc<Provider>,
    /// What its clients have to trust, if it serves HTTPS: as a file has it, and as our own clients take it.
    pub(super) ca: Option<(String, Certificate)>,
}

impl Issuer {
    /// Serves from now on. Its time stands before the lead-in until its clock is started again: a target that has to
    /// become ready first may ask it meanwhile.
    pub(super) async fn open(plan: &Plan, lead_in: Span) -> anyhow::Result<Self> {
        let listener = bind(plan.idp_port).await?;
        let scheme = if plan.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        // This also wakes the crypto library's random generator, whose first use in a process takes tens of milliseconds:
        // the clock does not run yet.
        let keys = KeyRing::generate(&plan.timeline, plan.algorithm).context("cannot generate keys")?;
        let boot = plan.target.as_ref().map_or(Span::ZERO, |target| target.ready_within);
        let before = lead_in.saturating_add(boot);
        let idp = Idp::new(settings(plan, &url), plan.timeline.clone(), keys.clone(), Time::ZERO - before)?;
        let clock = Clock::start_today(before, plan.speed)?;
        let tls = plan.tls.then(|| Tls::generate(today()?, &[]).map_err(anyhow::Error::from)).transpose()?;
        let ca = tls.as_ref().map(|tls| {
            let pem = tls.ca_pem().to_owned();
            Certificate::from_pem(pem.as_bytes()).map(|certificate| (pem, certificate))
        });
        let guard = Guard::new(Ipv4Addr::LOCALHOST.into(), None)?;
        let provider = Arc::new(Provider::new(idp, clock, guard));
        tokio::spawn(keyquake_idp::serve(listener, tls, Arc::clone(&provider), std::future::pending()));
        Ok(Self { url, keys, provider, ca: ca.transpose()? })
    }

    /// The certificate that our own clients trust.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        self.ca.as_ref().map(|(_, certificate)| certificate.clone())
    }
}

/// A port on this machine: this one, or any.
pub(super) async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.map_err(|error| match port {
        0 => anyhow!("cannot open a port on 127.0.0.1: {error}"),
        port => Unusable(format!("error: the IdP cannot have port {port} (`idp.port`): {error}")).into(),
    })
}

/// The system's date.
pub(super) fn today() -> anyhow::Result<keyquake_core::UnixTime> {
    let clock = Clock::start_today(Span::ZERO, 1.0)?;
    Ok(clock.unix(clock.now()))
}

fn settings(plan: &Plan, issuer: &str) -> Settings {
    Settings {
        issuer: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        algorithm: plan.algorithm,
        token_lifetime: plan.token_lifetime,
        cache_control: plan.cache_control.clone(),
        seed: plan.seed,
    }
}
