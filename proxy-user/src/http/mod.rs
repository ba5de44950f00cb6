//! HTTP: one request type and one response type for HTTP/1, 2 and 3, and the servers that read and write them.
//! What happens to a request is `stages`' business.

pub mod body;
pub mod date;
pub mod early;
pub mod fault;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod head;
pub mod initials;
pub mod pace;
pub mod quic;
pub mod quic_frames;
mod quic_servers;
mod quic_socket;
pub mod reply;
mod request;
pub mod tcp;
pub mod upgrade;
