//! Sending within the window that an origin has opened.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

/// How much the window lets in now of what is wanted, which is not nothing.
///
/// # Errors
/// The stream takes nothing any more.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, h2::Error>> {
    stream.reserve_capacity(wanted);
    let mut room = stream.capacity();
    while room == 0 {
        room = ready!(stream.poll_capacity(cx)).unwrap_or(Err(Reason::CANCEL.into()))?;
    }
    Poll::Ready(Ok(room))
}

/// Hands a piece to `h2` as far as there is room, and waits for more until all of it is handed in.
///
/// # Errors
/// The stream takes nothing any more.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut piece: Bytes, last: bool) -> Result<(), h2::Error> {
    while !piece.is_empty() {
        let room = poll_fn(|cx| poll_room(stream, cx, piece.len())).await?;
        let now = piece.split_to(room.min(piece.len()));
        let whole = piece.is_empty();
        stream.send_data(now, last && whole)?;
        if whole {
            return Ok(());
        }
    }
    if last { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}
