//! quinn's connection ids, made so that `steer_quic` can read worker and generation from them.

use std::time::Duration;

use proxy_common::abi::QuicKey;
use proxy_common::cid::{CID_LEN, Place, decode, encode};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// Random bytes fetched at once; one id takes eight.
const POOL: usize = 512;

/// Makes the connection ids of one worker.
pub struct Generator {
    key: QuicKey,
    place: Place,
    pool: [u8; POOL],
    used: usize,
}

impl Generator {
    /// For a worker of a process generation.
    pub fn new(key: QuicKey, place: Place) -> Self {
        Self { key, place, pool: [0; POOL], used: POOL }
    }

    fn nonce(&mut self) -> [u8; 8] {
        if self.used + 8 > POOL {
            if let Err(error) = getrandom::fill(&mut self.pool) {
                // Ids would repeat: the kernel's random source cannot fail once it is seeded, so this is a broken host.
                tracing::error!(%error, "no random bytes for connection ids");
            }
            self.used = 0;
        }
        let nonce = self.pool[self.used..].first_chunk().copied().unwrap_or_default();
        self.used += 8;
        nonce
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let nonce = self.nonce();
        ConnectionId::new(&encode(self.key, nonce, self.place))
    }

    /// Ids of other workers and generations are ours too: quinn answers them with a stateless reset.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let bytes: [u8; CID_LEN] = cid.as_ref().try_into().map_err(|_| InvalidCid)?;
        decode(self.key, bytes).map(|_| ()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_new_decodable_and_foreign_ones_refused() {
        let key = QuicKey { k0: 3, k1: 4 };
        let place = Place { worker: 5, generation: 2 };
        let mut generator = Generator::new(key, place);
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let id = generator.generate_cid();
            let bytes: [u8; CID_LEN] = id.as_ref().try_into().unwrap();
            assert_eq!(decode(key, bytes), Some(place));
            assert!(generator.validate(&id).is_ok());
            assert!(seen.insert(bytes));
        }
        let other = Generator::new(QuicKey { k0: 9, k1: 4 }, place).generate_cid();
        assert!(generator.validate(&other).is_err());
    }
}
