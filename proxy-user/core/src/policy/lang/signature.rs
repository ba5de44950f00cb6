//! Signatures of SYNs as p0f 3 writes them, `version:ttl:olen:mss:window,scale:layout:quirks:payload`: text to pattern, and
//! what was seen of a SYN to text. The last two parts may be left out; `*` is any, in every part.

use std::fmt::Write as _;

use proxy_common::fingerprint::{MAX_LAYOUT, Syn, SynPattern, Window, quirk};
use proxy_common::syn_ack::kind;

use crate::diagnostic::hint;

/// Routers on the way, at most: a TTL this far below its initial one still counts as it, as in p0f.
const MAX_DISTANCE: u8 = 35;
/// Parts of a signature, and those that have to be there.
const PARTS: usize = 8;
const LEAST_PARTS: usize = 6;
/// The end of the options in a layout, with the number of bytes behind it.
const END: &str = "eol+";
/// Options by their names in a layout.
const OPTIONS: [(&str, u8); 6] = [
    ("nop", kind::NOP),
    ("mss", kind::MSS),
    ("ws", kind::WINDOW_SCALE),
    ("sok", kind::SACK_PERMITTED),
    ("sack", kind::SACK),
    ("ts", kind::TIMESTAMPS),
];

/// Reads a signature; the message says which part is wrong, and how it is written.
pub(crate) fn parse(text: &str) -> Result<SynPattern, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if !(LEAST_PARTS..=PARTS).contains(&parts.len()) {
        return Err(format!(
            "`{text}` is not a signature: it has {} parts; write version:ttl:olen:mss:window,scale:layout, and if need \
             be :quirks:payload, such as \"*:64:0:*:mss*20,7:mss,sok,ts,nop,ws\"",
            parts.len()
        ));
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or("*");
    let (window, scale) = part(4).split_once(',').ok_or_else(|| {
        format!("`{}` is not a window and its scale; write them as `29200,7`, `mss*20,7` or `*,*`", part(4))
    })?;
    Ok(SynPattern {
        version: match part(0) {
            "4" => 4,
            "6" => 6,
            "*" => 0,
            other => return Err(format!("`{other}` is not an IP version; write 4, 6 or *")),
        },
        ttl: ttl(part(1))?,
        ip_options: optional(part(2), "a length of IP options in bytes")?,
        mss: optional(part(3), "a segment size")?,
        window: self::window(window)?,
        scale: optional(scale, "a window scale")?,
        layout: if part(5) == "*" { None } else { Some(layout(part(5))?) },
        quirks: if part(6) == "*" { None } else { Some(quirks(part(6))?) },
        data: match part(7) {
            "0" => Some(0),
            "+" => Some(1),
            "*" => None,
            other => return Err(format!("`{other}` is not a payload; write 0 for none, + for some or *")),
        },
    })
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not {what}"))
}

fn optional<T: std::str::FromStr>(text: &str, what: &str) -> Result<Option<T>, String> {
    if text == "*" { Ok(None) } else { number(text, what).map(Some) }
}

/// `64`, up to 35 routers away; `64-`, at most that; `58+6`, as p0f prints what it sees.
fn ttl(text: &str) -> Result<[u8; 2], String> {
    const WHAT: &str = "a TTL; write the one it began with, as 64, 128 or 255, or *";
    if text == "*" {
        return Ok([0, u8::MAX]);
    }
    if let Some(most) = text.strip_suffix('-') {
        return Ok([0, number(most, WHAT)?]);
    }
    let first: u8 = match text.split_once('+') {
        Some((seen, distance)) => number::<u8>(seen, WHAT)?
            .checked_add(number(distance, WHAT)?)
            .ok_or_else(|| format!("`{text}` is beyond 255, the largest TTL there is"))?,
        None => number(text, WHAT)?,
    };
    Ok([first.saturating_sub(MAX_DISTANCE), first])
}

