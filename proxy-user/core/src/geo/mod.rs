//! Where addresses are said to be, and whose networks they belong to: files in MaxMind's format, which the caller has read.
//! What they say is taken as it is; an address that they do not know has no country.

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use maxminddb::{PathElement, Reader, WithinOptions};

/// Largest file that is read; the whole of GeoLite2-City has about 60 MiB.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Networks of a file that are looked through for one that says what the file is there for, those that nothing is said of
/// among them: a broken file may have no end.
const MAX_TRIED: usize = 100_000;

const COUNTRY: [PathElement<'_>; 2] = [PathElement::Key("country"), PathElement::Key("iso_code")];
const CONTINENT: [PathElement<'_>; 2] = [PathElement::Key("continent"), PathElement::Key("code")];
const ASN: [PathElement<'_>; 1] = [PathElement::Key("autonomous_system_number")];

/// Answers about addresses.
pub trait Places: fmt::Debug {
    /// Country, by its two letters (ISO 3166-1), upper case.
    fn country(&self, address: IpAddr) -> Option<&str>;
    /// Continent, by two letters: `AF`, `AN`, `AS`, `EU`, `NA`, `OC` or `SA`.
    fn continent(&self, address: IpAddr) -> Option<&str>;
    /// Number of the autonomous system.
    fn asn(&self, address: IpAddr) -> Option<u32>;
}

/// The files of a config.
#[derive(Default)]
pub struct Databases {
    country: Option<Reader<Vec<u8>>>,
    asn: Option<Reader<Vec<u8>>>,
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Databases").field("country", &self.has_countries()).field("asn", &self.has_networks()).finish()
    }
}

impl Databases {
    /// Takes the contents of a file of countries (or cities), and of one of networks.
    ///
    /// # Errors
    /// Which of the two is none of its format, `country` or `asn`, or tells something else, and why.
    pub fn new(country: Option<Vec<u8>>, asn: Option<Vec<u8>>) -> Result<Self, (&'static str, String)> {
        let open = |name: &'static str, bytes: Option<Vec<u8>>| {
            let wrong = |error: String| (name, format!("this is no file in MaxMind's format: {error}"));
            bytes.map(Reader::from_source).transpose().map_err(|error| wrong(error.to_string()))
        };
        let found = Self { country: open("country", country)?, asn: open("asn", asn)? };
        tells(found.country.as_ref(), &COUNTRY, "`country.iso_code`").map_err(|error| ("country", error))?;
        tells(found.asn.as_ref(), &ASN, "`autonomous_system_number`").map_err(|error| ("asn", error))?;
        Ok(found)
    }

    /// Whether it tells countries.
    pub fn has_countries(&self) -> bool {
        self.country.is_some()
    }

    /// Whether it tells networks.
    pub fn has_networks(&self) -> bool {
        self.asn.is_some()
    }
}

/// Whether a file says what it is there for: files get mixed up, and the rules on them would never match.
fn tells(reader: Option<&Reader<Vec<u8>>>, path: &[PathElement<'_>], key: &str) -> Result<(), String> {
    let Some(reader) = reader else { return Ok(()) };
    let networks = reader.networks(WithinOptions::default().include_networks_without_data());
    let networks = networks.map_err(|error| error.to_string())?;
    // Of any type: a value that is there is what is looked for.
    let has = |found: maxminddb::LookupResult<'_, Vec<u8>>| {
        matches!(found.decode_path::<serde::de::IgnoredAny>(path), Ok(Some(_)))
    };
    if networks.take(MAX_TRIED).flatten().any(has) {
        return Ok(());
    }
    let kind = &reader.metadata().database_type;
    Err(format!("a file of the type `{kind}` whose networks have no {key}: is it the other file?"))
}

/// A value of an address's record. Files that are broken there say nothing.
fn value<'r, T: serde::Deserialize<'r>>(
    reader: Option<&'r Reader<Vec<u8>>>,
    address: IpAddr,
    path: &[PathElement<'_>],
) -> Option<T> {
    reader?.lookup(address).ok()?.decode_path(path).ok()?
}

impl Places for Databases {
    fn country(&self, address: IpAddr) -> Option<&str> {
        value(self.country.as_ref(), address, &COUNTRY)
    }

    fn continent(&self, address: IpAddr) -> Option<&str> {
        value(self.country.as_ref(), address, &CONTINENT)
    }

    fn asn(&self, address: IpAddr) -> Option<u32> {
        // MaxMind's own files have 32 bits there, those of other makers any width that the number fits in: asked for as 64
        // bits with a sign, which is no type of the format, each is taken.
        let number: Option<i64> = value(self.asn.as_ref(), address, &ASN);
        number.and_then(|number| u32::try_from(number).ok())
    }
}

/// One place, wherever the address is: what a test of a policy gives.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// As [`Places::country`].
    pub country: Option<String>,
    /// As [`Places::continent`].
    pub continent: Option<String>,
    /// As [`Places::asn`].
    pub asn: Option<u32>,
}

impl Places for Place {
    fn country(&self, _: IpAddr) -> Option<&str> {
        self.country.as_deref()
    }

    fn continent(&self, _: IpAddr) -> Option<&str> {
        self.continent.as_deref()
    }

    fn asn(&self, _: IpAddr) -> Option<u32> {
        self.asn
    }
}
