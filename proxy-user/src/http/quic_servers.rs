//! The configurations of TLS that an endpoint takes QUIC connections up with: made anew when others come into force, so that a
//! handshake costs a look at them and no more.

use std::cell::RefCell;
use std::sync::Arc;

use crate::tls::{Current, Tls};

/// The configurations that connections are taken up with.
pub(super) struct Servers {
    tls: Arc<Tls>,
    base: quinn::ServerConfig,
    /// For what was in force last.
    made: RefCell<(Arc<Current>, Vec<Arc<quinn::ServerConfig>>)>,
}

impl Servers {
    /// Those of `tls`, each with what `base` has.
    pub(super) fn new(tls: &Arc<Tls>, base: quinn::ServerConfig) -> Self {
        let current = tls.current();
        let made = RefCell::new((Arc::clone(&current), made(&current, &base, tls)));
        Self { tls: Arc::clone(tls), base, made }
    }

    /// What is in force, to be kept for the length of a handshake.
    pub(super) fn current(&self) -> Arc<Current> {
        self.tls.current()
    }

    /// The configuration of an index.
    pub(super) fn get(&self, current: &Arc<Current>, index: usize) -> Option<Arc<quinn::ServerConfig>> {
        let mut held = self.made.borrow_mut();
        if !Arc::ptr_eq(&held.0, current) {
            *held = (Arc::clone(current), made(current, &self.base, &self.tls));
        }
        held.1.get(index).map(Arc::clone)
    }
}

/// All of them share the base's key of tokens, which the endpoint checks before a name is known.
fn made(current: &Current, base: &quinn::ServerConfig, tls: &Tls) -> Vec<Arc<quinn::ServerConfig>> {
    let with = |(index, crypto): (usize, &Arc<_>)| {
        let mut config = base.clone();
        config.crypto = Arc::clone(crypto) as _;
        if current.takes_early(index) {
            config.validation_token_config(tls.tokens());
        }
        Arc::new(config)
    };
    current.quic.iter().enumerate().map(with).collect()
}
