//! Tidegate's I/O shell: kernel loading, workers, TLS, HTTP, upstreams, control. Decisions live in `proxy-core`.

/// Commands and this library name each other alike, wherever they stand.
extern crate self as proxy_user;

pub mod cli;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod events;
pub mod http;
pub mod kernel;
pub mod logging;
pub mod metrics;
mod one_of;
pub mod shared;
pub mod stages;
pub mod stats;
pub mod store;
pub mod tls;
pub mod upstream;
pub mod watch;
pub mod worker;
