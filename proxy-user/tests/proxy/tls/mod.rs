//! TLS as clients see it: rustls where details of a handshake are looked at, OpenSSL for what other stacks make of it.

mod acme;
mod acme_server;
pub mod authority;
mod choice;
mod clients;
mod sessions;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned};

use crate::edge::{Edge, PATIENCE};
use authority::Pair;

/// A client of its own sessions that trusts `cert.pem` of a daemon.
pub fn client(edge: &Edge, pair: Option<&Pair>) -> Arc<ClientConfig> {
    client_of(rustls::crypto::aws_lc_rs::default_provider(), edge, pair)
}

/// The same with other cryptography.
fn client_of(provider: CryptoProvider, edge: &Edge, pair: Option<&Pair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(edge.directory().join("cert.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.resumption = Resumption::in_memory_sessions(16);
    Arc::new(config)
}

/// What came of a request over a TLS connection of its own.
#[derive(Debug)]
struct Answer {
    /// Head and body.
    text: String,
    kind: Option<HandshakeKind>,
    group: Option<NamedGroup>,
}

/// Asks for `/see`, with more header lines, over a connection that was opened for `name`.
fn ask(edge: &Edge, config: &Arc<ClientConfig>, name: &str, host: &str, more: &str) -> std::io::Result<Answer> {
    let tcp = TcpStream::connect(edge.https)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let session = ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, tcp);
    write!(stream, "GET /see HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let group = stream.conn.negotiated_key_exchange_group().map(SupportedKxGroup::name);
    Ok(Answer { text, kind: stream.conn.handshake_kind(), group })
}

/// The same for the name that it is opened for, which is to be answered.
fn get(edge: &Edge, config: &Arc<ClientConfig>, name: &str) -> Answer {
    ask(edge, config, name, name, "").unwrap()
}

/// What `openssl s_client` says of a handshake.
fn openssl(edge: &Edge, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &edge.https.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

/// Puts a whole file in its place.
fn put(edge: &Edge, file: &str, bytes: impl AsRef<[u8]>) {
    let new = edge.directory().join("put.new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, edge.directory().join(file)).unwrap();
}
