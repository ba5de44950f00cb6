//! ClientHellos of QUIC: the datagrams that an endpoint receives are looked at on their way to quinn, which shows nothing of a
//! client's first packets. Their keys follow from the version and the connection id (RFC 9001 section 5.2), so that
//! anybody on the path can do the same; this hides nothing and proves nothing of the sender.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use proxy_core::hello::{Assembly, ClientHello, Found, Frames, Initial, Version, initials};
use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{Keys, Version as QuicVersion};
use smallvec::SmallVec;
use tokio::sync::Notify;

/// Clients whose hellos are held until their connection is taken up; beyond, the oldest is given up.
const MAX_CLIENTS: usize = 1_024;
/// Shortest connection id that a client may choose for its first packet (RFC 9000 section 7.2): others are ours.
const MIN_CID_BYTES: usize = 8;
/// The packet number stands in so many bytes, and a sample of what follows those hides it (RFC 9001 section 5.4.2).
const NUMBER_BYTES: usize = 4;

/// A client's address and the connection id that it chose.
type Client = (SocketAddr, SmallVec<[u8; 20]>);

/// The hellos that have come, whole or in part.
#[derive(Debug, Default)]
pub struct Hellos {
    table: Mutex<Table>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<Client, Assembly>,
    /// The oldest first; those that were taken out still stand here.
    order: VecDeque<Client>,
}

impl Hellos {
    /// Looks at a datagram.
    pub fn see(&self, client: SocketAddr, datagram: &[u8]) {
        for initial in initials(datagram).filter(|initial| initial.destination.len() >= MIN_CID_BYTES) {
            let Some(payload) = decrypt(datagram, &initial) else { continue };
            let key = (client, SmallVec::from_slice(initial.destination));
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            let assembly = table.assembly(key);
            Frames::new(&payload).flatten().for_each(|(offset, piece)| assembly.add(offset, piece));
            if assembly.found() != Found::More {
                self.arrived.notify_waiters();
            }
        }
    }

    /// Forgets what has come of a hello that a client is to send again.
    pub fn forget(&self, client: SocketAddr, chosen: &[u8]) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.clients.remove(&(client, SmallVec::from_slice(chosen)));
    }

    /// Waits for the hello of a client whose first packet has come, and forgets it; None where it is none, or nothing of it
    /// was seen. `chosen` is the connection id that the packet went to; where the client was `retried`, it went to another one
    /// that nobody tells, and the only other hello from that address counts: of several it is none.
    pub async fn take(&self, client: SocketAddr, chosen: &[u8], retried: bool) -> Option<ClientHello> {
        loop {
            let arrived = self.arrived.notified();
            let found = {
                let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
                let key = table.key((client, SmallVec::from_slice(chosen)), retried)?;
                let found = table.clients.get(&key)?.found();
                if found != Found::More {
                    table.clients.remove(&key);
                }
                found
            };
            match found {
                Found::More => arrived.await,
                Found::Hello(hello) => return Some(*hello),
                Found::Not(_) | Found::TooLarge => return None,
            }
        }
    }
}

impl Table {
    /// Where the hello of a client stands. After a Retry what still comes for the first connection id does not count, and of
    /// several others none can be trusted to be the one that TLS reads: all are forgotten.
    fn key(&mut self, client: Client, retried: bool) -> Option<Client> {
        if !retried {
            return self.clients.contains_key(&client).then_some(client);
        }
        let mut others = self.clients.keys().filter(|key| key.0 == client.0 && key.1 != client.1);
        let found = others.next().cloned();
        if others.next().is_some() {
            self.clients.retain(|key, _| key.0 != client.0);
            return None;
        }
        found
    }

    /// What has come of a client's hello; a new client may take the place of the oldest.
    fn assembly(&mut self, client: Client) -> &mut Assembly {
        if !self.clients.contains_key(&client) {
            while self.order.len() >= MAX_CLIENTS {
                if let Some(oldest) = self.order.pop_front() {
                    self.clients.remove(&oldest);
                }
            }
            self.order.push_back(client.clone());
        }
        self.clients.entry(client).or_default()
    }
}

/// The frames of a client's Initial; None where it is not one with keys that follow from its connection id.
fn decrypt(datagram: &[u8], initial: &Initial<'_>) -> Option<Vec<u8>> {
    let keys = keys(initial.version, initial.destination, Side::Server)?.remote;
    let mut packet = datagram.get(initial.start..initial.end)?.to_vec();
    let at = initial.number - initial.start;
    let behind = at + NUMBER_BYTES;
    let sample: SmallVec<[u8; 16]> = SmallVec::from_slice(packet.get(behind..behind + keys.header.sample_len())?);
    let (first, rest) = packet.split_first_mut()?;
    keys.header.decrypt_in_place(&sample, first, rest.get_mut(at - 1..behind - 1)?).ok()?;
    let length = usize::from(*first & 3) + 1;
    let (header, payload) = packet.split_at_mut_checked(at + length)?;
    // Clients count from 0, and send a few Initials only: what was cut off above is zero (RFC 9000 section 12.3).
    let number = header.get(at..)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    keys.packet.decrypt_in_place(number, header, payload).ok().map(<[u8]>::to_vec)
}

