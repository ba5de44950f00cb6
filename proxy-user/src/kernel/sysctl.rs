//! Kernel parameters of this thread's network namespace, under `/proc/sys`. Reads and writes text; decides nothing.

use std::io;
use std::path::Path;
use std::str::SplitWhitespace;

/// Where the kernel shows its parameters.
const ROOT: &str = "/proc/sys";

/// The text of a parameter, named as `net/ipv4/tcp_syncookies`.
pub fn read(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(Path::new(ROOT).join(name))?.trim().to_owned())
}

/// The first number of a parameter: the lower bound where there are two.
pub fn first_number(name: &str) -> io::Result<u64> {
    number(name, |mut numbers| numbers.next())
}

/// The last number of a parameter: the upper bound where there are three.
pub fn last_number(name: &str) -> io::Result<u64> {
    number(name, |mut numbers| numbers.next_back())
}

fn number(name: &str, pick: fn(SplitWhitespace<'_>) -> Option<&str>) -> io::Result<u64> {
    let text = read(name)?;
    let number = pick(text.split_whitespace()).unwrap_or_default();
    number.parse().map_err(|_| io::Error::other(format!("{name} is `{text}`, which is no number")))
}

/// Sets a parameter.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(Path::new(ROOT).join(name), value)
}
