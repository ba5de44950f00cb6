//! Diagnostics of the kernel programs: a thread that moves aya-log's ring buffer to the daemon's log while it is on.

use std::os::fd::AsFd;
use std::thread;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proxy_core::config::KernelLog;

/// Starts the thread; does nothing while the programs' log is off.
pub fn start(ebpf: &mut Ebpf, level: KernelLog) -> Result<()> {
    if level == KernelLog::Off {
        return Ok(());
    }
    let mut logger = EbpfLogger::init(ebpf).context("reading the kernel programs' log")?;
    thread::Builder::new()
        .name("kernel-log".to_owned())
        .spawn(move || {
            loop {
                let ready = poll(&mut [PollFd::new(logger.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
                match ready {
                    Ok(_) => logger.flush(),
                    Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the kernel programs' log ends");
                        return;
                    }
                }
            }
        })
        .context("starting the log thread")?;
    Ok(())
}
