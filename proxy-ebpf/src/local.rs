//! The service that listens at a local address.

use proxy_common::abi::proto;
use proxy_common::addr::Addr;

use crate::maps::BINDINGS;

/// The TCP service that listens at exactly this address, else at any address of its family.
#[inline(always)]
pub fn tcp_service(local: Addr, port: u16) -> Option<u32> {
    let exact = BINDINGS.get_ptr(&local.service_key(proto::TCP, port));
    let binding = exact.or_else(|| BINDINGS.get_ptr(&local.any().service_key(proto::TCP, port)))?;
    // SAFETY: a value of `BINDINGS`, valid for the length of the program.
    Some(unsafe { (*binding).service })
}
