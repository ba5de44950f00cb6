//! The stream below a client's HTTP/1 connection: there is one server for both kinds.

use tokio_rustls::server::TlsStream;

use crate::one_of::one_of;
use crate::worker::stream::ClientStream;

/// Whichever it is.
pub enum Io {
    /// In clear text.
    Clear(ClientStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<ClientStream>>),
}

one_of!(Io: Clear, Tls);
