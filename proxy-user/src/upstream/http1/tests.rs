use http_body::Frame;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A connection, and the origin's end of it.
async fn connected() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Connection::new(Io::Tcp(stream)), listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_response_has_room_for_one_like_the_last() {
    let (connection, mut origin) = connected().await;
    for (last, room) in [(0, HEAD_ROOM), (1_000, HEAD_ROOM), (100_000, 100_001), (10 << 20, MOST_FIRST), (1, HEAD_ROOM)]
    {
        let first = {
            let mut wire = connection.0.borrow_mut();
            wire.size = last;
            wire.came = BytesMut::new();
            wire.begin(|out| out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n"));
            let first = wire.first;
            assert_eq!(first, room);
            // Only when something has come.
            assert!(wire.poll_fill(&mut Context::from_waker(Waker::noop()), first).is_pending());
            assert_eq!(wire.came.capacity(), 0, "{last}");
            first
        };
        origin.write_all(b"HTTP/1.1 ").await.unwrap();
        let count = poll_fn(|cx| connection.0.borrow_mut().poll_fill(cx, first)).await.unwrap();
        let wire = connection.0.borrow();
        assert_eq!((count, wire.size, &wire.came[..]), (9, 9, &b"HTTP/1.1 "[..]));
        assert!(wire.came.capacity() >= room, "{last}");
    }
}

#[tokio::test]
async fn a_connection_that_waits_is_open_until_its_origin_says_something() {
    let (connection, mut origin) = connected().await;
    assert!(connection.is_open());
    assert_eq!(connection.0.borrow().came.capacity(), 0);
    origin.write_all(b"unasked").await.unwrap();
    origin.shutdown().await.unwrap();
    while connection.is_open() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_length_beyond_all_others_is_read_as_far_as_it_comes() {
    let (connection, mut origin) = connected().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n").await.unwrap();
    let mut awaited = Awaited::default();
    let head = poll_fn(|cx| connection.0.borrow_mut().poll_answer(cx, &Method::GET, None, &mut awaited)).await.unwrap();
    // No room is left behind the header.
    connection.0.borrow_mut().came = BytesMut::new();
    let mut body = AnswerBody::new(Rc::clone(&connection.0), &head, None);
    origin.write_all(&[b'x'; 1_000]).await.unwrap();
    let piece = poll_fn(|cx| body.poll_frame(cx)).await.unwrap().unwrap();
    assert_eq!(piece.into_data().map_err(|_: Frame<Bytes>| ()), Ok(Bytes::from_static(&[b'x'; 1_000])));
}
