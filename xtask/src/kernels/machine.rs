//! qemu: boots a kernel with an initramfs, passes on what its serial console says, and ends it when its time is up.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::guest::{BEGIN_MARK, END_MARK, Initramfs};
use super::package::Kernel;
use crate::run;

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";
/// Within this a guest must have come to its end.
const GUEST_TIME: Duration = Duration::from_secs(45 * 60);
/// Memory of the guest: the initramfs twice, the programs' maps, the tests.
const MEMORY: &str = "1536M";
/// CPUs of the guest; more than one, so that what CPUs do beside each other is seen.
const CPUS: &str = "2";
/// Lines of the console that an error shows.
const TAIL_LINES: usize = 25;

/// Boots and waits for the end. Lines of the tests go to `line`.
pub fn boot(kernel: &Kernel, initramfs: &Initramfs, line: &mut impl FnMut(&str)) -> Result<Duration> {
    let started = Instant::now();
    // Software emulation, always: a device of KVM that opens need not work. The signal ends it with this process, however
    // that ends.
    let mut child = run::command("setpriv")
        .args(["--pdeathsig", "KILL", QEMU, "-accel", "tcg", "-cpu", "max", "-m", MEMORY, "-smp", CPUS])
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel"])
        .arg(kernel.image())
        .arg("-initrd")
        .arg(&initramfs.file)
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start qemu by setpriv")?;
    let (sender, lines) = mpsc::channel();
    for pipe in [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
    ] {
        let (sender, pipe) = (sender.clone(), pipe.context("no pipe")?);
        std::thread::spawn(move || {
            for bytes in BufReader::new(pipe).split(b'\n').map_while(std::result::Result::ok) {
                // The receiver is gone when time was up.
                let _ = sender.send(String::from_utf8_lossy(&bytes).trim_end().to_owned());
            }
        });
    }
    drop(sender);
    let console = Console { log: File::create(&initramfs.log)?, tail: Vec::new(), begun: false, end: None };
    let result = console.follow(&lines, started + GUEST_TIME, line);
    // Off by itself, or too late.
    let _ = child.kill();
    child.wait()?;
    result.map(|()| started.elapsed())
}

struct Console {
    log: File,
    tail: Vec<String>,
    begun: bool,
    end: Option<String>,
}

impl Console {
    fn follow(mut self, lines: &mpsc::Receiver<String>, until: Instant, line: &mut impl FnMut(&str)) -> Result<()> {
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(text) => self.take(&text, line)?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("not done within {GUEST_TIME:?}; its console ends with:\n{}", self.tail.join("\n"))
                }
            }
        }
        match self.end.as_deref() {
            Some("0 0") => Ok(()),
            // What failed stands in the lines that were passed on.
            Some(statuses) => bail!("the tests ended with {statuses}"),
            None => bail!("it ended before its tests did; its console ends with:\n{}", self.tail.join("\n")),
        }
    }

    fn take(&mut self, text: &str, line: &mut impl FnMut(&str)) -> Result<()> {
        writeln!(self.log, "{text}")?;
        self.tail.push(text.to_owned());
        if self.tail.len() > TAIL_LINES {
            self.tail.remove(0);
        }
        if let Some(statuses) = text.strip_prefix(END_MARK) {
            self.end = Some(statuses.trim().to_owned());
        } else if text.starts_with(BEGIN_MARK) {
            self.begun = true;
        } else if self.begun {
            line(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(text: &str) -> (Vec<String>, Result<()>) {
        let (sender, lines) = mpsc::channel();
        text.lines().for_each(|line| sender.send(line.to_owned()).unwrap());
        drop(sender);
        let log = File::options().write(true).open("/dev/null").unwrap();
        let console = Console { log, tail: Vec::new(), begun: false, end: None };
        let mut passed = Vec::new();
        let result =
            console.follow(&lines, Instant::now() + GUEST_TIME, &mut |line: &str| passed.push(line.to_owned()));
        (passed, result)
    }

    #[test]
    fn the_console_tells_how_it_went() {
        let (passed, result) = follow("SeaBIOS\ntidegate-guest-begin 6.1\ntest a ... ok\ntidegate-guest-end 0 0\noff");
        result.unwrap();
        assert_eq!(passed, ["test a ... ok", "off"]);
        let (_, failed) = follow("tidegate-guest-begin 6.1\ntest a ... FAILED\ntidegate-guest-end 101 0");
        assert!(format!("{:#}", failed.unwrap_err()).contains("101"));
        let (_, broken) = follow("tidegate-guest-begin 6.1\nKernel panic - not syncing");
        assert!(format!("{:#}", broken.unwrap_err()).contains("Kernel panic"));
    }
}
