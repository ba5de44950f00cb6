//! The daemon as clients and origins see it: real processes, real sockets on loopback, a plain-socket origin, and
//! clients that share no code with it (plain sockets, curl).

mod abuse;
mod abuse_streams;
mod bad;
mod bodies;
mod bundles;
mod corpus;
mod early_data;
mod early_hints;
mod edge;
mod failing_origins;
mod files;
mod forwarding;
#[path = "../../core/src/geo/samples.rs"]
mod geo_samples;
mod hello;
mod http2_origins;
mod http3;
mod lifecycle;
mod limits;
mod lists;
mod mirror;
mod names;
mod observe;
mod origin;
mod passages;
mod places;
mod policies;
mod python;
mod quic_life;
mod refusals;
mod responses;
mod revisions;
mod routing;
mod strictness;
mod tls;
mod upstreams;
mod urgency;
mod versions;
mod websockets;
