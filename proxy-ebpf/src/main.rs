//! Entry points of the kernel programs. They translate: context → `proxy-common` → action; nothing is decided here.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the program macros generate undocumented entry points")]

mod address;
mod checks;
mod count;
mod events;
mod frame;
mod front;
mod local;
mod maps;
mod object;
mod quic;
mod rates;
mod rules;
mod steer;
mod syn;
mod tables;
mod verdicts;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{sk_lookup, sk_reuseport, xdp};
use aya_ebpf::programs::{SkLookupContext, SkReuseportContext, XdpContext};

use front::Outcome;
use maps::STAGES;

/// Slot of `front_syn` in `STAGES`.
const SYN_STAGE: u32 = 0;

/// `sk_lookup` and `sk_reuseport`: go on, with the socket that was selected or the kernel's own choice.
const SK_PASS: u32 = 1;

/// The gate: drops what a verdict, a denied prefix or a packet rule names.
#[xdp(frags)]
pub fn front(ctx: XdpContext) -> u32 {
    match front::judge(&ctx) {
        Outcome::Drop => xdp_action::XDP_DROP,
        Outcome::Pass => xdp_action::XDP_PASS,
        Outcome::SynDefence => {
            // SAFETY: the context and the map are live. On success the call does not return; without a program in the
            // slot the packet passes.
            unsafe { STAGES.tail_call(&ctx, SYN_STAGE) };
            xdp_action::XDP_PASS
        }
    }
}

/// SYN defence, behind `front`: answers SYNs with cookies, drops acknowledgments of cookies that nobody gave.
#[xdp(frags)]
pub fn front_syn(ctx: XdpContext) -> u32 {
    syn::defend(&ctx)
}

/// Hands a new TCP connection to a worker's listening socket.
#[sk_lookup]
pub fn steer(ctx: SkLookupContext) -> u32 {
    steer::assign(&ctx);
    SK_PASS
}

/// Hands a QUIC datagram to the worker that its connection id names.
#[sk_reuseport]
pub fn steer_quic(ctx: SkReuseportContext) -> u32 {
    quic::select(&ctx);
    SK_PASS
}
