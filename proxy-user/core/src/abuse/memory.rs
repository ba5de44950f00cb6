//! When a worker takes no more requests because memory runs short, and when it does again.

/// From so many hundredths of the budget on, requests are turned away.
const SHED_FROM: u64 = 100;
/// Below so many, they are taken again.
const TAKE_BELOW: u64 = 90;
/// Seconds after which a client that is turned away may ask again.
pub const RETRY_AFTER: u32 = 2;

/// Whether requests are turned away, by what is `used` of a `budget` in bytes and whether they were before.
pub const fn sheds(used: u64, budget: u64, before: bool) -> bool {
    let bound = if before { TAKE_BELOW } else { SHED_FROM };
    used / 100 >= budget / 10_000 * bound
}

#[cfg(test)]
mod tests {
    use super::sheds;

    #[test]
    fn it_ends_lower_than_it_began() {
        const MIB: u64 = 1 << 20;
        assert!(!sheds(99 * MIB, 100 * MIB, false));
        assert!(sheds(100 * MIB, 100 * MIB, false));
        assert!(sheds(95 * MIB, 100 * MIB, true));
        assert!(!sheds(89 * MIB, 100 * MIB, true));
    }
}
