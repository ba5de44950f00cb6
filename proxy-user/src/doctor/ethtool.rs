//! The two questions that only ethtool's ioctl answers: the driver's name, and large receive offload.
//! Layouts follow `include/uapi/linux/ethtool.h`. One of the places of unsafe.

use std::ffi::c_void;
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Socket, Type};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO` of `ETHTOOL_GFLAGS`.
const FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// Whether large receive offload is on; none where the driver does not say.
pub fn lro(interface: &str) -> Option<bool> {
    let mut value = Value { command: ETHTOOL_GFLAGS, data: 0 };
    ask(interface, (&raw mut value).cast())?;
    Some(value.data & FLAG_LRO != 0)
}

/// The driver's name.
pub fn driver(interface: &str) -> Option<String> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    ask(interface, (&raw mut info).cast())?;
    let end = info.driver.iter().position(|byte| *byte == 0)?;
    let name = String::from_utf8_lossy(info.driver.get(..end)?).into_owned();
    (!name.is_empty()).then_some(name)
}

/// Puts a question, which begins with its command and has room for the answer, to an interface.
fn ask(interface: &str, question: *mut c_void) -> Option<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    let mut name = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (to, byte) in name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = byte.cast_signed();
    }
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: question.cast() } };
    // SAFETY: `request` is an initialised `ifreq` whose data points to one of the structs above, alive and writable, of
    // the size that its command has in the kernel.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    (result >= 0).then_some(())
}
