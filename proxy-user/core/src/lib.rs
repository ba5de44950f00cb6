//! Tidegate's decisions above the packet: config, policy language, routing, map images. Pure: no sockets, no clock, no unsafe.
#![forbid(unsafe_code)]

pub mod abuse;
pub mod balance;
pub mod config;
pub mod diagnostic;
pub mod dial;
pub mod digest;
pub mod doctor;
pub mod explain;
pub mod fields;
pub mod files;
pub mod geo;
pub mod hello;
pub mod host;
pub mod hosts;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod image;
pub mod import;
mod json;
mod known;
mod mix;
pub mod planned;
pub mod policy;
pub mod proxy_protocol;
pub mod ranges;
pub mod replay;
pub mod route;
pub mod special;
pub mod store;
pub mod tls;
pub mod trace;
