//! HTTP/2 to clients (RFC 9113). One task serves a connection with all of its streams: it takes what has come, polls the streams
//! that were woken, and sends what they have for it in one piece. What bytes mean is [`proxy_core::http2`]'s, what happens to a
//! request is `stages`'; this keeps the connection and its streams.

mod alive;
pub mod body;
mod coming;
mod out;
mod receive;
mod serving;
mod session;
mod signal;
pub mod state;
mod stream;
mod streams;
mod tunnel;
mod turns;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use proxy_core::http2::Broken;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::serving::Serving;
use crate::worker::connection::Connection;

/// After the last frame what still comes is thrown away for so long: closing with bytes unread would reset the connection, and
/// the client might never see why it ended.
const LINGER: Duration = Duration::from_secs(1);
/// So many bytes at most.
const MOST_LINGERED: usize = 1 << 20;
/// Bytes that are thrown away at a time.
const DISCARDED: usize = 4 << 10;

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// The client has closed it, does not answer, or is not to be answered.
    Gone,
    /// All is done, and it was told so.
    Done,
}

/// Why a connection ended that should not have.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The client broke the protocol.
    #[error("{}", .0.why)]
    Broken(Broken),
    /// The socket gives or takes nothing more.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Serves a connection until it ends.
pub async fn serve<I: AsyncRead + AsyncWrite + Unpin + 'static>(connection: Rc<Connection>, io: I) {
    let mut serving = Box::new(Serving::new(&connection, io));
    let outcome = (&mut *serving).await;
    let closes = match outcome {
        Ok(End::Done) => true,
        Ok(End::Gone) => false,
        Err(error) => {
            if let Failed::Broken(broken) = &error {
                connection.abused(broken.kind);
                serving.end(broken.code);
            }
            tracing::debug!(client = %connection.client, protocol = "HTTP/2", %error, "the connection ended with an error");
            matches!(error, Failed::Broken(_))
        }
    };
    serving.leave();
    if closes && !connection.is_cut() {
        // Whoever takes or sends for longer is cut off.
        let _ = tokio::time::timeout(LINGER, close(&mut serving)).await;
    }
}

/// Ends the connection so that the client gets all that was sent.
async fn close<I: AsyncRead + AsyncWrite + Unpin>(serving: &mut Serving<I>) {
    let (mut told, mut left) = (false, MOST_LINGERED);
    poll_fn(|cx| {
        if !told {
            // The client may have left already.
            if ready!(serving.poll_drain(cx)).is_err() {
                return Poll::Ready(());
            }
            let _ = ready!(Pin::new(&mut serving.io).poll_shutdown(cx));
            told = true;
        }
        loop {
            let mut room = [0; DISCARDED];
            let mut room = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut serving.io).poll_read(cx, &mut room)) {
                Ok(()) if !room.filled().is_empty() && room.filled().len() < left => left -= room.filled().len(),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}
