//! A client's streams that go one way, read to their end, which those that a connection needs may not have before it.

use std::rc::Rc;

use proxy_core::http3::Code;
use proxy_core::http3::one_way::{OneWay, Told, Type};
use quinn::ReadError;

use super::{Shared, said};

/// Reads one until the connection ends; what is not allowed ends it.
pub(super) async fn follow(shared: Rc<Shared>, mut stream: quinn::RecvStream) {
    let mut reader = OneWay::new(shared.bound());
    let mut is = None;
    loop {
        let chunk = match stream.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => chunk,
            Err(ReadError::ConnectionLost(_)) => return,
            // Before it has said what it is, it may go again (RFC 9114 section 6.2).
            Ok(None) | Err(_) if is.is_none() => return,
            Ok(None) | Err(_) => return drop(shared.refuse(Code::ClosedCriticalStream)),
        };
        let mut begins = None;
        let fed = reader.feed(&chunk.bytes, &mut |told| match told {
            Told::Type(what) => begins = Some(what),
            Told::Priority(stream, urgency) => shared.update(stream, urgency),
            Told::Leaves => shared.left.set(true),
        });
        if let Some(what) = begins {
            if what == Type::Other {
                // Nothing more of it is wanted; that it is gone already is as well.
                let _ = stream.stop(said(Code::StreamCreationError));
                return;
            }
            if !shared.admits(what) {
                return drop(shared.refuse(Code::StreamCreationError));
            }
            is = Some(what);
        }
        if let Err(refused) = fed {
            return drop(shared.refuse(refused.code()));
        }
    }
}
