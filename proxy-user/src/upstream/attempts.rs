//! TCP to whichever of a server's addresses answers first, in the order and at the pace of [`proxy_core::dial::Race`].

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proxy_core::dial::{Race, Step};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The first connection; the other attempts end with it.
pub(super) async fn connect(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    if let [only] = addresses.as_slice() {
        return TcpStream::connect((*only, port)).await;
    }
    let start = Instant::now();
    let mut race = Race::new(addresses);
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let wait = match race.step(start.elapsed().as_nanos() as u64) {
            Step::Begin(address) => {
                attempts.spawn(TcpStream::connect((address, port)));
                continue;
            }
            Step::Over => return Err(failed),
            Step::Wait => None,
            Step::WaitUntil(time) => Some(start + Duration::from_nanos(time)),
        };
        let ended = match wait {
            None => attempts.join_next().await,
            Some(time) => match tokio::time::timeout_at(time.into(), attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failed = error,
            // A task that did not come to its end says as little as none.
            Some(Err(_)) | None => {}
        }
        race.failed();
    }
}
