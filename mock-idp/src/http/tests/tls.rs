//! What clients see of a provider behind HTTPS, over real sockets.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::fault::{Endpoint, Fault};

/// By real time: much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const ASKING: &str = "GET /.well-known/jwks.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A provider behind HTTPS, and the CA that vouches for it.
struct Served {
    provider: Arc<Provider>,
    address: SocketAddr,
    ca_pem: String,
}

async fn served(names: &[String]) -> Served {
    let provider = provider(vec![just_in_time(0)]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let today = Clock::start_today(Span::ZERO, 1.0).unwrap();
    let tls = Tls::generate(today.unix(today.now()), names).unwrap();
    let ca_pem = tls.ca_pem().to_owned();
    tokio::spawn(serve(listener, Some(tls), Arc::clone(&provider), std::future::pending()));
    Served { provider, address, ca_pem }
}

impl Served {
    /// A connection to the provider under a name, by a client that trusts this CA.
    async fn connect(&self, name: &str, ca_pem: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// What a client gets that asks for the key set, and how that ends.
    async fn fetch(&self, name: &str) -> (String, io::Result<usize>) {
        let mut stream = self.connect(name, &self.ca_pem).await.unwrap();
        stream.write_all(ASKING.as_bytes()).await.unwrap();
        read(stream).await
    }
}

/// Everything that comes, and how it ends.
async fn read(mut stream: impl tokio::io::AsyncRead + Unpin) -> (String, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    (String::from_utf8(bytes).unwrap(), end)
}

#[tokio::test]
async fn the_certificate_is_for_this_machine_and_the_names_that_were_given() {
    let served = served(&["idp.test".to_owned(), "10.1.2.3".to_owned()]).await;
    for name in ["localhost", "127.0.0.1", "::1", "idp.test", "10.1.2.3"] {
        let (answer, end) = served.fetch(name).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && end.is_ok(), "{name}: {answer} {end:?}");
    }
    for name in ["evil.example", "10.1.2.4"] {
        let refused = served.connect(name, &served.ca_pem).await.unwrap_err().to_string();
        assert!(refused.contains("not valid for name"), "{refused}");
    }
}

#[tokio::test]
async fn the_ca_of_another_start_is_not_trusted() {
    let (one, other) = (served(&[]).await, served(&[]).await);
    assert!(one.connect("localhost", &other.ca_pem).await.is_err());
    assert!(!one.ca_pem.contains("PRIVATE") && one.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn a_certificate_is_of_today_and_names_only_what_can_be_named() {
    assert!(
        matches!(Tls::generate(EPOCH, &["naïve".to_owned()]), Err(TlsError::Name(name)) if name == "naïve")
    );
    for date in [UnixTime(i64::MIN), UnixTime(0), UnixTime(i64::MAX)] {
        Tls::generate(date, &[]).unwrap();
    }
}

#[tokio::test]
async fn a_client_without_tls_is_told_so_and_let_go_in_order() {
    let served = served(&[]).await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    for request in [ASKING, &long, "SSH-2.0-OpenSSH_9.2\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answer, end) = read(stream).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(end.is_ok() && body.contains("https://"), "{answer}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    }
    assert!(served.fetch("localhost").await.0.starts_with("HTTP/1.1 200 "));
}

/// Connections whose clients say nothing, begin a handshake, and send what is none.
async fn stuck(served: &Served) -> [TcpStream; 3] {
    let silent = TcpStream::connect(served.address).await.unwrap();
    let mut begun = TcpStream::connect(served.address).await.unwrap();
    begun.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut wrong = TcpStream::connect(served.address).await.unwrap();
    wrong.write_all(&[22; 600]).await.unwrap();
    [silent, begun, wrong]
}

/// By real time: whoever waited for the others would wait for ten seconds.
#[tokio::test]
async fn who_stops_in_mid_handshake_holds_up_nobody() {
    let served = served(&[]).await;
    let _stuck = stuck(&served).await;
    let (answer, _) = timeout(Duration::from_secs(8), served.fetch("localhost")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Time is tokio's: it runs when nothing else does.
#[tokio::test(start_paused = true)]
async fn who_stops_in_mid_handshake_is_dropped() {
    let served = served(&[]).await;
    for mut stream in stuck(&served).await {
        // An alert may come first, and the end may be a reset.
        drop(timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("an end"));
    }
}

#[tokio::test]
async fn a_reset_tears_the_connection_below_tls() {
    let served = served(&[]).await;
    let reset = Fault::new(Endpoint::Jwks, serde_json::from_value(json!({ "reset": true })).unwrap());
    served.provider.with(|idp, now| idp.start_fault(now, reset, Span::INFINITE)).unwrap();
    let (answer, end) = served.fetch("localhost").await;
    assert_eq!((answer.as_str(), end.unwrap_err().kind()), ("", io::ErrorKind::ConnectionReset));
}
