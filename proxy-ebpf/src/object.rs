//! What each object has: its licence, and a panic handler that nothing reaches.

/// Lets the kernel load programs that call GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can reach this; `loop` is what it sees when one could.
    loop {}
}