fn window(text: &str) -> Result<Window, String> {
    const WHAT: &str = "a window; write a number, mss*20, mtu*4, %8192 (a multiple) or *";
    let times = |rest: &str| match number::<u16>(rest, WHAT)? {
        0 => Err(format!("`{text}` is no multiple of anything; {}", WHAT.trim_start_matches("a window; "))),
        times => Ok(times),
    };
    Ok(if text == "*" {
        Window::Any
    } else if let Some(rest) = text.strip_prefix("mss*") {
        Window::Mss(times(rest)?)
    } else if let Some(rest) = text.strip_prefix("mtu*") {
        Window::Mtu(times(rest)?)
    } else if let Some(rest) = text.strip_prefix('%') {
        Window::MultipleOf(times(rest)?)
    } else {
        Window::Exact(number(text, WHAT)?)
    })
}

/// Number of the options, their kinds, and the bytes behind their end. Nothing between the colons is a SYN without options.
fn layout(text: &str) -> Result<(u8, [u64; 2], u8), String> {
    let (mut count, mut all, mut padding) = (0, 0_u128, 0);
    for name in text.split(',').filter(|_| !text.is_empty()) {
        let kind = if let Some(bytes) = name.strip_prefix(END) {
            padding = number(bytes, "a number of bytes behind the end of the options")?;
            kind::END
        } else if let Some(number) = name.strip_prefix('?') {
            self::number(number, "the number of a TCP option")?
        } else {
            let known = OPTIONS.iter().find(|(known, _)| *known == name);
            let names = OPTIONS.iter().map(|(known, _)| *known);
            known.ok_or_else(|| format!("unknown TCP option `{name}`{}; write ?N for number N", hint(name, names)))?.1
        };
        count += 1;
        if usize::from(count) > MAX_LAYOUT {
            return Err(format!("a layout of more than {MAX_LAYOUT} options"));
        }
        all = all << 8 | u128::from(kind);
    }
    Ok((count, [(all >> 64) as u64, all as u64], padding))
}

fn quirks(text: &str) -> Result<u32, String> {
    text.split(',').filter(|_| !text.is_empty()).try_fold(0, |bits, name| {
        let known = quirk::NAMES.iter().position(|known| *known == name);
        let bit = known.ok_or_else(|| format!("unknown quirk `{name}`{}", hint(name, quirk::NAMES)))?;
        Ok(bits | 1 << bit)
    })
}

/// What was seen of a SYN, as p0f prints it: the TTL with the routers that it has likely passed.
pub(crate) fn describe(syn: &Syn) -> String {
    let first = [32_u8, 64, 128].into_iter().find(|first| syn.ttl <= *first).unwrap_or(u8::MAX);
    let mut text = format!(
        "{}:{}+{}:{}:{}:{},{}:",
        syn.version,
        syn.ttl,
        first - syn.ttl,
        syn.ip_options,
        syn.mss,
        syn.window,
        syn.scale
    );
    if usize::from(syn.options) > MAX_LAYOUT {
        // Writing to a string does not fail.
        let _ = write!(text, "{} options", syn.options);
    } else {
        let [upper, lower] = syn.layout;
        let all = u128::from(upper) << 64 | u128::from(lower);
        let names: Vec<String> = (0..u32::from(syn.options))
            .rev()
            .map(|place| match (all >> (8 * place)) as u8 {
                kind::END => format!("{END}{}", syn.padding),
                kind => OPTIONS
                    .iter()
                    .find(|(_, known)| *known == kind)
                    .map_or_else(|| format!("?{kind}"), |(name, _)| (*name).to_owned()),
            })
            .collect();
        text += &names.join(",");
    }
    let quirks = quirk::NAMES.iter().enumerate().filter(|(bit, _)| syn.quirks >> bit & 1 != 0);
    let quirks: Vec<&str> = quirks.map(|(_, name)| *name).collect();
    let _ = write!(text, ":{}:{}", quirks.join(","), if syn.data == 0 { "0" } else { "+" });
    text
}

