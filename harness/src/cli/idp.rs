//! `keyquake idp`: the mock IdP alone, on a port of its own.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use keyquake_core::{Algorithm, Span, Time};
use keyquake_idp::{
    Clock, Guard, Idp as Machine, KeyRing, Provider, Rotation, Settings, SigningKey, Style, Timeline, Tls,
};
use reqwest::Url;

use super::listen::listen;
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::terminal::{print, say};

/// Holds the token that `/admin` and `/token` ask for; it never shows in a list of processes.
const ADMIN_TOKEN: &str = "KEYQUAKE_ADMIN_TOKEN";
/// How long before a rotation its key is generated.
const KEY_AHEAD: Span = Span::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Off loopback, requests to /admin and /token must carry the bearer token that the
environment variable KEYQUAKE_ADMIN_TOKEN names.

Rotate by hand:
  curl -X POST -H 'content-type: application/json' -d '{\"style\":\"no-overlap\"}' \\
       http://127.0.0.1:8400/admin/rotate

With --tls, for services that refuse a key set without HTTPS: the file that is
printed holds the certificate of a CA made at this start. Trust it there alone:
  NODE_EXTRA_CA_CERTS=keyquake-ca.pem node server.js
  SSL_CERT_FILE=keyquake-ca.pem python server.py
  curl --cacert keyquake-ca.pem https://127.0.0.1:8400/.well-known/jwks.json")]
pub(super) struct Idp {
    /// The port; 0 for a free one.
    #[arg(long, default_value_t = 8400, allow_negative_numbers = true)]
    port: u16,
    /// The address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The issuer, where services reach it under another name than its address.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Serve HTTPS, for `localhost`, the address and the issuer's name.
    #[arg(long)]
    tls: bool,
    /// Where the certificate of the CA goes that services have to trust then.
    #[arg(long, default_value = "keyquake-ca.pem", value_name = "FILE", requires = "tls")]
    ca_file: PathBuf,
    /// What its keys sign with.
    #[arg(long, value_enum, default_value_t = Alg::Rs256)]
    algorithm: Alg,
    /// How long its tokens live.
    #[arg(long, default_value = "1h", value_name = "DURATION", allow_hyphen_values = true)]
    token_lifetime: Span,
    /// The `max-age` of its JWKS.
    #[arg(long, default_value = "5m", value_name = "DURATION", allow_hyphen_values = true)]
    max_age: Span,
    /// Rotate again and again.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    rotate_every: Option<Span>,
    /// How it rotates then.
    #[arg(long, value_enum, default_value_t = Rotating::Overlap)]
    style: Rotating,
    /// How long a new key is published before it signs, in style `overlap`.
    #[arg(long, default_value = "1m", value_name = "DURATION", allow_hyphen_values = true)]
    lead: Span,
    /// What the names of tokens follow from.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Alg {
    #[value(name = "RS256")]
    Rs256,
    #[value(name = "ES256")]
    Es256,
}

/// Whether this can name an issuer (OpenID Connect Discovery 1.0 section 3).
fn is_issuer(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    })
}

/// The styles that make sense again and again.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rotating {
    Overlap,
    JustInTime,
    NoOverlap,
    Revoke,
}

