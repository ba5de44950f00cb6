//! What a reader of packet events wants: which reasons, rule and sources, how many of them, and whether with the packet.
//!
//! Pure. The same form goes as a query over the admin socket.

use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proxy_common::abi::Reason;
use proxy_common::event::{MAX_SAMPLE, MIN_SAMPLE};

/// Stands for all reasons that drop, and for all but `pass`.
const GROUPS: [&str; 2] = ["drops", "all"];

/// A reader's wish. All parts must hold of an event that he gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Reasons, the bits of [`Reason::bit`].
    pub reasons: u64,
    /// A rule's full name `policy/rule`, or `operator`.
    pub rule: Option<String>,
    /// Where the packet says it comes from.
    pub source: Option<IpNet>,
    /// One in so many; as the config says unless given.
    pub sample: Option<u32>,
    /// Whether the packet's first bytes come along.
    pub packets: bool,
}

impl Default for Ask {
    fn default() -> Self {
        let drops = Reason::ALL.into_iter().filter(|reason| reason.drops());
        let reasons = drops.fold(0, |set, reason| set | reason.bit());
        Self { reasons, rule: None, source: None, sample: None, packets: false }
    }
}

/// Adds a reason, or a group of them, by name.
///
/// # Errors
/// There is no such reason, or it is `pass`.
pub fn add_reason(set: &mut u64, name: &str) -> Result<(), String> {
    if name == Reason::Pass.name() {
        return Err("`pass` is never sampled: packets that nothing applies to pay for nothing".to_owned());
    }
    let group = GROUPS.contains(&name);
    let mut known = false;
    for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::Pass) {
        if (group && (name == "all" || reason.drops())) || reason.name() == name {
            *set |= reason.bit();
            known = true;
        }
    }
    if known { Ok(()) } else { Err(format!("`{name}` is not a reason; `tidegate counters` lists them")) }
}

/// Checks the rate of a sample.
///
/// # Errors
/// It is beyond the bounds.
pub fn check_sample(sample: u32) -> Result<u32, String> {
    if (MIN_SAMPLE..=MAX_SAMPLE).contains(&sample) {
        Ok(sample)
    } else {
        Err(format!("one in {sample} cannot be sampled: give {MIN_SAMPLE} (each) to {MAX_SAMPLE}"))
    }
}

impl Ask {
    /// Reads a query.
    ///
    /// # Errors
    /// Says which part is not understood.
    pub fn parse(query: Option<&str>) -> Result<Self, String> {
        let mut ask = Self::default();
        let mut reasons = 0;
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| format!("`{key}` is not UTF-8"))?;
            match key {
                "reason" => value.split(',').try_for_each(|name| add_reason(&mut reasons, name))?,
                "rule" => ask.rule = Some(value.into_owned()),
                "source" => ask.source = Some(source(&value)?),
                "sample" => {
                    let number = value.parse().map_err(|_| format!("`{value}` is not a rate"))?;
                    ask.sample = Some(check_sample(number)?);
                }
                "packets" => ask.packets = true,
                _ => return Err("the query has a part that is not understood".to_owned()),
            }
        }
        if reasons != 0 {
            ask.reasons = reasons;
        }
        Ok(ask)
    }

    /// The query that [`Self::parse`] reads.
    pub fn query(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let names = Reason::ALL.into_iter().filter(|reason| self.reasons & reason.bit() != 0).map(Reason::name);
        let mut parts = vec![format!("reason={}", names.collect::<Vec<_>>().join(","))];
        parts.extend(self.rule.as_ref().map(|rule| format!("rule={}", encode(rule))));
        parts.extend(self.source.map(|source| format!("source={}", encode(&source.to_string()))));
        parts.extend(self.sample.map(|sample| format!("sample={sample}")));
        parts.extend(self.packets.then(|| "packets".to_owned()));
        parts.join("&")
    }

    /// Whether the reader wants this event.
    pub fn wants(&self, reason: Reason, rule: Option<&str>, source: Option<IpAddr>) -> bool {
        self.reasons & reason.bit() != 0
            && self.rule.as_deref().is_none_or(|wanted| rule == Some(wanted))
            && self.source.is_none_or(|net| source.is_some_and(|ip| net.contains(&ip)))
    }
}

/// An address, or a prefix.
///
/// # Errors
/// It is neither.
pub fn source(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| format!("`{text}` is neither an address nor a prefix such as 192.0.2.0/24"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_means_all_drops() {
        let ask = Ask::parse(None).unwrap();
        assert!(ask.reasons & Reason::Verdict.bit() != 0 && ask.reasons & Reason::Rule.bit() != 0);
        assert!(ask.reasons & Reason::Pass.bit() == 0 && ask.reasons & Reason::NotOwn.bit() == 0);
        assert_eq!(Ask::parse(Some("reason=drops")).unwrap(), ask);
        let all = Ask::parse(Some("reason=all")).unwrap();
        assert!(all.reasons & Reason::NotOwn.bit() != 0 && all.reasons & Reason::Pass.bit() == 0);
    }

    #[test]
    fn a_query_is_read_as_it_was_written() {
        let reasons = Reason::Denied.bit() | Reason::NotOwn.bit();
        let ask = Ask {
            reasons,
            rule: Some("shop/a & b=c%".to_owned()),
            source: Some("2001:db8::/32".parse().unwrap()),
            sample: Some(7),
            packets: true,
        };
        assert_eq!(Ask::parse(Some(&ask.query())), Ok(ask));
        assert_eq!(Ask::parse(Some(&Ask::default().query())), Ok(Ask::default()));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (query, said) in [
            ("reason=pass", "never sampled"),
            ("reason=verdicts", "not a reason"),
            ("reason=", "not a reason"),
            ("source=example.com", "neither an address"),
            ("sample=0", "cannot be sampled"),
            ("sample=1000001", "cannot be sampled"),
            ("sample=x", "not a rate"),
            ("colour=red", "not understood"),
            ("rule=%ff", "not UTF-8"),
        ] {
            let error = Ask::parse(Some(query)).unwrap_err();
            assert!(error.contains(said), "{query}: {error}");
        }
    }

    #[test]
    fn every_part_must_hold() {
        let ask = Ask { rule: Some("p/r".to_owned()), source: Some(source("192.0.2.0/24").unwrap()), ..Ask::default() };
        let inside = Some("192.0.2.7".parse().unwrap());
        assert!(ask.wants(Reason::Rule, Some("p/r"), inside));
        assert!(!ask.wants(Reason::NotOwn, Some("p/r"), inside));
        assert!(!ask.wants(Reason::Rule, Some("p/other"), inside));
        assert!(!ask.wants(Reason::Rule, None, inside));
        assert!(!ask.wants(Reason::Rule, Some("p/r"), Some("198.51.100.1".parse().unwrap())));
        assert!(!ask.wants(Reason::Rule, Some("p/r"), None));
    }
}
