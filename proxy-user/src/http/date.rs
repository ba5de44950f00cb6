//! The `Date` of answers (RFC 9110 section 6.6.1), written once a second. Who has none in its answer is given one: an origin may have no
//! clock, a server of its own answers has.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use http::header::DATE;
use proxy_core::fields::Fields;
use proxy_core::special::Special;

thread_local! {
    /// The second since 1970 that was written last, and how.
    static WRITTEN: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Dates an answer that has no date.
pub fn stamp(headers: &mut Fields) {
    if headers.get_special(Special::DATE, DATE).is_some() {
        return;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(date) = WRITTEN.with_borrow_mut(|written| at(since.as_secs(), written)) {
        headers.append(DATE, date);
    }
}

fn at(second: u64, written: &mut Option<(u64, HeaderValue)>) -> Option<HeaderValue> {
    if written.as_ref().is_none_or(|(last, _)| *last != second) {
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        *written = HeaderValue::from_maybe_shared(Bytes::from(text)).ok().map(|date| (second, date));
    }
    written.as_ref().map(|(_, date)| date.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_is_written_and_no_answer_dated_twice() {
        let mut written = None;
        assert_eq!(at(784_111_777, &mut written).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778, &mut written).unwrap(), "Sun, 06 Nov 1994 08:49:38 GMT");
        let mut headers = Fields::new();
        headers.insert(DATE, HeaderValue::from_static("then"));
        stamp(&mut headers);
        assert_eq!((headers.len(), &headers[DATE]), (1, &HeaderValue::from_static("then")));
        let mut headers = Fields::new();
        stamp(&mut headers);
        assert!(httpdate::parse_http_date(headers[DATE].to_str().unwrap()).is_ok());
    }
}
