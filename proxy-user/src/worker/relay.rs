//! Bytes from one stream to another and back, until both sides have ended or nothing comes for too long. Each direction ends
//! on its own, so that half-closed connections stay. What cannot be written at once is kept; an idle relay has no buffers.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadlines::Deadline;

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;
/// Pieces in one direction before others have their turn.
const TURNS: usize = 16;

/// What passed a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes from the client.
    pub inwards: u64,
    /// Bytes to the client.
    pub outwards: u64,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides have sent all.
    Whole,
    /// Nothing came for too long.
    Idle,
    /// A side broke off.
    Broken(io::Error),
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Read, and not written yet.
    kept: Bytes,
    unflushed: bool,
    read_all: bool,
    closed: bool,
    passed: u64,
}

/// Copies both ways; `early` has come from the origin before. Silence for `idle` ends it.
pub async fn relay<C, O>(
    client: &mut C,
    origin: &mut O,
    early: Bytes,
    deadline: &Deadline,
    idle: Duration,
) -> (Passed, Ended)
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let mut inwards = Way::default();
    let mut outwards = Way { kept: early, ..Way::default() };
    deadline.set(idle);
    let ended = poll_fn(|cx| {
        let before = inwards.passed + outwards.passed;
        let there = inwards.poll(cx, client, origin);
        let back = outwards.poll(cx, origin, client);
        if inwards.passed + outwards.passed != before {
            deadline.set(idle);
        }
        match (there, back) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Ended::Broken(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Whole),
            _ => deadline.poll_passed(cx).map(|()| Ended::Idle),
        }
    })
    .await;
    (Passed { inwards: inwards.passed, outwards: outwards.passed }, ended)
}

impl Way {
    /// Ready when all was read, written and closed.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            while !self.kept.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.advance(written);
            }
            if self.read_all {
                if !self.closed {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut *from).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => self.read_all = true,
                Poll::Ready(Ok(())) => self.write(cx, piece.filled(), to)?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what the other side takes now and keeps the rest.
    fn write<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, mut piece: &[u8], to: &mut W) -> io::Result<()> {
        while !piece.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, piece) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.passed += written as u64;
                    self.unflushed = true;
                    piece.advance(written);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.kept = Bytes::copy_from_slice(piece);
                    break;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, written: usize) {
        self.kept.advance(written);
        self.passed += written as u64;
        self.unflushed = true;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::worker::deadlines::Deadlines;

    #[tokio::test]
    async fn each_way_ends_on_its_own_and_nothing_is_lost() {
        // Small pipes: most writes have to wait.
        let (mut client, mut inner) = duplex(7);
        let (mut outer, mut origin) = duplex(5);
        let deadlines = Deadlines::default();
        let deadline = deadlines.add();
        let all: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let there = all.clone();
        let both = async {
            let sent = async {
                client.write_all(&there).await.unwrap();
                client.shutdown().await.unwrap();
                let mut back = Vec::new();
                client.read_to_end(&mut back).await.unwrap();
                back
            };
            let answered = async {
                let mut got = Vec::new();
                origin.read_to_end(&mut got).await.unwrap();
                // The client has closed its half, and still gets its answer.
                origin.write_all(b"late").await.unwrap();
                origin.shutdown().await.unwrap();
                got
            };
            tokio::join!(sent, answered)
        };
        let time = Duration::from_secs(60);
        let relayed = relay(&mut inner, &mut outer, Bytes::from_static(b"early "), &deadline, time);
        let ((passed, ended), (back, got)) = tokio::join!(relayed, both);
        assert!(matches!(ended, Ended::Whole), "{ended:?}");
        assert_eq!(passed, Passed { inwards: 100_000, outwards: 10 });
        assert_eq!((back.as_slice(), got), (&b"early late"[..], all));
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_client, mut inner) = duplex(64);
        let (mut outer, _origin) = duplex(64);
        let deadlines = Deadlines::default();
        let deadline = deadlines.add();
        let time = Duration::from_secs(5);
        let start = deadlines.now();
        let relayed = relay(&mut inner, &mut outer, Bytes::new(), &deadline, time);
        let swept = async {
            tokio::task::yield_now().await;
            deadlines.sweep(start + 2 * time);
        };
        let ((passed, ended), ()) = tokio::join!(relayed, swept);
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        assert_eq!(passed, Passed::default());
    }

    #[tokio::test]
    async fn a_side_that_breaks_off_ends_both() {
        let (client, mut inner) = duplex(64);
        let (mut outer, mut origin) = duplex(64);
        drop(client);
        origin.write_all(b"nobody reads this").await.unwrap();
        let deadline = Deadlines::default().add();
        let (_, ended) = relay(&mut inner, &mut outer, Bytes::new(), &deadline, Duration::from_secs(60)).await;
        assert!(matches!(ended, Ended::Broken(_)), "{ended:?}");
    }
}
