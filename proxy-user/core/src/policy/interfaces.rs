//! Names of interfaces to the indexes that the kernel tells them apart by. Looks nothing up: whoever compiles knows the host.

use proxy_common::siphash::siphash24;

use crate::diagnostic::hint;

/// The interfaces that rules may name, with their indexes; any name may stand where there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interfaces<'a>(pub &'a [(String, u32)]);

/// Set in the index of an interface that this host does not have; the kernel's are positive as signed numbers.
const NOT_HERE: u32 = 1 << 31;

/// Index for an interface that this host does not have: no packet comes from it, and no other name shares it but by chance.
pub fn stand_in(name: &str) -> u32 {
    NOT_HERE | name.bytes().fold(0, |sum, byte| siphash24(sum, !sum, u64::from(byte))) as u32
}

impl Interfaces<'_> {
    /// Index of a name; the message says that there is no such interface.
    pub fn index(&self, name: &str) -> Result<u32, String> {
        if self.0.is_empty() {
            return Ok(stand_in(name));
        }
        let known = self.0.iter().find(|(known, _)| known == name);
        let names = || self.0.iter().map(|(known, _)| known.as_str());
        known.map(|(_, index)| *index).ok_or_else(|| {
            format!(
                "the config's `gate.interfaces` has no `{name}`{}: the gate sees no packet of it",
                hint(name, names())
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_stand_for_themselves() {
        let some = [("eth0".to_owned(), 2), ("eth1".to_owned(), 7)];
        assert_eq!(Interfaces(&some).index("eth1"), Ok(7));
        assert!(Interfaces(&some).index("eth2").unwrap_err().contains("`gate.interfaces` has no `eth2`"));
        let any = Interfaces(&[]);
        assert_eq!(any.index("eth2"), Ok(stand_in("eth2")));
        assert_ne!(any.index("eth2"), any.index("eth3"));
    }
}
