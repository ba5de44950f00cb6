//! Tidegate's I/O shell: kernel loading, workers, TLS, HTTP, upstreams, control. Decisions live in `proxy-core`.

pub mod control;
pub mod daemon;
pub mod doctor;
pub mod events;
pub mod http;
pub mod kernel;
pub mod logging;
pub mod metrics;
pub mod shared;
pub mod stages;
pub mod stats;
pub mod store;
pub mod tls;
pub mod upstream;
pub mod worker;
