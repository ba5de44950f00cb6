//! The combined format of Apache and nginx: `client - - [time] "request" status bytes "referer" "user agent"`.

use std::io::Write as _;

use http::header::{REFERER, USER_AGENT};

use super::AccessRecord;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Adds the line of a record, without the line feed.
pub(super) fn line(out: &mut Vec<u8>, record: &AccessRecord<'_, '_>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{} - - [", record.client.ip().to_canonical());
    time(out, record.time);
    out.extend_from_slice(b"] \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        escaped(out, record.method);
        out.push(b' ');
        escaped(out, record.path);
        if let Some(query) = record.query {
            out.push(b'?');
            escaped(out, query);
        }
        out.extend_from_slice(match record.version {
            "h2" => b" HTTP/2.0",
            "h3" => b" HTTP/3.0",
            _ => b" HTTP/1.1",
        });
    }
    let _ = write!(out, "\" {} {} ", record.status, record.bytes_out);
    for (index, name) in [REFERER, USER_AGENT].iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\"" } else { b" \"" });
        match record.headers.0.iter().find(|(logged, _)| *logged == name.as_str()) {
            Some((_, value)) => escaped(out, value),
            None => out.push(b'-'),
        }
        out.push(b'"');
    }
}

/// `22/Nov/2026:15:49:38 +0000` of `2026-11-22T15:49:38.123Z`.
fn time(out: &mut Vec<u8>, rfc3339: &str) {
    let part = |from: usize, to: usize| rfc3339.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let (year, day, clock) = (part(0, 4), part(8, 10), part(11, 19));
    let _ = write!(out, "{day}/{}/{year}:{clock} +0000", month.unwrap_or(&"-"));
}

/// What could end the field or the line, and what is not ASCII, as `\xHH`, as nginx has it.
fn escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            _ => out.push(byte),
        }
    }
}
