//! A cpio archive in the "newc" format, which the kernel unpacks as its first file system
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// Header, name and data begin on borders of so many bytes.
const BORDER: usize = 4;

/// An archive in the making. Directories come by themselves.
pub struct Archive<W> {
    out: W,
    written: usize,
    number: u32,
    names: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, number: 0, names: BTreeSet::new() }
    }

    /// Adds an empty directory; `path` has no leading slash.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        let mut end = 0;
        while let Some(at) = path[end..].find('/').map(|at| end + at).or((end < path.len()).then_some(path.len())) {
            if self.names.insert(path[..at].to_owned()) {
                self.entry(&path[..at], DIRECTORY, &[])?;
            }
            end = (at + 1).min(path.len());
        }
        Ok(())
    }

    /// Adds a file that may be run; a second one of the same name changes nothing.
    pub fn program(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(dir) = Path::new(path).parent().and_then(Path::to_str) {
            self.directory(dir)?;
        }
        if self.names.insert(path.to_owned()) {
            self.entry(path, PROGRAM, bytes)?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry(TRAILER, 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.number += 1;
        let size = u32::try_from(bytes.len()).map_err(|_| io::Error::other(format!("{name} is too large")))?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| io::Error::other("a name is too long"))?;
        // Inode, mode, owner, group, links, time, size, device twice, of a device twice, length of the name, no checksum.
        let fields = [self.number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.write(b"070701")?;
        for field in fields {
            self.write(format!("{field:08x}").as_bytes())?;
        }
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(bytes)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(BORDER) - self.written;
        self.write(&[0; BORDER][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_on_borders_and_directories_come_first() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.program("a/b/c", b"12345").unwrap();
        archive.program("a/b/c", b"again").unwrap();
        archive.program("a/d", b"").unwrap();
        archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let names: Vec<&str> = starts.iter().map(|at| text[at + 110..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d", TRAILER]);
        assert_eq!(&text[starts[2] + 54..starts[2] + 62], "00000005", "size of the file");
        assert_eq!(bytes.len() % 4, 0);
    }
}
