//! HPACK (RFC 7541): blocks of fields that refer to what blocks before them said.

pub mod decode;
mod dynamic;
pub mod encode;

use crate::fields::fixed::Fixed;

/// Bytes of the dynamic tables: what a side has that says nothing (RFC 9113 section 6.5.2).
pub const TABLE_SIZE: usize = 4_096;

/// The static table (appendix A), which is counted from 1.
static TABLE: Fixed<61> = Fixed::new(&FIELDS);

const FIELDS: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::fixed::Found;

    #[test]
    fn indices_of_the_standard() {
        assert_eq!(
            (TABLE.find(b":status", b"500"), TABLE.find(b"www-authenticate", b"")),
            (Found::Field(13), Found::Field(60))
        );
        assert_eq!(
            (TABLE.find(b"set-cookie", b"a"), TABLE.find(b"accept-encoding", b"gzip, deflate")),
            (Found::Name(54), Found::Field(15))
        );
    }
}
