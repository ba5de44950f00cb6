//! Host patterns of routes: an exact name, or `*.` before one. Names are compared in lower case, without port.

use crate::config::upstream::is_host_name;

/// Which hosts a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name or address only, lower case (IPv6 in brackets).
    Exact(String),
    /// Any name that ends with this; it starts with the dot, so the name itself is not meant.
    Suffix(String),
}

impl HostPattern {
    /// Whether a name in lower case is meant.
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
        }
    }
}

impl std::str::FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write a name such as `shop.example.com`, or `*.example.com`";
        let lower = text.to_ascii_lowercase();
        if let Some(rest) = lower.strip_prefix("*.") {
            return if is_host_name(rest) {
                Ok(Self::Suffix(format!(".{rest}")))
            } else {
                Err(format!("`{text}` is not a host pattern; {form}"))
            };
        }
        if is_host_name(&lower) || is_bracketed_v6(&lower) {
            Ok(Self::Exact(lower))
        } else if lower.rsplit_once(':').is_some_and(|(h, p)| is_host_name(h) && p.bytes().all(|b| b.is_ascii_digit()))
        {
            Err(format!("`{text}` has a port, which host patterns do not take; {form}"))
        } else {
            Err(format!("`{text}` is not a host pattern; {form}"))
        }
    }
}

fn is_bracketed_v6(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    inner.is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert_eq!("Shop.Example".parse(), Ok(HostPattern::Exact("shop.example".into())));
        assert_eq!("*.example.com".parse(), Ok(HostPattern::Suffix(".example.com".into())));
        assert_eq!("[::1]".parse(), Ok(HostPattern::Exact("[::1]".into())));
        for bad in ["", "*", "*.", "a.*.b", "exa mple", "http://a", "a:80", "a/b", "*.*.a", "shop.*"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad} was taken");
        }
    }
}