impl Idp {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let interrupt = Interrupt::listen(|| {})?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.serve(interrupt))
    }

    async fn serve(self, mut interrupt: Interrupt) -> anyhow::Result<End> {
        let address = SocketAddr::new(self.host, self.port);
        let token = std::env::var(ADMIN_TOKEN).ok();
        let guard = Guard::new(self.host, token.as_deref())
            .map_err(|error| Unusable(format!("error: {error}\nhint: set {ADMIN_TOKEN}")))?;
        self.check().map_err(|error| Unusable(format!("error: {error}")))?;
        let timeline = Timeline::new(Vec::new(), Vec::new())?;
        let listener = listen(address).await?;
        let scheme = if self.tls { "https" } else { "http" };
        let issuer = self.issuer.clone().unwrap_or(format!("{scheme}://{}", listener.local_addr()?));
        let keys = KeyRing::generate(&timeline, self.algorithm()).context("cannot generate keys")?;
        let clock = Clock::start_today(Span::ZERO, 1.0)?;
        let idp = Machine::new(self.settings(&issuer), timeline, keys, clock.now())
            .map_err(|error| Unusable(format!("error: {error}")))?;
        let tls = if self.tls { Some(self.certify(&issuer, &clock)?) } else { None };
        interrupt.defer();
        print(&format!("{issuer}\n"));
        say(&format!("JWKS at {issuer}/.well-known/jwks.json, tokens at {issuer}/token; Ctrl-C ends it"));
        if self.tls {
            say(&format!("the CA to trust is in {}", self.ca_file.display()));
        }
        let provider = Arc::new(Provider::new(idp, clock, guard));
        let interrupted = async move { interrupt.asked().await };
        tokio::select! {
            outcome = keyquake_idp::serve(listener, tls, Arc::clone(&provider), interrupted) => outcome?,
            outcome = self.keep_rotating(&provider) => match outcome? {},
        }
        Ok(End::Done)
    }

    /// Makes a certificate for the names under which services reach it, and writes down the CA that they must trust.
    fn certify(&self, issuer: &str, clock: &Clock) -> anyhow::Result<Tls> {
        let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
        let address = Some(self.host).filter(|host| !host.is_unspecified()).map(|host| host.to_string());
        // A URL has brackets around an address of version 6, and a certificate has not.
        let names = host.into_iter().map(|host| host.trim_matches(['[', ']']).to_owned()).chain(address);
        let tls = Tls::generate(clock.unix(clock.now()), &names.collect::<Vec<_>>())
            .map_err(|error| Unusable(format!("error: {error}")))?;
        std::fs::write(&self.ca_file, tls.ca_pem()).map_err(|error| {
            let file = self.ca_file.display();
            Unusable(format!("error: cannot write `{file}`: {error}\nhint: `--ca-file` names another place"))
        })?;
        Ok(tls)
    }

    /// What is wrong with the flags, in words.
    fn check(&self) -> Result<(), String> {
        let lengths = [
            ("--token-lifetime", Some(self.token_lifetime)),
            ("--max-age", Some(self.max_age)),
            ("--rotate-every", self.rotate_every),
            ("--lead", Some(self.lead)),
        ];
        if let Some((flag, _)) = lengths.into_iter().find(|(_, length)| length.is_some_and(Span::is_infinite))
        {
            return Err(format!("`{flag}` must be finite"));
        }
        let nanos = self.token_lifetime.as_nanos();
        if nanos == 0 || !nanos.is_multiple_of(1_000_000_000) {
            return Err(
                "`--token-lifetime` must be whole seconds, at least one: claims count nothing smaller".into(),
            );
        }
        if self.rotate_every.is_some_and(|every| every < KEY_AHEAD) {
            return Err(format!(
                "`--rotate-every` must be at least {KEY_AHEAD}: keys take a while to generate"
            ));
        }
        self.check_rotations()?;
        match &self.issuer {
            Some(issuer) if self.tls && issuer.starts_with("http://") => {
                Err(format!("the issuer `{issuer}` is plain `http`, and `--tls` serves HTTPS alone"))
            }
            Some(issuer) if !is_issuer(issuer) => Err(format!(
                "the issuer `{issuer}` must be an `http` or `https` URL without query and fragment"
            )),
            _ => Ok(()),
        }
    }

    /// Rotations that pile up would end with a JWKS that takes no more keys.
    fn check_rotations(&self) -> Result<(), String> {
        let Some(every) = self.rotate_every else { return Ok(()) };
        let Rotation { lead, retention, .. } = self.rotation(Time::ZERO);
        let kept = lead.saturating_add(retention);
        // With the key that signs and the one that is about to.
        let published = kept.as_nanos() / every.as_nanos() + 2;
        if published <= Timeline::MAX_KEYS as u64 {
            return Ok(());
        }
        Err(format!(
            "rotating every {every} would publish {published} keys at once, and there is room for {}\n\
             hint: in this style a key stays for {kept}: lower `--token-lifetime` or rotate less often",
            Timeline::MAX_KEYS
        ))
    }

    /// Rotates again and again, each time with a key that was generated shortly before.
    async fn keep_rotating(&self, provider: &Provider) -> anyhow::Result<Infallible> {
        let Some(every) = self.rotate_every else { return Ok(std::future::pending().await) };
        let clock = provider.clock();
        let mut at = clock.now();
        loop {
            at = at + every;
            tokio::time::sleep_until(clock.instant(at - KEY_AHEAD).into()).await;
            let algorithm = self.algorithm();
            let key = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await??;
            tokio::time::sleep_until(clock.instant(at).into()).await;
            match provider.with(|idp, now| idp.rotate(now, self.rotation(now), Some(key))) {
                Ok(new) => new.into_iter().for_each(|new| say(&format!("rotation to {new} begins"))),
                // Rotations by hand came between. Whoever points at this provider still needs its last key.
                Err(error) => {
                    say(&format!("warning: this was the last rotation: {error}"));
                    return Ok(std::future::pending().await);
                }
            }
        }
    }

    fn rotation(&self, at: Time) -> Rotation {
        let kept = self.token_lifetime.saturating_add(Span::from_secs(300));
        match self.style {
            Rotating::Overlap => {
                Rotation { lead: self.lead, retention: kept, ..Rotation::new(at, Style::Overlap) }
            }
            Rotating::JustInTime => Rotation { retention: kept, ..Rotation::new(at, Style::JustInTime) },
            Rotating::NoOverlap => Rotation::new(at, Style::NoOverlap),
            Rotating::Revoke => Rotation::new(at, Style::Revoke),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self.algorithm {
            Alg::Rs256 => Algorithm::Rs256,
            Alg::Es256 => Algorithm::Es256,
        }
    }

    fn settings(&self, issuer: &str) -> Settings {
        Settings {
            issuer: issuer.to_owned(),
            audience: "keyquake".to_owned(),
            algorithm: self.algorithm(),
            token_lifetime: self.token_lifetime,
            cache_control: Some(format!("public, max-age={}", self.max_age.as_secs())),
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        idp: Idp,
    }

    fn idp(flags: &str) -> Idp {
        Flags::parse_from(["idp", "--algorithm", "ES256"].into_iter().chain(flags.split(' '))).idp
    }

    #[tokio::test(start_paused = true)]
    async fn it_rotates_for_ever() {
        let idp = idp("--rotate-every 1h --token-lifetime 3h");
        let timeline = Timeline::new(Vec::new(), Vec::new()).unwrap();
        let keys = KeyRing::generate(&timeline, idp.algorithm()).unwrap();
        let clock = Clock::start_today(Span::ZERO, 1.0).unwrap();
        let machine = Machine::new(idp.settings("http://idp.test"), timeline, keys, clock.now()).unwrap();
        let guard = Guard::new(Ipv4Addr::LOCALHOST.into(), None).unwrap();
        let provider = Provider::new(machine, clock, guard);
        let a_while = std::time::Duration::from_secs(1_000 * 3_600 + 1_800);
        assert!(tokio::time::timeout(a_while, idp.keep_rotating(&provider)).await.is_err());
        let (active, known) = provider.with(|idp, now| {
            (idp.standing(now).active_key().map(|key| key.to_string()), idp.timeline().keys().count())
        });
        assert_eq!((active.as_deref(), known), (Some("key-1001"), Timeline::MAX_KEYS));
    }

    #[test]
    fn rotations_that_pile_up_are_refused() {
        assert_eq!(idp("--rotate-every 4s --token-lifetime 600s").check(), Ok(()));
        let complaint = idp("--rotate-every 3s --token-lifetime 600s").check().unwrap_err();
        assert!(complaint.contains("322 keys") && complaint.contains("16m"), "{complaint}");
        assert_eq!(idp("--rotate-every 1s --style no-overlap").check(), Ok(()));
    }
}
