//! Values of the fields of a ClientHello.

use super::field::HelloField;
use crate::hello::{ClientHello, code_name, version_name};

/// Calls `test` with each value until it says true; says whether it did.
pub(super) fn values(hello: &ClientHello, field: HelloField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut any = |codes: &[u16]| codes.iter().any(|code| test(&code_name(*code)));
    match field {
        HelloField::Ciphers => any(&hello.ciphers),
        HelloField::Extensions => any(&hello.extensions),
        HelloField::Groups => any(&hello.groups),
        HelloField::SignatureAlgorithms => any(&hello.signature_algorithms),
        HelloField::Versions => hello.versions.iter().any(|version| test(version_name(*version).as_bytes())),
        HelloField::Alpn => hello.alpn.iter().any(|protocol| test(protocol)),
        HelloField::Sni => hello.sni.as_deref().is_some_and(test),
        HelloField::Ja4 => !hello.ja4.is_empty() && test(hello.ja4.as_bytes()),
    }
}
