//! Which of the files that lie precompressed beside another one a client gets (RFC 9110 section 12.5.3).

use http::header::ACCEPT_ENCODING;

use crate::fields::Fields;

/// A content coding that files lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All; of two that a client takes equally gladly the first is chosen.
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// As in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What is appended to a file's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// Thousandths, as weights have at most three digits (section 12.4.2).
const FULL: u32 = 1_000;

/// The codings that a client takes, best first. Those that it takes less gladly than no coding are left out.
pub fn preferred(headers: &Fields) -> impl Iterator<Item = Coding> {
    let weigh = |name: &str| {
        let mut any = None;
        for value in headers.get_all(ACCEPT_ENCODING).filter_map(|value| value.to_str().ok()) {
            for item in value.split(',') {
                let mut parts = item.split(';').map(str::trim);
                let coding = parts.next().unwrap_or_default();
                let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
                let weight = weight.map_or(FULL, thousandths);
                let is_gzip = name == "gzip" && coding.eq_ignore_ascii_case("x-gzip");
                if coding.eq_ignore_ascii_case(name) || is_gzip {
                    return Some(weight);
                }
                if coding == "*" {
                    any = Some(weight);
                }
            }
        }
        any
    };
    let plain = weigh("identity").filter(|weight| *weight < FULL).unwrap_or(0);
    let mut found: [Option<(u32, Coding)>; 3] = Coding::ALL.map(|coding| Some((weigh(coding.name())?, coding)));
    found.sort_by_key(|found| std::cmp::Reverse(found.map_or(0, |(weight, _)| weight)));
    found.into_iter().flatten().filter(move |(weight, _)| *weight > 0 && *weight >= plain).map(|(_, coding)| coding)
}

/// `0.5` is 500; what is no weight is taken as 0.
fn thousandths(text: &str) -> u32 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.bytes().chain(*b"000").take(3);
    let mut part = digits.map(|b| b.checked_sub(b'0').filter(|digit| *digit < 10));
    let part = part.try_fold(0, |sum, digit| Some(sum * 10 + u32::from(digit?)));
    match (whole, part) {
        ("1", Some(_)) => FULL,
        ("0", Some(part)) => part,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_best_that_is_taken() {
        use Coding::{Br, Gzip, Zstd};
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", &[Br, Zstd, Gzip][..]),
            ("gzip;q=1.0, br;q=0.5", &[Gzip, Br]),
            ("gzip;q=0", &[]),
            ("*", &[Br, Zstd, Gzip]),
            ("*;q=0.1, gzip", &[Gzip, Br, Zstd]),
            ("GZIP ; Q=0.2", &[Gzip]),
            ("x-gzip", &[Gzip]),
            ("gzip;q=0.3, identity;q=0.5", &[]),
            ("gzip;q=x", &[]),
            ("identity", &[]),
            ("", &[]),
        ] {
            let headers = Fields::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))]);
            assert_eq!(preferred(&headers).collect::<Vec<_>>(), expected, "{accept}");
        }
        assert_eq!(preferred(&Fields::new()).count(), 0);
    }
}
