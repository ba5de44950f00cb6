//! How long a ban lasts, as `CrowdSec` writes it: Go's durations, such as `3h59m56.57s`. It decides nothing else.

/// Whole seconds, rounded up; below zero where the time is over. None where it is no duration.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.trim().strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim()),
    };
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0_i64;
    let mut fraction = false;
    while !rest.is_empty() {
        let behind = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(behind);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 = whole.parse().ok()?;
        let has_part = part.bytes().any(|digit| digit != b'0');
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let each = match unit {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            "ms" | "us" | "µs" | "ns" => 0,
            _ => return None,
        };
        fraction |= has_part || (each == 0 && whole > 0);
        seconds = seconds.checked_add(whole.checked_mul(each)?)?;
        rest = tail;
    }
    Some(sign * seconds + i64::from(fraction && sign > 0))
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_of_go() {
        for (text, expected) in [
            ("3h59m56.57s", Some(14_397)),
            ("167h0m0s", Some(601_200)),
            ("1h", Some(3_600)),
            ("7d", Some(604_800)),
            ("0s", Some(0)),
            ("1.000s", Some(1)),
            ("250ms", Some(1)),
            ("-2m3.5s", Some(-123)),
            ("", None),
            ("-", None),
            ("600", None),
            ("1x", None),
            ("1µs", Some(1)),
            ("99999999999999999999h", None),
            ("9223372036854775807h", None),
            (".5s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
