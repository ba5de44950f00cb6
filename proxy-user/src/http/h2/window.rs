//! Sending within the window that the other side has opened, on streams of clients and of origins.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, SendStream};

/// Hands a piece to `h2` as far as there is room, and waits for more until all of it is handed in; `handed` is told each time.
///
/// # Errors
/// The stream takes nothing any more.
pub(crate) async fn send(
    stream: &mut SendStream<Bytes>,
    mut piece: Bytes,
    last: bool,
    handed: impl Fn(),
) -> Result<(), h2::Error> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let mut room = stream.capacity();
        while room == 0 {
            let polled = poll_fn(|cx| stream.poll_capacity(cx)).await;
            room = polled.unwrap_or(Err(Reason::CANCEL.into()))?;
        }
        let now = piece.split_to(room.min(piece.len()));
        let whole = piece.is_empty();
        stream.send_data(now, last && whole)?;
        handed();
        if whole {
            return Ok(());
        }
    }
    if last { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}
