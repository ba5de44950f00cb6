//! `bpf(2)` for maps, with `&self` and typed keys: what aya's map types do not offer (shared use from many workers,
//! batches). All unsafe map access of userspace is here. Layouts follow `union bpf_attr` in `include/uapi/linux/bpf.h`.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};

use aya::Pod;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

/// Entries of one batch call: large enough that the syscall is lost in the work, small enough for a buffer.
const BATCH: usize = 4_096;

/// The element commands' part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value_or_next: u64,
    flags: u64,
}

/// The batch commands' part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// A map with keys `K` and values `V`; for per-CPU maps `V` is one CPU's value.
#[derive(Debug)]
pub struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn() -> (K, V)>,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: `attr` is one of the two structs above: initialised, without padding, and its size is passed. The
    // pointers in it were made from live buffers of the size that the map's key and value have (checked in `Map::new`).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `BPF_F_XDP_HAS_FRAGS`.
const XDP_HAS_FRAGS: u32 = 1 << 5;
/// `r0 = XDP_PASS; exit`, a `struct bpf_insn` each: code, registers, offset, constant.
const PASS: [Instruction; 2] = [Instruction(0xb7, 0, 0, 2), Instruction(0x95, 0, 0, 0)];

#[repr(C)]
struct Instruction(u8, u8, i16, i32);

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct ProgramAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

/// Whether the kernel takes XDP programs for frames in several buffers (Linux 5.18): asked with the smallest one.
pub fn frags_supported() -> bool {
    let mut attr = ProgramAttr {
        kind: BPF_PROG_TYPE_XDP,
        instructions: PASS.len() as u32,
        code: address(&PASS),
        license: c"".as_ptr() as u64,
        flags: XDP_HAS_FRAGS,
        ..ProgramAttr::default()
    };
    // SAFETY: `attr` is initialised, without padding, and its size is passed; it points to two instructions and a string.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_mut(&mut attr), size_of::<ProgramAttr>()) };
    let Ok(fd) = libc::c_int::try_from(result) else { return false };
    if fd < 0 {
        return false;
    }
    // SAFETY: a descriptor that the call above made, which nobody else has.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    true
}

/// `MEMBARRIER_CMD_GLOBAL` of `include/uapi/linux/membarrier.h`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
/// How long to wait where the kernel has no such barrier (`nohz_full`): no program runs for long.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(100);

/// Returns when every program run that had begun has ended: the barrier is `synchronize_rcu()`, and programs run inside
/// RCU read sections.
pub fn wait_for_programs() {
    // SAFETY: takes two numbers, no pointers.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0) } < 0 {
        std::thread::sleep(SETTLE);
    }
}

/// Cookie of the socket (`SO_COOKIE`), which no other of this host gets.
pub fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    cookie(socket, libc::SO_COOKIE)
}

/// Cookie of the network namespace that the socket was made in (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    cookie(socket, libc::SO_NETNS_COOKIE)
}