/// The Initial keys of one side.
fn keys(version: Version, chosen: &[u8], side: Side) -> Option<Keys> {
    let version = match version {
        Version::V1 => QuicVersion::V1,
        Version::V2 => QuicVersion::V2,
    };
    Some(TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()?.keys(chosen, side, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOSEN: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    /// A handshake message with one cipher suite and nothing else.
    const HELLO: &[u8] = b"\x01\0\0\x29\x03\x030123456789abcdef0123456789abcdef\0\0\x02\x13\x01\x01\0";

    fn client() -> SocketAddr {
        "192.0.2.1:5000".parse().unwrap()
    }

    /// An Initial of a client, with one CRYPTO frame and padding.
    fn packet(number: u8, offset: u8, piece: &[u8]) -> Vec<u8> {
        let keys = keys(Version::V1, &CHOSEN, Side::Client).unwrap().local;
        let mut payload = [&[6, offset, piece.len() as u8], piece, &[0; 30]].concat();
        let length = (1 + payload.len() + keys.packet.tag_len()) as u8;
        let header = [&[0xc0, 0, 0, 0, 1, 8], &CHOSEN[..], &[0, 0, 0x40, length, number]].concat();
        let tag = keys.packet.encrypt_in_place(number.into(), &header, &mut payload).unwrap();
        let mut packet = [&header, &payload, tag.as_ref()].concat();
        let at = header.len() - 1;
        let sample = packet[at + 4..at + 4 + keys.header.sample_len()].to_vec();
        let (first, rest) = packet.split_first_mut().unwrap();
        keys.header.encrypt_in_place(&sample, first, &mut rest[at - 1..at]).unwrap();
        packet
    }

    #[tokio::test]
    async fn hellos_of_several_packets_in_any_order() {
        let (front, back) = HELLO.split_at(20);
        let hellos = Hellos::default();
        hellos.see(client(), &packet(1, 20, back));
        let waiting = hellos.take(client(), &CHOSEN, false);
        let (hello, ()) = tokio::join!(waiting, async { hellos.see(client(), &packet(0, 0, front)) });
        let hello = hello.unwrap();
        assert_eq!((hello.ciphers, hello.ja4.as_str()), (vec![0x1301], "q12i010000_0f2cb44170f4_000000000000"));
        assert_eq!(hellos.take(client(), &CHOSEN, false).await, None, "it is taken once");
    }

    #[tokio::test]
    async fn what_is_none_is_not_waited_for() {
        let hellos = Hellos::default();
        let mut broken = packet(0, 0, HELLO);
        *broken.last_mut().unwrap() ^= 1;
        hellos.see(client(), &broken);
        hellos.see(client(), &[0x40; 50]);
        assert_eq!(hellos.take(client(), &CHOSEN, false).await, None);
        hellos.see(client(), &packet(0, 0, b"\x02\0\0\0"));
        assert_eq!(hellos.take(client(), &CHOSEN, false).await, None);
        hellos.see(client(), &packet(0, 0, HELLO));
        hellos.see(client(), &packet(1, 20, b"another's"));
        assert_eq!(hellos.take(client(), &CHOSEN, false).await, None, "two hellos in one");
    }

    #[tokio::test]
    async fn after_a_retry_only_the_new_hello_counts() {
        let hellos = Hellos::default();
        let first = [1; 20];
        hellos.see(client(), &packet(0, 0, HELLO));
        assert_eq!(hellos.take(client(), &first, false).await, None, "another connection's");
        assert_eq!(hellos.take(client(), &CHOSEN, true).await, None, "the one before the Retry");
        assert!(hellos.take(client(), &first, true).await.is_some());
        hellos.see(client(), &packet(0, 0, HELLO));
        hellos.forget(client(), &CHOSEN);
        assert_eq!(hellos.take(client(), &first, true).await, None);
        // Of two new ones nobody knows which TLS reads.
        hellos.see(client(), &packet(0, 0, HELLO));
        hellos.table.lock().unwrap().assembly((client(), SmallVec::from_slice(&[2; 8])));
        assert_eq!(hellos.take(client(), &first, true).await, None);
        assert!(hellos.table.lock().unwrap().clients.is_empty());
    }

    #[test]
    fn a_flood_takes_no_more_than_its_room() {
        let hellos = Hellos::default();
        let piece = packet(0, 0, &HELLO[..9]);
        for port in 1..3_000 {
            hellos.see(SocketAddr::new(client().ip(), port), &piece);
        }
        let table = hellos.table.lock().unwrap();
        assert_eq!((table.clients.len(), table.order.len()), (MAX_CLIENTS, MAX_CLIENTS));
    }
}
