//! The one unsafe packet read: XDP's linear data as a bounds-checked [`Frame`].

use aya_ebpf::programs::XdpContext;
use proxy_common::parse::Frame;

/// Offsets beyond this are refused; the verifier wants a bound on what is added to a packet pointer.
const MAX_OFFSET: usize = 0x3fff;

/// The packet under an XDP context.
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
