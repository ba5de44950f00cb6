//! The ClientHello that a policy's test describes: what is not given is not in it.

use serde_json::Value;

use super::lang::HelloField;
use crate::hello::{ClientHello, code_by_name, version_by_name};
use crate::json::shape::describe;

/// Sets a field, of those with several values also from an array.
pub(super) fn text(hello: &mut ClientHello, field: HelloField, value: &Value) -> Result<(), String> {
    let one = || value.as_str().ok_or_else(|| format!("found {}, expected a string", describe(value)));
    match field {
        HelloField::Sni => hello.sni = Some(one()?.to_ascii_lowercase().into_bytes().into_boxed_slice()),
        HelloField::Ja4 => one()?.clone_into(&mut hello.ja4),
        HelloField::Alpn => hello.alpn = several(value)?.map(|name| name.as_bytes().into()).collect(),
        HelloField::Versions => hello.versions = codes(value, version_by_name, "TLSv1.2` or `TLSv1.3")?,
        HelloField::Ciphers => hello.ciphers = codes(value, code_by_name, "1301")?,
        HelloField::Extensions => hello.extensions = codes(value, code_by_name, "002b")?,
        HelloField::Groups => hello.groups = codes(value, code_by_name, "001d")?,
        HelloField::SignatureAlgorithms => hello.signature_algorithms = codes(value, code_by_name, "0403")?,
    }
    Ok(())
}

fn several(value: &Value) -> Result<impl Iterator<Item = &str>, String> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    if let Some(other) = items.iter().find(|item| !item.is_string()) {
        return Err(format!("found {}, expected a string or an array of strings", describe(other)));
    }
    Ok(items.iter().filter_map(Value::as_str))
}

fn codes(value: &Value, read: fn(&str) -> Option<u16>, such_as: &str) -> Result<Vec<u16>, String> {
    several(value)?
        .map(|name| read(name).ok_or_else(|| format!("`{name}` is none; write such as `{such_as}`")))
        .collect()
}
