//! Answers that nobody gets. A short one is read to its end, so that its connection can be kept; a long or slow one takes its
//! connection with it. Nobody waits for that.

use std::future::poll_fn;
use std::time::Duration;

use super::OriginBody;
use super::lease::Lease;

/// Bytes that are read for a connection's sake.
const MOST: usize = 64 << 10;
/// And for how long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets an answer go, of a request that was sent to its end.
pub(crate) fn discard(body: OriginBody, lease: Lease) {
    if body.is_end_stream() {
        return lease.give_back();
    }
    drop(tokio::task::spawn_local(read_out(body, lease)));
}

/// The same for whoever has the time.
pub(super) async fn read_out(mut body: OriginBody, lease: Lease) {
    if let Ok(true) = tokio::time::timeout(PATIENCE, ends(&mut body)).await {
        lease.give_back();
    }
}

/// Whether the body ends as it should, within the bound.
async fn ends(body: &mut OriginBody) -> bool {
    let mut read = 0;
    while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > MOST {
            return false;
        }
    }
    true
}
