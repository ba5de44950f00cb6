//! Listening sockets: bound with `SO_REUSEPORT`, one a worker, and entered into the maps that steer to them. Without a
//! kernel half the same sockets are spread over by the kernel's own hash.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use proxy_common::abi::{Binding, MAX_WORKERS, PORT_WORDS, Service, ServiceKey, proto};
use proxy_common::addr::{Addr, port_bit, port_place};
use socket2::{Domain, Protocol, Socket, Type};

use super::Kernel;

/// Connections that may wait to be accepted, a worker; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

impl Kernel {
    /// Listening sockets for one TCP service, one a worker, registered for steering. `service` is the listener's
    /// index. Without a kernel half: `SO_REUSEPORT` and the kernel's hash.
    pub fn bind_tcp(kernel: Option<&Self>, service: u32, addr: SocketAddr, workers: u32) -> Result<Vec<TcpListener>> {
        let sockets =
            (0..workers).map(|worker| Self::rebind_tcp(kernel, service, addr, worker)).collect::<Result<Vec<_>>>()?;
        if let Some(kernel) = kernel {
            kernel.arm_syn(service, addr)?;
            kernel.bind_service(proto::TCP, service, addr, workers)?;
        }
        Ok(sockets)
    }

    /// A new listening socket for one worker of a service that is already bound (the worker comes back).
    pub fn rebind_tcp(kernel: Option<&Self>, service: u32, addr: SocketAddr, worker: u32) -> Result<TcpListener> {
        let socket = open(addr, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into()).with_context(|| cannot_bind(addr, "TCP"))?;
        socket.listen(BACKLOG).with_context(|| cannot_bind(addr, "TCP"))?;
        if let Some(kernel) = kernel {
            let slot = service * MAX_WORKERS + worker;
            kernel.maps.listeners.set_socket(&slot, socket.as_fd()).context("entering a listener into LISTENERS")?;
            kernel.syn.forget_mark(service);
        }
        Ok(socket.into())
    }

    /// UDP sockets for one QUIC service, one a worker, in one reuseport group with `steer_quic` attached.
    pub fn bind_udp(kernel: Option<&Self>, service: u32, addr: SocketAddr, workers: u32) -> Result<Vec<UdpSocket>> {
        let sockets =
            (0..workers).map(|worker| Self::rebind_udp(kernel, service, addr, worker)).collect::<Result<Vec<_>>>()?;
        if let Some(kernel) = kernel {
            kernel.bind_service(proto::UDP, service, addr, workers)?;
        }
        Ok(sockets)
    }

    /// A UDP socket for one worker of a QUIC service.
    pub fn rebind_udp(kernel: Option<&Self>, service: u32, addr: SocketAddr, worker: u32) -> Result<UdpSocket> {
        let socket = open(addr, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&addr.into()).with_context(|| cannot_bind(addr, "UDP"))?;
        if let Some(kernel) = kernel {
            // After bind: an attached program gives a socket a group of its own, which could not join the others'. The
            // first attaches the program to the group, for the others it changes nothing.
            kernel.quic_program()?.attach(&socket).context("attaching steer_quic")?;
            kernel
                .maps
                .quic_socks
                .set_socket(&kernel.quic_slot(service, worker), socket.as_fd())
                .context("entering a QUIC socket into QUIC_SOCKS")?;
        }
        Ok(socket.into())
    }

    /// Enters a service: its entry, its binding, then the port's summary. A packet that finds one finds the rest.
    pub fn bind_service(&self, protocol: u8, service: u32, addr: SocketAddr, workers: u32) -> Result<()> {
        self.maps
            .services
            .set(&service, &Service { workers, generation: self.generation })
            .context("writing SERVICES")?;
        let key = service_key(protocol, addr);
        self.maps.bindings.set(&key, &Binding { service }).context("writing BINDINGS")?;
        let (word, shift) = port_place(key.port);
        let bits = self.maps.ports.get(&word)?.unwrap_or(0) | (u64::from(port_bit(&key)) << shift);
        self.maps.ports.set(&word, &bits).context("writing PORTS")?;
        if let Ok(mut bound) = self.bound.lock() {
            bound.insert(key);
        }
        Ok(())
    }

    /// Removes bindings that an earlier process left and this one did not renew. Called once, after all are bound.
    pub fn seal_bindings(&self) -> Result<()> {
        let Ok(bound) = self.bound.lock() else { return Ok(()) };
        for key in self.maps.bindings.keys()? {
            if !bound.contains(&key) {
                self.maps.bindings.remove(&key)?;
            }
        }
        let mut words = BTreeMap::<u32, u64>::new();
        for key in bound.iter() {
            let (word, shift) = port_place(key.port);
            *words.entry(word).or_default() |= u64::from(port_bit(key)) << shift;
        }
        for word in 0..PORT_WORDS {
            let wanted = words.get(&word).copied().unwrap_or(0);
            if self.maps.ports.get(&word)?.unwrap_or(0) != wanted {
                self.maps.ports.set(&word, &wanted).context("writing PORTS")?;
            }
        }
        Ok(())
    }
}

/// Where a listener at `addr` stands in `BINDINGS`.
pub fn service_key(protocol: u8, addr: SocketAddr) -> ServiceKey {
    Addr::from(addr.ip()).service_key(protocol, addr.port())
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol)).context("opening a socket")?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn cannot_bind(addr: SocketAddr, protocol: &str) -> String {
    format!(
        "cannot listen on {addr} ({protocol}): is another server there (`ss -lnp`)? Ports below 1024 need \
         CAP_NET_BIND_SERVICE, and the address must be this host's"
    )
}