/// The MSS of a test's SYN whose signature names none: what systems send over Ethernet.
pub(crate) const ORDINARY_MSS: u16 = 1_460;

/// The TCP options of a SYN as a signature has them, for the packet of a test; values that are any are ordinary ones.
pub(crate) fn options(pattern: &SynPattern) -> Vec<u8> {
    /// `mss,nop,ws`, where any layout will do.
    const ORDINARY: (u8, [u64; 2], u8) = (3, [0, 0x02_0103], 0);
    let (count, [upper, lower], padding) = pattern.layout.unwrap_or(ORDINARY);
    let all = u128::from(upper) << 64 | u128::from(lower);
    let mut bytes = Vec::new();
    for place in (0..u32::from(count)).rev() {
        match (all >> (8 * place)) as u8 {
            kind::END => bytes.extend(vec![0; usize::from(padding) + 1]),
            kind::NOP => bytes.push(kind::NOP),
            kind::MSS => {
                bytes.extend([kind::MSS, 4]);
                bytes.extend(pattern.mss.unwrap_or(ORDINARY_MSS).to_be_bytes());
            }
            kind::WINDOW_SCALE => bytes.extend([kind::WINDOW_SCALE, 3, pattern.scale.unwrap_or_default()]),
            kind::TIMESTAMPS => {
                let own = u8::from(pattern.quirks.unwrap_or_default() & quirk::TS_ZERO == 0);
                let peer = u8::from(pattern.quirks.unwrap_or_default() & quirk::PEER_TS != 0);
                bytes.extend([kind::TIMESTAMPS, 10, 0, 0, 0, own, 0, 0, 0, peer]);
            }
            other => bytes.extend([other, 2]),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_a_signature_of_itself() {
        let syn = Syn {
            layout: [0, 0x0204_0801_0300],
            quirks: quirk::DF | quirk::ID_SET,
            mss: 1_460,
            window: 29_200,
            options: 6,
            padding: 3,
            scale: 7,
            version: 4,
            ttl: 58,
            ..Syn::default()
        };
        let text = describe(&syn);
        assert_eq!(text, "4:58+6:0:1460:29200,7:mss,sok,ts,nop,ws,eol+3:df,id+:0");
        let pattern = parse(&text).expect("a signature");
        assert!(pattern.holds(&syn));
        for written in [
            "4:64:0:1460:29200,7:mss,sok,ts,nop,ws,eol+3",
            "*:64:*:*:mss*20,*:*",
            "*:64-:0:*:*,7:mss,?4,ts,nop,ws,eol+3:*:0",
            "*:*:*:*:%400,*:*:df,id+,flow:*",
        ] {
            assert!(parse(written).expect(written).holds(&syn), "{written}");
        }
        for written in ["4:32:0:*:*,*:*", "4:94:0:*:*,*:*:df:*", "*:*:*:*:mtu*20,*:*", "*:*:*:*:*,*::*:*"] {
            assert!(!parse(written).expect(written).holds(&syn), "{written}");
        }
    }

    #[test]
    fn what_is_no_signature_is_told() {
        for (text, said) in [
            ("4:64", "it has 2 parts"),
            ("5:64:0:*:*,*:*", "`5` is not an IP version"),
            ("4:x:0:*:*,*:*", "`x` is not a TTL"),
            ("4:255+1:0:*:*,*:*", "beyond 255"),
            ("4:64:0:*:29200:*", "is not a window and its scale"),
            ("4:64:0:*:mss*0,*:*", "no multiple of anything"),
            ("4:64:0:*:*,*:mss,sock", "unknown TCP option `sock`; did you mean `sok`?"),
            ("4:64:0:*:*,*:*:bat", "unknown quirk `bat`; did you mean `bad`?"),
            ("4:64:0:*:*,*:*:*:1", "`1` is not a payload"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
