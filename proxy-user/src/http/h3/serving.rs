//! A connection's requests: taken up, served beside each other in one task, and finished when the connection is to end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proxy_core::http3::Code;
use quinn::{VarInt, ZeroRttAccepted};
use tokio::time::Timeout;

use super::receive::H3RequestBody;
use super::send::Sender;
use super::{Gone, Shared, one_way, said, stream};
use crate::worker::accept;
use crate::worker::connection::Order;

/// Shortest and longest time for the last packets to arrive before a connection is closed.
const LAST_PACKETS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The end of a handshake before which requests are taken.
pub(in crate::http) type Rest = Option<Pin<Box<Timeout<ZeroRttAccepted>>>>;

type Requests = FuturesUnordered<Pin<Box<dyn Future<Output = Result<(), Gone>>>>>;

/// Why a connection takes no more requests.
enum Leaving {
    /// It has said so, and those that it took are done.
    Finished,
    /// It is to be closed when those that it took are done, or at once where it is cut.
    Close,
}

/// Takes requests until the client leaves, idles too long, or the worker drains; then finishes what is open.
pub(in crate::http) async fn serve(shared: &Rc<Shared>, mut rest: Rest) -> Result<(), Gone> {
    let (connection, quic) = (&shared.client, &shared.quic);
    let mut open = Requests::new();
    let mut beside: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>> = FuturesUnordered::new();
    let mut finishing = false;
    let mut requests = pin!(quic.accept_bi());
    let mut one_ways = pin!(quic.accept_uni());
    let leaving = poll_fn(|cx| {
        // What comes behind the handshake's end is not taken for early data.
        if let Poll::Ready(done) = poll_ended(&mut rest, cx) {
            rest = None;
            connection.set_early(false);
            if !done {
                accept::failed(connection, "not done after early data");
                connection.cut();
                return Poll::Ready(Ok(Leaving::Close));
            }
        }
        loop {
            go_on(shared, &mut open, cx);
            let Poll::Ready(accepted) = requests.as_mut().poll(cx) else { break };
            let (send, receive) = accepted.map_err(Gone::of)?;
            requests.set(quic.accept_bi());
            take(shared, &open, send, receive);
        }
        while let Poll::Ready(accepted) = one_ways.as_mut().poll(cx) {
            let stream = accepted.map_err(Gone::of)?;
            one_ways.set(quic.accept_uni());
            beside.push(Box::pin(one_way::follow(Rc::clone(shared), stream)));
        }
        loop {
            match connection.poll_order(cx) {
                Order::None => break,
                Order::Close => return Poll::Ready(Ok(Leaving::Close)),
                Order::Finish => finishing = true,
            }
        }
        while let Poll::Ready(Some(())) = beside.poll_next_unpin(cx) {}
        // What clients say of urgency counts by now.
        while shared.give_turn() {
            go_on(shared, &mut open, cx);
        }
        finishing |= shared.left.get() && open.is_empty();
        if finishing && !shared.refusing.replace(true) {
            beside.push(Box::pin(Rc::clone(shared).refuse_more()));
            while let Poll::Ready(Some(())) = beside.poll_next_unpin(cx) {}
        }
        if finishing && open.is_empty() { Poll::Ready(Ok(Leaving::Finished)) } else { Poll::Pending }
    });
    let leaving = leaving.await?;
    if connection.is_cut() {
        quic.close(said(Code::RequestRejected), b"");
        return Ok(());
    }
    if matches!(leaving, Leaving::Close) {
        poll_fn(|cx| {
            go_on(shared, &mut open, cx);
            while shared.give_turn() {
                go_on(shared, &mut open, cx);
            }
            if open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    // The last data may still be under way: closing now would cut it off. A client that knows it is over closes first.
    let (shortest, longest) = LAST_PACKETS;
    let wait = (quic.rtt() * 3).clamp(shortest, longest);
    tokio::select! {
        _ = quic.closed() => {}
        () = tokio::time::sleep(wait) => quic.close(said(Code::NoError), b""),
    }
    Ok(())
}

/// Goes on with the requests that are awake, each as far as it gets.
fn go_on(shared: &Shared, open: &mut Requests, cx: &mut Context<'_>) {
    while let Poll::Ready(Some(ended)) = open.poll_next_unpin(cx) {
        if let Err(Gone(error)) = ended {
            tracing::debug!(client = %shared.client.client, error, "HTTP/3 request broke off");
        }
    }
}

/// Whether the handshake was done in time; pending where that is known.
fn poll_ended(rest: &mut Rest, cx: &mut Context<'_>) -> Poll<bool> {
    match rest {
        // What it says means nothing on this side (quinn); where the connection is gone, the next request tells.
        Some(rest) => rest.as_mut().poll(cx).map(|done| done.is_ok()),
        None => Poll::Pending,
    }
}

/// Takes a request up, or refuses it where the client was told that it will not be looked at (RFC 9114 section 5.2): it may ask for
/// the same elsewhere.
fn take(shared: &Rc<Shared>, open: &Requests, send: quinn::SendStream, receive: quinn::RecvStream) {
    let (mut reply, mut body) = (Sender::new(send, shared), H3RequestBody::new(receive, shared));
    if shared.takes(VarInt::from(body.id()).into_inner()) {
        open.push(Box::pin(stream::serve(Rc::clone(&shared.client), reply, body)));
    } else {
        body.stop(Code::RequestRejected);
        reply.reset(Code::RequestRejected);
    }
}
