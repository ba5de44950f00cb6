//! The ClientHello phase: what the policies say of a client before any handshake. The hello of a TCP connection is peeked at,
//! so that TLS reads it afterwards; that of QUIC comes from [`crate::http::initials`]. Nothing of this runs where no
//! policy looks at a ClientHello.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use proxy_core::hello::{ClientHello, Found, MAX_STREAM_BYTES, from_stream};
use proxy_core::policy::{Action, ConnectionView, RequestView};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::accept;
use super::connection::Connection;
use super::hold::hold;
use crate::stages::policy::feedback;
use crate::stages::{access_log, policy};
use crate::stats::bump;

/// Bytes looked at first; most hellos fit, and the buffer grows for others.
const FIRST_BYTES: usize = 2_048;
/// A fatal alert, `access_denied` (RFC 8446 section 6.2), in a record of its own.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What a hello came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// TCP, whose handshake has shown that the source is real.
    Tcp,
    /// QUIC; `validated` if the client has shown that it receives what is sent to its address (RFC 9000 section 8.1).
    Quic {
        /// Whether the source is real.
        validated: bool,
    },
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its handshake goes on.
    Accepted,
    /// It ends here.
    Refused,
    /// It is reset.
    Reset,
    /// It is held for a while, then reset.
    Held(Duration),
    /// It would be refused and its source dropped by the kernel, but nobody knows yet that it came from there.
    Unproven,
}

/// Asks the policies about a TCP connection whose hello comes within `limit`, and says whether its handshake may go on. What
/// cannot be read as a hello is refused: TLS takes more than is read here, such as an alert before the hello, and nobody
/// shall pass unseen by that.
pub async fn admits(connection: &Connection, stream: &TcpStream, limit: Duration) -> bool {
    let mut bytes = vec![0; FIRST_BYTES];
    let (hello, count) = match tokio::time::timeout(limit, peek(stream, &mut bytes)).await {
        Ok(Ok((Found::Hello(hello), count))) => (hello, count),
        other => {
            let why = match other {
                Ok(Ok((Found::Not(why), _))) => why,
                Ok(Ok((Found::TooLarge, _))) => "a ClientHello that is too long",
                Ok(_) => "the client left before its ClientHello was whole",
                Err(_) => "no ClientHello in time",
            };
            accept::failed(connection, why);
            return false;
        }
    };
    match judge(connection, *hello, Over::Tcp) {
        Admission::Accepted => return true,
        Admission::Refused => {
            // What was not read when a socket closes turns the end into a reset, and the alert would be lost. Whether the
            // client still takes it makes no difference.
            let _ = stream.try_read(bytes.get_mut(..count).unwrap_or_default());
            let _ = stream.try_write(&ACCESS_DENIED);
        }
        Admission::Reset => connection.cut(),
        Admission::Held(time) => {
            hold(&connection.worker, time).await;
            connection.cut();
        }
        // Whoever sends over TCP is where it says.
        Admission::Unproven => {}
    }
    false
}

/// Looks at the first bytes until they are a whole hello, or cannot become one. `Found::More` means that the client left.
pub(super) async fn peek(stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<(Found, usize)> {
    let mut seen = 0;
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let peeked = stream.try_io(Interest::READABLE, || {
            let count = recv(stream.as_raw_fd(), bytes, MsgFlags::MSG_PEEK)?;
            // The bytes stay, so that the socket stays readable: the next edge is what comes behind them.
            if count == seen && count > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        });
        match peeked {
            Ok(0) => return Ok((Found::More, 0)),
            Ok(count) => seen = count,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if ready.is_read_closed() => return Ok((Found::More, seen)),
            Err(_) => continue,
        }
        let found = from_stream(bytes.get(..seen).unwrap_or_default());
        if found != Found::More {
            return Ok((found, seen));
        }
        if seen == bytes.len() {
            bytes.resize((seen * 2).min(MAX_STREAM_BYTES), 0);
        }
    }
}

/// Asks the policies about a hello, which the connection keeps for its requests, and does what follows from their answer
/// but for refusing: verdicts, counters, a line of the log. Verdicts are about real sources only: anybody can write a hello
/// in another's name.
pub fn judge(connection: &Connection, hello: ClientHello, over: Over) -> Admission {
    let worker = &connection.worker;
    let live = worker.live();
    let policies = &live.snapshot.policies;
    let (client, local) = (connection.client.ip(), connection.local);
    let view = RequestView {
        wall_ms: policy::wall_ms(policies),
        connection: ConnectionView { hello: Some(&hello), places: policies.places(), ..ConnectionView::default() },
        ..RequestView::of_hello(client, local, &connection.listener.name, over != Over::Tcp, &hello)
    };
    let now = Instant::now();
    let proven = over != (Over::Quic { validated: false });
    let decision = policies.evaluate_hello(&view, proven.then(|| worker.monotonic_ns(now)));
    let admission = match decision.action {
        Action::Pass | Action::Allow(_) => {
            connection.keep_hello(hello);
            return Admission::Accepted;
        }
        Action::Reset { .. } => Admission::Reset,
        Action::Tarpit { hold, .. } => Admission::Held(hold),
        // The other two are not decided here.
        Action::Block { .. } | Action::Challenge { .. } | Action::Redirect { .. } => Admission::Refused,
    };
    if !proven && !decision.pushes.is_empty() {
        return Admission::Unproven;
    }
    bump(&worker.stats.blocked, 1);
    if !decision.pushes.is_empty() {
        feedback::write(worker, &live.snapshot, client, &decision.pushes, now);
    }
    access_log::refused(connection, &live.snapshot, &hello, &decision);
    admission
}
