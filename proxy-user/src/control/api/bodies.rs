//! What calls say in their bodies and in the segments of their paths.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use proxy_core::config::Span;
use serde::de::DeserializeOwned;

use super::{
    Call, EditedList, MAX_LIST_NAME, MAX_LOAD, MAX_LOG_FILTER, MAX_REQUEST_ID, MAX_SOURCE_BYTES, Policies, Refusal,
    Sources,
};
use crate::control::wire::{Apply, EditList, NewLogFilter, NewVerdict, NewVerdicts, Question, Rollback};
use crate::events::record::from_hex;
use crate::kernel::MAX_TTL;

pub(super) fn explain(body: &[u8]) -> Result<Call, Refusal> {
    let hint = r#"send {"packet": "<hex from the Ethernet header on>", "length": <bytes on the wire>, "interface": "eth0"}; all but the packet may be left out"#;
    let question: Question = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected: {error}"), hint))?;
    let packet = from_hex(&question.packet).map_err(|error| Refusal::bad(format!("the packet: {error}"), hint))?;
    let length = question.length.map_or(packet.len(), |length| length as usize);
    if length < packet.len() {
        return Err(Refusal::bad(format!("{} bytes of a packet of {length}", packet.len()), hint));
    }
    Ok(Call::Explain { packet, length, interface: question.interface })
}

pub(super) fn request_id(segment: &str) -> Result<String, Refusal> {
    let plain =
        !segment.is_empty() && segment.len() <= MAX_REQUEST_ID && segment.bytes().all(|b| b.is_ascii_hexdigit());
    let hint = "it stands in `x-request-id`, in the access log and in the text of a blocked answer";
    if plain { Ok(segment.to_owned()) } else { Err(Refusal::bad("this is not the id of a request", hint)) }
}

pub(super) fn list_name(segment: &str) -> Result<String, Refusal> {
    let hint = "write POLICY%2FLIST, one path segment; GET /v1/lists shows them";
    let name =
        percent_decode_str(segment).decode_utf8().map_err(|_| Refusal::bad("the list's name is not UTF-8", hint))?;
    if name.len() > MAX_LIST_NAME || !name.contains('/') {
        return Err(Refusal::bad("this is not the name of a list", hint));
    }
    Ok(name.into_owned())
}

pub(super) fn edit_list(segment: &str, body: &[u8]) -> Result<Call, Refusal> {
    let list = list_name(segment)?;
    let hint = r#"send {"add": ["192.0.2.1"], "remove": [], "ttl": "2h"}; what is empty may be left out"#;
    let asked: EditList = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected: {error}"), hint))?;
    let EditList { add, remove, ttl } = asked;
    if add.len() + remove.len() > MAX_LOAD || add.len() + remove.len() == 0 {
        let error = format!("{} items in one request", add.len() + remove.len());
        return Err(Refusal::bad(error, format!("send 1 to {MAX_LOAD} at once")));
    }
    let span = |text: String| match text.parse::<Span>() {
        Ok(span) if !span.0.is_zero() => Ok(span.0),
        Ok(_) => Err(Refusal::bad("a time of zero would end at once", hint)),
        Err(error) => Err(Refusal::bad(error, hint)),
    };
    let ttl = ttl.map(span).transpose()?;
    Ok(Call::EditList(EditedList { list, add, remove, ttl }))
}

pub(super) fn set_log(body: &[u8]) -> Result<Call, Refusal> {
    let hint = r#"send {"filter": "info,proxy_user::tls=debug", "for": "10m"}; without `for` it stays"#;
    let asked: NewLogFilter = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected: {error}"), hint))?;
    if asked.filter.len() > MAX_LOG_FILTER {
        return Err(Refusal::bad(format!("the filter is longer than {MAX_LOG_FILTER} bytes"), hint));
    }
    let time = asked.r#for.map(|text| text.parse::<Span>()).transpose().map_err(|error| Refusal::bad(error, hint))?;
    Ok(Call::SetLog { filter: asked.filter, time: time.map(|span| span.0) })
}

