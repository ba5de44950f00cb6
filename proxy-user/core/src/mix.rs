//! A number for a text, for tables in memory: `FxHash`, of Firefox. It costs little and keeps nobody from making two texts share one:
//! whoever looks something up by it compares the texts too.

/// An odd number whose bits are spread.
const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

/// Mixes a text into a number that was made of what comes before it.
pub(crate) fn mixed(sum: u64, text: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = text.as_chunks();
    let sum = words.iter().fold(sum, |sum, word| step(sum, u64::from_le_bytes(*word)));
    if rest.is_empty() {
        return sum;
    }
    // The last eight bytes, of which some were mixed in before; or those that there are.
    let few = || rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
    step(sum, text.last_chunk().map_or_else(few, |last| u64::from_le_bytes(*last)))
}

/// What a field is looked up by.
pub(crate) fn of_field(name: &[u8], value: &[u8]) -> u64 {
    mixed(mixed((name.len() as u64) << 32 | value.len() as u64, name), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_counts() {
        let text = b"0123456789abcdefghi";
        for length in 1..=text.len() {
            let text = &text[..length];
            for at in 0..length {
                let mut other = text.to_vec();
                other[at] ^= 1;
                assert_ne!(mixed(7, text), mixed(7, &other), "{at} of {length}");
            }
            assert_ne!(mixed(7, text), mixed(8, text));
        }
        assert_eq!(mixed(7, b""), 7);
    }
}