fn cookie(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    let into = std::ptr::from_mut(&mut value).cast();
    // SAFETY: a live descriptor, a buffer of the length that is told, and both options have a value of eight bytes.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, into, &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}

impl<K: Pod, V: Pod> Map<K, V> {
    /// Wraps a map's descriptor. `sizes` are the kernel's key and value sizes; they must be those of `K` and `V`.
    pub fn new(fd: OwnedFd, sizes: (u32, u32)) -> io::Result<Self> {
        let own = (size_of::<K>() as u32, size_of::<V>() as u32);
        if own != sizes {
            return Err(io::Error::other(format!("a map has key and value of {sizes:?} bytes where {own:?} are due")));
        }
        Ok(Self { fd, types: PhantomData })
    }

    fn elem(&self, key: &K, value: u64, flags: u64) -> ElemAttr {
        ElemAttr { map_fd: self.fd.as_raw_fd().cast_unsigned(), pad: 0, key: address(key), value_or_next: value, flags }
    }

    /// The value under `key`.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::zeroed();
        let mut attr = self.elem(key, value.as_mut_ptr() as u64, 0);
        match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
            // SAFETY: `V: Pod`, zeroed or written by the kernel.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value under `key`, on the heap: for values larger than a stack.
    pub fn get_boxed(&self, key: &K) -> io::Result<Option<Box<V>>> {
        let mut value = Box::<V>::new_uninit();
        let mut attr = self.elem(key, value.as_mut_ptr() as u64, 0);
        match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
            // SAFETY: `V: Pod`, and the kernel wrote all of its bytes: the sizes are the same.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The values of all CPUs under `key`.
    pub fn get_per_cpu(&self, key: &K, cpus: usize) -> io::Result<Vec<V>> {
        // The kernel rounds each CPU's value up to eight bytes.
        let stride = size_of::<V>().next_multiple_of(8);
        let mut bytes = vec![0u64; stride / 8 * cpus];
        let mut attr = self.elem(key, bytes.as_mut_ptr() as u64, 0);
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
        let base = bytes.as_ptr().cast::<u8>();
        // SAFETY: the buffer holds `cpus` values of `stride` bytes, `V: Pod`.
        Ok((0..cpus).map(|cpu| unsafe { base.add(cpu * stride).cast::<V>().read_unaligned() }).collect())
    }

    /// Writes the value under `key`.
    pub fn set(&self, key: &K, value: &V) -> io::Result<()> {
        let mut attr = self.elem(key, address(value), 0);
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr)
    }

    /// Removes `key`; false when it was not there.
    pub fn remove(&self, key: &K) -> io::Result<bool> {
        let mut attr = self.elem(key, 0, 0);
        match bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All keys, one syscall each: for small tables and those without batches.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys = Vec::new();
        let mut next = MaybeUninit::<K>::zeroed();
        let mut attr = ElemAttr {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            value_or_next: next.as_mut_ptr() as u64,
            ..ElemAttr::default()
        };
        loop {
            match bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) {
                // SAFETY: `K: Pod`, written by the kernel.
                Ok(()) => keys.push(unsafe { next.assume_init() }),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
            attr.key = keys.last().map_or(0, address);
        }
    }

    /// Writes many entries, in batches where the kernel has them for this map.
    pub fn set_many(&self, entries: &[(K, V)]) -> io::Result<()> {
        for chunk in entries.chunks(BATCH) {
            let (keys, values): (Vec<K>, Vec<V>) = chunk.iter().copied().unzip();
            match self.batch(BPF_MAP_UPDATE_BATCH, &keys, values.as_ptr() as u64) {
                Ok(()) => {}
                Err(error) if unsupported(&error) => {
                    keys.iter().zip(&values).try_for_each(|(key, value)| self.set(key, value))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes many keys that are there.
    pub fn remove_many(&self, keys: &[K]) -> io::Result<()> {
        for chunk in keys.chunks(BATCH) {
            match self.batch(BPF_MAP_DELETE_BATCH, chunk, 0) {
                Ok(()) => {}
                // A key went meanwhile, or there are no batches: one by one, where that is no error.
                Err(error) if unsupported(&error) || error.raw_os_error() == Some(libc::ENOENT) => {
                    for key in chunk {
                        self.remove(key)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn batch(&self, command: libc::c_long, keys: &[K], values: u64) -> io::Result<()> {
        let mut attr = BatchAttr {
            keys: keys.as_ptr() as u64,
            values,
            count: keys.len() as u32,
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            ..BatchAttr::default()
        };
        bpf(command, &mut attr)
    }
}

impl<K, V> Map<K, V> {
    /// Puts a socket into a socket map.
    pub fn set_socket(&self, key: &K, socket: BorrowedFd<'_>) -> io::Result<()> {
        // The kernel takes four or eight bytes and reads a descriptor from them.
        let value = u64::from(socket.as_raw_fd().cast_unsigned());
        let mut attr = ElemAttr {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: address(key),
            value_or_next: address(&value),
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr)
    }
}

impl Map<u32, u32> {
    /// Puts a map into a slot of an array of maps. Returns when no program run can hold the one that stood there.
    pub fn set_map(&self, slot: u32, map: impl AsFd) -> io::Result<()> {
        let descriptor = map.as_fd().as_raw_fd().cast_unsigned();
        self.set(&slot, &descriptor)
    }
}

impl<K, V> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel has no batch command for this kind of map.
fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | 524 /* ENOTSUPP, kernel-internal */ | libc::EINVAL))
}
