//! `front`: parses the packet, has it decided on, counts, and says what becomes of it.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use aya_log_ebpf::{debug, info};
use proxy_common::abi::{MAX_RULE_SLOTS, Reason, VerdictSlot, proto};
use proxy_common::addr::Addr;
use proxy_common::decide::{Decision, Tables as _, decide};
use proxy_common::parse::{Frame, Packet as IpPacket, Parsed, parse_any};
use proxy_common::plain::{plain, plain_again};
use proxy_common::prompt::{Prompt, prompt};

use crate::checks::count_checks;
use crate::frame::{Everyday, First, Packet, whole_len};
use crate::maps::{GATE, RULE_HITS, SHADOW_HITS};
use crate::tables::Maps;
use crate::{count, events, verdicts};

/// What becomes of a packet.
pub enum Outcome {
    /// It is dropped.
    Drop,
    /// It passes.
    Pass,
    /// It passes unless `front_syn` has something to say.
    SynDefence,
}

/// Decides on the packet, counts, and says what becomes of it.
#[inline(always)]
pub fn judge(ctx: &XdpContext) -> Outcome {
    let packet = Packet(ctx);
    let everyday = Everyday(packet);
    let mut length = everyday.len() as u64;
    let mut maps = Maps::new(ctx.ctx);
    let mut headers = Headers(MaybeUninit::uninit());
    // Read through a pointer that the compiler knows nothing of: it keeps the address of each field that is read later on in
    // a place of its own on the stack otherwise, and fills these places for every packet. Made here, where every way comes
    // by: a register that is set on some ways only must not be put aside on the others.
    let place: *mut IpPacket = black_box(headers.0.as_mut_ptr());
    let mut known_plain = plain(&everyday);
    if let Some(plain) = &known_plain {
        let known = if logs() {
            Prompt::Unsure
        } else {
            prompt(plain.src, plain.dst, plain.proto, plain.dport, &maps, &maps.config())
        };
        match known {
            Prompt::Drop(verdict, rule) => {
                let drop = Decision { rule: Some(rule), verdict: Some(verdict), ..Decision::new(Reason::Verdict) };
                settle(ctx, &drop, length);
                return Outcome::Drop;
            }
            Prompt::Clear => maps.clear = true,
            Prompt::Unsure => {}
        }
        // Written down for those that go on, and read anew for it: what is kept meanwhile costs those, too, that stop here.
        known_plain = plain_again(&Everyday(Packet(black_box(ctx))));
    }
    let parsed = if let Some(plain) = known_plain {
        headers.set(plain.words());
        // SAFETY: the address of `headers`, a packet now.
        Parsed::Ip(unsafe { &*place })
    } else {
        // Zeroed: the verifier wants the memory that a function gets written.
        headers.set([0; WORDS]);
        let found = parse_frame(ctx.ctx, place);
        length = found >> KIND_BITS;
        match found & KIND_MASK {
            // SAFETY: likewise; zeroed, which is a valid packet, and filled in by the parser.
            IP => Parsed::Ip(unsafe { &*place }),
            MALFORMED => Parsed::Malformed,
            _ => Parsed::NonIp,
        }
    };
    let decision = decide(&packet, parsed, &maps);
    settle(ctx, &decision, length);
    if let Parsed::Ip(packet) = parsed {
        log(ctx, packet.src, packet.dport, &decision);
    }
    if decision.reason.drops() {
        return Outcome::Drop;
    }
    match parsed {
        Parsed::Ip(packet) if packet.proto == proto::TCP && cookies_on() => Outcome::SynDefence,
        _ => Outcome::Pass,
    }
}

/// Counts the packet, and makes it an event where it is to be one.
#[inline(always)]
fn settle(ctx: &XdpContext, decision: &Decision<NonNull<VerdictSlot>>, length: u64) {
    count::reason(decision.reason, length);
    if let Some(rule) = decision.rule {
        count::add(RULE_HITS.get_ptr_mut(rule & (MAX_RULE_SLOTS - 1)), length);
    }
    if let Some(rule) = decision.would {
        count::add(SHADOW_HITS.get_ptr_mut(rule & (MAX_RULE_SLOTS - 1)), length);
    }
    if let Some(verdict) = decision.verdict {
        verdicts::mark_drop(verdict, length);
    }
    if decision.counted != 0 {
        count_checks(decision.counted, length);
    }
    events::sample(ctx, decision, length);
}

/// Whether some service may answer SYNs with cookies.
#[inline(always)]
fn cookies_on() -> bool {
    GATE.get(0).is_some_and(|gate| gate.cookies != 0)
}

/// Room for a parsed packet on the stack.
#[repr(align(8))]
struct Headers(MaybeUninit<IpPacket>);

impl Headers {
    /// Writes it in whole words, in place: moving the packet would be a call of a `memcpy` that goes byte by byte.
    #[inline(always)]
    fn set(&mut self, words: [u64; WORDS]) {
        let place: *mut u64 = self.0.as_mut_ptr().cast();
        let mut at = 0;
        for word in words {
            // SAFETY: within the packet, which is so many words, and aligned like this type.
            unsafe { place.add(at).write_volatile(word) };
            at += 1;
        }
    }
}

/// Words of a parsed packet.
const WORDS: usize = size_of::<IpPacket>() / size_of::<u64>();

const NON_IP: u64 = 0;
const MALFORMED: u64 = 1;
const IP: u64 = 2;
/// Low bits of what [`parse_frame`] returns; above them stands the length of the frame.
const KIND_BITS: u32 = 2;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;

/// [`parse_any`] as a global function. The verifier follows every way through the parser to the end of the program that it
/// stands in, so what comes after it is a program of its own, in which a header may hold anything.
///
/// A frame in several buffers is never an everyday one, which lies whole in the first: it comes here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn parse_frame(ctx: *mut xdp_md, headers: *mut IpPacket) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: the one caller passes a reference that nobody else holds. The verifier wants the check for null.
    let Some(headers) = (unsafe { headers.as_mut() }) else { return MALFORMED };
    let whole = whole_len(&ctx);
    let kind = store_parsed(parse_any(&First { linear: Packet(&ctx), whole }), headers);
    (kind & KIND_MASK) | ((whole as u64) << KIND_BITS)
}

/// Hands on what the parser found.
#[inline(always)]
fn store_parsed(parsed: Parsed, headers: &mut IpPacket) -> u64 {
    match parsed {
        Parsed::NonIp => NON_IP,
        Parsed::Malformed => MALFORMED,
        Parsed::Ip(packet) => {
            *headers = packet;
            IP
        }
    }
}

/// Whether drops are logged: the short answer leaves them to the way that does it, for want of room on the stack.
#[inline(always)]
fn logs() -> bool {
    level_enabled(Level::Info)
}

/// Diagnostics; pruned by the verifier while the level is off.
#[inline(always)]
fn log(ctx: &XdpContext, source: Addr, port: u16, decision: &Decision<NonNull<VerdictSlot>>) {
    let source = source.to_bytes();
    let rule = decision.rule.unwrap_or(0);
    if decision.reason.drops() {
        info!(ctx, "drop {:i} port {} reason {} rule {}", source, port, decision.reason as u32, rule);
    } else if decision.reason != Reason::Pass {
        debug!(ctx, "pass {:i} port {} reason {} rule {}", source, port, decision.reason as u32, rule);
    }
}
