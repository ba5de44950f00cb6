//! What the SYN defence of services is set to: what the config asks for, as far as kernel, interfaces and sysctls allow.

use proxy_common::abi::{SynSettings, syn_policy};
use proxy_common::syn::SYN_TIMESTAMPS;
use proxy_common::syn_ack::MAX_SCALE;
use proxy_core::config::{Gate, SynMode};

use super::attach::LinkFacts;
use super::sysctl;

/// The kernel's own switch.
pub const SYNCOOKIES: &str = "net/ipv4/tcp_syncookies";
/// Bytes of an IP packet where no interface says otherwise.
const ETHERNET_MTU: u32 = 1_500;

/// What the host says that bears on cookies.
#[derive(Clone, Debug, Default)]
struct Host {
    mtu: u32,
    /// `tcp_timestamps`, `tcp_sack` and `tcp_window_scaling`.
    timestamps: u64,
    sack: bool,
    scaling: bool,
    /// The larger of `tcp_rmem`'s bound and `rmem_max`, where both could be read.
    receive_buffer: Option<u64>,
}

/// Decides what services get, and logs it with what was found on the host. `stage` says why `front_syn` is missing.
pub fn decide(gate: &Gate, stage: Option<&str>, links: &[LinkFacts]) -> SynSettings {
    let config = &gate.syn_cookies;
    let mut policy = match config.mode {
        None | Some(SynMode::Auto) => syn_policy::AUTO,
        Some(SynMode::Off) => syn_policy::OFF,
        Some(SynMode::Always) => syn_policy::ALWAYS,
    };
    if let Some(why) = stage.filter(|_| policy != syn_policy::OFF) {
        tracing::warn!(why, "SYN cookies are off: this kernel does not take `front_syn` (Linux 6.0 and newer do)");
        policy = syn_policy::OFF;
    }
    if gate.interfaces.is_empty() {
        policy = syn_policy::OFF;
    }
    let veth = links.iter().find(|link| link.veth && link.driver_mode);
    if let Some(link) = veth.filter(|_| config.mode.is_none() && policy != syn_policy::OFF) {
        tracing::info!(
            interface = link.name,
            "SYN cookies are off: a veth sends answers back from XDP only if its other end has an XDP program or \
             GRO on (`ethtool -K IFACE gro on`); see to that and set gate.syn_cookies.mode to \"auto\", or set \
             gate.mode to \"generic\""
        );
        policy = syn_policy::OFF;
    }
    let host = Host::read(links);
    let settings = SynSettings {
        policy,
        threshold: config.threshold,
        release: config.release,
        hold_ms: u32::try_from(config.hold.0.as_millis()).unwrap_or(u32::MAX),
        mtu: host.mtu,
        options: host.options(),
    };
    if policy != syn_policy::OFF {
        let found = sysctl::read(SYNCOOKIES).unwrap_or_else(|error| error.to_string());
        let kept = if settings.options == 0 {
            "MSS only (net.ipv4.tcp_timestamps=2 would keep window scale, SACK and timestamps)"
        } else {
            "MSS, window scale, SACK and timestamps"
        };
        let mode = if policy == syn_policy::ALWAYS { "always" } else { "auto" };
        tracing::info!(mode, threshold = config.threshold, tcp_syncookies = found, kept, "SYN cookies in XDP");
    }
    settings
}

impl Host {
    fn read(links: &[LinkFacts]) -> Self {
        let flag = |name: &str| sysctl::last_number(name).unwrap_or(0);
        let buffers = (sysctl::last_number("net/ipv4/tcp_rmem"), sysctl::last_number("net/core/rmem_max"));
        Self {
            mtu: links.iter().map(|link| link.mtu).min().unwrap_or(ETHERNET_MTU),
            timestamps: flag("net/ipv4/tcp_timestamps"),
            sack: flag("net/ipv4/tcp_sack") != 0,
            scaling: flag("net/ipv4/tcp_window_scaling") != 0,
            receive_buffer: match buffers {
                (Ok(tcp), Ok(any)) => Some(tcp.max(any)),
                _ => None,
            },
        }
    }

    /// [`SynSettings::options`]. The kernel decodes a cookie's timestamp only if it adds no secret of its own to it
    /// (`tcp_timestamps` 2), and refuses options that are turned off (`cookie_timestamp_decode`). The window scale must be
    /// the one that it computes itself when the acknowledgment comes (`tcp_select_initial_window`).
    fn options(&self) -> u32 {
        match self.receive_buffer {
            Some(bytes) if self.timestamps == 2 && self.sack && self.scaling => {
                let scale = bytes.max(1).ilog2().saturating_sub(15).min(MAX_SCALE.into());
                SYN_TIMESTAMPS | scale
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_host() {
        let host = Host { mtu: 1_500, timestamps: 2, sack: true, scaling: true, receive_buffer: Some(6 << 20) };
        // net/ipv4/tcp_output.c: ilog2(6 MiB) is 22, less 15.
        assert_eq!(host.options(), SYN_TIMESTAMPS | 7);
        assert_eq!(
            Host { receive_buffer: Some(1 << 40), ..host.clone() }.options(),
            SYN_TIMESTAMPS | u32::from(MAX_SCALE)
        );
        assert_eq!(Host { receive_buffer: Some(0), ..host.clone() }.options(), SYN_TIMESTAMPS);
        for without in [
            Host { timestamps: 1, ..host.clone() },
            Host { timestamps: 0, ..host.clone() },
            Host { sack: false, ..host.clone() },
            Host { scaling: false, ..host.clone() },
            Host { receive_buffer: None, ..host },
        ] {
            assert_eq!(without.options(), 0, "{without:?}");
        }
    }
}
