//! The one unsafe packet read: XDP's linear data as a bounds-checked [`Frame`], and beside it a slower one for frames that
//! lie in several buffers, of which the linear data is the first.

use core::mem::MaybeUninit;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use proxy_common::parse::Frame;

/// Offsets beyond this are refused; the verifier wants a bound on what is added to a packet pointer.
const MAX_OFFSET: usize = 0x3fff;

/// 1 where the programs were loaded for frames in several buffers (`xdp.frags`, Linux 5.18). The loader sets it; elsewhere
/// the verifier prunes what asks for such frames, with helpers that the kernel would not know.
#[unsafe(no_mangle)]
static FRAGS: Global<u8> = Global::new(0);

/// Whether frames may lie in several buffers.
#[inline(always)]
fn frags() -> bool {
    FRAGS.load() != 0
}

/// Bytes of the frame in all its buffers.
#[inline(always)]
pub fn whole_len(ctx: &XdpContext) -> usize {
    if frags() {
        // SAFETY: the context that the kernel passed in.
        unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
    } else {
        Packet(ctx).len()
    }
}

/// Reads that go on where the linear data ends. For functions that read little.
pub struct Anywhere<'a>(pub &'a XdpContext);

impl Frame for Anywhere<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // SAFETY: a local. Read back so that the bounds check and the read go by one register: kernels before 6.18 do not
        // carry the bound of a number over to its sum with a constant.
        let offset = unsafe { (&raw const offset).read_volatile() };
        let linear = Packet(self.0).bytes(offset);
        if linear.is_some() || !frags() {
            return linear;
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the context that the kernel passed in, and room for `N` bytes, all of which a call without an error
        // writes.
        unsafe {
            let failed = bpf_xdp_load_bytes(self.0.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32) < 0;
            if failed { None } else { Some(bytes.assume_init()) }
        }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        Packet(self.0).interface()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        whole_len(self.0)
    }
}

/// A frame that may lie in several buffers: reads go to the first, its length is that of all. Drivers have the headers in the
/// first.
pub struct First<'a> {
    /// The first buffer.
    pub linear: Packet<'a>,
    /// Bytes of the frame.
    pub whole: usize,
}

impl Frame for First<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.linear.bytes(offset)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: a local; read back for the same reason as in `Packet`.
        unsafe { (&raw const self.whole).read_volatile() }
    }
}

/// The packet for [`proxy_common::plain`], which reads at fixed places from the first on: what the compiler concludes from one
/// bounds check spares none of those that the verifier insists on, so the length needs no detour by the stack.
pub struct Everyday<'a>(pub Packet<'a>);

impl Frame for Everyday<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.bytes(offset)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.0.words(offset)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.0.data_end() - self.0.0.data()
    }
}

/// The packet under an XDP context.
#[derive(Clone, Copy)]
pub struct Packet<'a>(pub &'a XdpContext);

impl Packet<'_> {
    /// A `T` at `offset`; one of the types that are valid whatever their bytes.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let at = self.0.data() + offset;
        if at + size_of::<T>() > self.0.data_end() {
            return None;
        }
        // SAFETY: `[at, at + size_of::<T>())` lies between the context's `data` and `data_end`, which the verifier checks
        // again; packet memory is initialised, any bytes make a `T`, and the read takes any alignment.
        Some(unsafe { (at as *const T).read_unaligned() })
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.read(offset)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.read(offset)
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context that the kernel passed.
        unsafe { (*self.0.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let length = self.0.data_end() - self.0.data();
        // SAFETY: a local. Read back so that the compiler does not know it: it would conclude from "the headers' lengths
        // fit" that a later bounds check is needless, and leave out what the verifier insists on.
        unsafe { (&raw const length).read_volatile() }
    }
}
