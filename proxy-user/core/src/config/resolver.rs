//! Model: who is asked for the addresses of origins.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most name servers.
pub const MAX_SERVERS: u32 = 8;

/// Where names of origins are looked up. `/etc/hosts` comes first in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resolver {
    /// Name servers, as `"127.0.0.53:53"`; those of `/etc/resolv.conf` unless set.
    #[schemars(length(max = MAX_SERVERS))]
    pub servers: Vec<SocketAddr>,
}

impl Resolver {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
