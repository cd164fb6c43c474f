//! HTTPS: a certificate made anew at each start, the throw-away CA that vouches for it, and the handshakes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use keyquake_core::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;

use super::wire::{Line, Lines, Wire};

/// What every certificate is for.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long certificates are good for: some clients refuse those of more than 398 days.
const VALID: time::Duration = time::Duration::days(397);
/// How far a client's date may lie behind ours.
const SLACK: time::Duration = time::Duration::days(1);
/// The longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most handshakes under way; who comes later waits in the system's queue.
const MAX_HANDSHAKES: usize = 1_024;
/// The first byte of every TLS connection: a record of a handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// The most bytes that are read of a request that came without TLS.
const MAX_PLAIN: u64 = 64 * 1_024;
const PLAIN_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 42\r\n\
                            connection: close\r\n\r\nthis port speaks HTTPS: write `https://`.\n";

/// What a provider needs to serve HTTPS: a certificate for this machine, by a CA that nobody trusts unless told to.
///
/// No private key leaves memory, and that of the CA is gone once it has signed.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    ca_pem: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is no host of a URL.
    #[error("a certificate cannot name `{0}`")]
    Name(String),
    /// Nothing that was given can cause it.
    #[error("cannot make certificates")]
    Certificate(#[from] rcgen::Error),
    /// Nothing that was given can cause it either.
    #[error("cannot set up TLS")]
    Config(#[from] tokio_rustls::rustls::Error),
}

impl Tls {
    /// Makes a CA and a certificate for `localhost`, `127.0.0.1`, `::1` and these names and addresses, good from
    /// `today` on for a year.
    ///
    /// # Errors
    ///
    /// [`TlsError::Name`] if a certificate cannot hold one of the names.
    pub fn generate(today: UnixTime, names: &[String]) -> Result<Self, TlsError> {
        let ca = CertifiedIssuer::self_signed(of_ca(today), KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = of_server(today, names)?.signed_by(&key, &ca)?;
        let chain = vec![certificate.der().clone()];
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), ca_pem: ca.pem() })
    }

    /// The CA's certificate as PEM (RFC 7468): what a client must be told to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

fn of_ca(today: UnixTime) -> CertificateParams {
    let mut params = valid_from(today, CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, "keyquake throw-away CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn of_server(today: UnixTime, names: &[String]) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    for name in LOOPBACK.into_iter().chain(names.iter().map(String::as_str)) {
        let named = CertificateParams::new([name.to_owned()]).map_err(|_| TlsError::Name(name.to_owned()))?;
        params.subject_alt_names.extend(named.subject_alt_names);
    }
    params.distinguished_name.push(DnType::CommonName, "keyquake mock IdP");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // OpenSSL's strict mode, the default of Python 3.13, wants to be led to the CA.
    params.use_authority_key_identifier_extension = true;
    Ok(valid_from(today, params))
}

fn valid_from(today: UnixTime, mut params: CertificateParams) -> CertificateParams {
    let today = OffsetDateTime::from_unix_timestamp(today.0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = today.saturating_sub(SLACK);
    params.not_after = params.not_before.saturating_add(VALID);
    params
}

/// A listener whose connections are encrypted, and can be reset all the same.
#[derive(Debug)]
pub(super) struct EncryptedLines {
    lines: Lines,
    config: Arc<ServerConfig>,
    handshakes: JoinSet<Option<(TlsStream<Line>, SocketAddr)>>,
}

impl EncryptedLines {
    pub(super) fn new(lines: Lines, tls: Tls) -> Self {
        Self { lines, config: tls.config, handshakes: JoinSet::new() }
    }
}

impl Listener for EncryptedLines {
    type Io = TlsStream<Line>;
    type Addr = SocketAddr;

    /// The next connection that is through with its handshake: nobody waits for those that are slow.
    async fn accept(&mut self) -> (TlsStream<Line>, SocketAddr) {
        loop {
            let has_room = self.handshakes.len() < MAX_HANDSHAKES;
            tokio::select! {
                (line, address) = self.lines.accept(), if has_room => {
                    let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
                    self.handshakes.spawn(async move {
                        let stream = timeout(HANDSHAKE, shake_hands(acceptor, line)).await.ok()?.ok()?;
                        Some((stream?, address))
                    });
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.lines.local_addr()
    }
}

impl Connected<IncomingStream<'_, EncryptedLines>> for Wire {
    fn connect_info(stream: IncomingStream<'_, EncryptedLines>) -> Self {
        stream.io().get_ref().0.wire()
    }
}

/// An encrypted connection; `None` for who does not begin one.
async fn shake_hands(acceptor: TlsAcceptor, line: Line) -> io::Result<Option<TlsStream<Line>>> {
    match line.first_byte().await? {
        None => Ok(None),
        Some(HANDSHAKE_RECORD) => acceptor.accept(line).await.map(Some),
        Some(_) => turn_away(line).await.map(|()| None),
    }
}

/// Tells a client without TLS what is wrong, and closes the connection in order: what stayed unread would reset it.
async fn turn_away(mut line: Line) -> io::Result<()> {
    line.write_all(PLAIN_ANSWER.as_bytes()).await?;
    line.shutdown().await?;
    tokio::io::copy(&mut line.take(MAX_PLAIN), &mut tokio::io::sink()).await.map(drop)
}
