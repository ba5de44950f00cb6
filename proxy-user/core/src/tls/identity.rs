//! Who a client's certificate says it is, as policies and origins are told. Only certificates that an authority of the config
//! has signed come here; what is in them is still not trusted to be harmless: texts are escaped (RFC 4514).

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

use crate::digest::{Digest, hex};
use crate::policy::encode_base64;

/// Most bytes of a certificate that is looked at.
const MAX_CERTIFICATE_BYTES: usize = 64 << 10;
/// Most names of a certificate that are kept.
const MAX_NAMES: usize = 64;
/// Attributes that have a short name (RFC 4514 section 3, and what OpenSSL adds), by their object identifiers.
const SHORT_NAMES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "street"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.5", "serialNumber"),
];

/// A client, by its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Subject, the most special part first: `CN=robot,O=Example`.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// Serial number, lower-case hex digits without leading zeros.
    pub serial: String,
    /// SHA-256 of the certificate, lower-case hex digits.
    pub fingerprint: String,
    /// The certificate in Base64.
    pub encoded: String,
    /// DNS names, mail addresses and URIs that it is for, escaped as the subject.
    pub names: Vec<String>,
}

impl Identity {
    /// Reads a certificate, DER.
    ///
    /// # Errors
    /// It is not one, or too long.
    pub fn read(der: &[u8]) -> Result<Self, &'static str> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err("the client's certificate is too long");
        }
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "the client's certificate cannot be read")?;
        let mut names = Vec::new();
        if let Ok(Some(extension)) = certificate.subject_alternative_name() {
            for name in extension.value.general_names.iter().take(MAX_NAMES) {
                if let GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) = name {
                    names.push(escaped(text.as_bytes()));
                }
            }
        }
        Ok(Self {
            subject: distinguished(certificate.subject()),
            issuer: distinguished(certificate.issuer()),
            serial: serial(certificate.raw_serial()),
            fingerprint: Digest::of(der).to_string(),
            encoded: String::from_utf8_lossy(&encode_base64(der)).into_owned(),
            names,
        })
    }
}

fn serial(bytes: &[u8]) -> String {
    let digits = hex(bytes);
    let short = digits.trim_start_matches('0');
    if short.is_empty() { "0".to_owned() } else { short.to_owned() }
}

/// RFC 4514 section 2.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in name.iter() {
        let attributes: Vec<String> = part
            .iter()
            .map(|attribute| {
                let id = attribute.attr_type().to_id_string();
                let short = SHORT_NAMES.iter().find(|(known, _)| *known == id).map(|(_, short)| *short);
                match (short, text_of(attribute.attr_value())) {
                    (Some(short), Some(text)) => format!("{short}={}", escaped(&text)),
                    (short, _) => format!("{}=#{}", short.unwrap_or(&id), hex(attribute.attr_value().data)),
                }
            })
            .collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

/// The bytes of a string in UTF-8 or a part of it; of other types none.
fn text_of(value: &Any<'_>) -> Option<Vec<u8>> {
    let text = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::NumericString, Tag::VisibleString];
    text.contains(&value.tag()).then(|| value.data.to_vec())
}

/// RFC 4514 section 2.4; also what is not printable ASCII is written as hex digits, so that the text may stand in a header
/// field.
fn escaped(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        let edge = at == 0 && matches!(byte, b' ' | b'#') || at + 1 == text.len() && *byte == b' ';
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            _ if edge => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.extend(["\\", &hex(&[*byte]).to_ascii_uppercase()]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_be_taken_for_more_than_one_part() {
        assert_eq!(escaped(b"a,O=admin"), "a\\,O=admin");
        assert_eq!(escaped(b" #x "), "\\ #x\\ ");
        assert_eq!(escaped("ä\r\n".as_bytes()), "\\C3\\A4\\0D\\0A");
        assert_eq!(serial(&[0, 0x0a, 0xff]), "aff");
        assert_eq!(serial(&[0]), "0");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(Identity::read(b"").is_err());
        assert!(Identity::read(&[0x30; 100]).is_err());
        assert!(Identity::read(&vec![0; MAX_CERTIFICATE_BYTES + 1]).is_err());
    }
}