pub(super) fn apply(body: &[u8]) -> Result<Call, Refusal> {
    let asked: Apply = or_nothing(body).map_err(|error| {
        let hint =
            r#"send {"policies": {"files": [["name.json", "<its text>"]], "lists": []}}, or {} for the config's files"#;
        Refusal::bad(format!("the body is not what is expected: {error}"), hint)
    })?;
    Ok(Call::ApplyPolicies(asked.policies.map(Policies)))
}

pub(super) fn rollback(body: &[u8]) -> Result<Call, Refusal> {
    let asked: Rollback = or_nothing(body).map_err(|error| {
        Refusal::bad(format!("the body is not what is expected: {error}"), r#"send {"revision": 12}, or {}"#)
    })?;
    Ok(Call::Rollback(asked.revision))
}

/// A body in which everything may be left out.
fn or_nothing<T: Default + DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(body) }
}

pub(super) fn revision(segment: &str) -> Result<Option<u64>, Refusal> {
    if segment == "current" {
        return Ok(None);
    }
    segment.parse().map(Some).map_err(|_| {
        let error = "the revision is neither a number nor `current`";
        Refusal::bad(error, "GET /v1/policies/revisions lists them")
    })
}

pub(super) fn add_verdict(body: &[u8]) -> Result<Call, Refusal> {
    let new: NewVerdict = serde_json::from_slice(body).map_err(|e| {
        Refusal::bad(format!("the body is not what is expected: {e}"), r#"send {"source": "192.0.2.1", "ttl": "10m"}"#)
    })?;
    let ttl = ttl(&new.ttl)?;
    Ok(Call::AddVerdict { source: source(&new.source)?, ttl })
}

fn ttl(text: &str) -> Result<Duration, Refusal> {
    let ttl = text.parse::<Span>().map_err(|e| Refusal::bad(e, "the time must be longer than nothing"))?.0;
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(Refusal::bad(
            format!("`{text}` is not a time that a verdict can stand"),
            "give more than nothing and at most 30d; what shall stand longer belongs in a policy",
        ));
    }
    Ok(ttl)
}

pub(super) fn load_verdicts(body: &[u8]) -> Result<Call, Refusal> {
    let new: NewVerdicts = serde_json::from_slice(body).map_err(|e| {
        let hint = r#"send {"sources": ["192.0.2.1", ...], "ttl": "10m"}"#;
        Refusal::bad(format!("the body is not what is expected: {e}"), hint)
    })?;
    if new.sources.len() > MAX_LOAD {
        let error = format!("{} sources in one request", new.sources.len());
        return Err(Refusal::bad(error, format!("send at most {MAX_LOAD} at once")));
    }
    let checked = new.sources.iter().map(|text| source(text)).collect::<Result<_, _>>()?;
    Ok(Call::LoadVerdicts { sources: Sources(checked), ttl: ttl(&new.ttl)? })
}

pub(super) fn source_from_segment(segment: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| {
        Refusal::bad("the source in the path is not UTF-8", "percent-encode an address, e.g. 2001%3Adb8%3A%3A1")
    })?;
    source(&decoded)
}

/// Checks that `text` names an address or a prefix.
///
/// # Errors
/// 400, with what is expected.
pub fn source(text: &str) -> Result<String, Refusal> {
    let hint = "give an IPv4 or IPv6 address, or a prefix such as 192.0.2.0/24 or 2001:db8::/64; those of other lengths go into a policy's deny list";
    if text.len() > MAX_SOURCE_BYTES {
        return Err(Refusal::bad(format!("the source is longer than {MAX_SOURCE_BYTES} bytes"), hint));
    }
    let known = text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    if known { Ok(text.to_owned()) } else { Err(Refusal::bad(format!("`{text}` is not a source"), hint)) }
}

pub(super) fn worker(number: &str) -> Result<u32, Refusal> {
    number.parse().map_err(|_| {
        Refusal::bad("the worker is not a number", "workers are counted from 0; GET /v1/workers lists them")
    })
}
