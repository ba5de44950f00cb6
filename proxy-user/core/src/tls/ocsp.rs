//! OCSP responses that may be stapled.

/// Most bytes of a response.
pub const MAX_OCSP_BYTES: usize = 64 << 10;

/// Whether bytes are an OCSP response that answers, DER (RFC 6960 section 4.2.1). Its signature and dates are the client's to
/// check.
///
/// # Errors
/// What it is instead.
pub fn check(der: &[u8]) -> Result<(), &'static str> {
    const NONE: &str = "this is no OCSP response in DER";
    let [0x30, first, rest @ ..] = der else { return Err(NONE) };
    let (length, body) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (digits, body) = rest.split_at_checked(usize::from(first & 3)).ok_or(NONE)?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), body)
        }
        _ => return Err(NONE),
    };
    match body {
        [0x0a, 1, 0, ..] if length == body.len() => Ok(()),
        [0x0a, 1, _] => Err("this OCSP response is an error: ask the responder again"),
        _ => Err(NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_answers_are_taken() {
        assert_eq!(check(&[0x30, 5, 0x0a, 1, 0, 0xa0, 0]), Ok(()));
        assert_eq!(check(&[0x30, 0x82, 0, 3, 0x0a, 1, 0]), Ok(()));
        assert!(check(&[0x30, 3, 0x0a, 1, 3]).unwrap_err().contains("is an error"));
        for bad in [&b""[..], b"-----BEGIN", &[0x30, 6, 0x0a, 1, 0, 0xa0, 0], &[0x30, 0x84], &[0x30, 0x83, 1]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
