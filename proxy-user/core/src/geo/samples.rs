//! Small files in MaxMind's format (MaxMind DB file format specification 2.0) for tests: IPv4 networks, each with a record.

use std::net::Ipv4Addr;

/// A value of a record.
pub enum Value {
    /// A string.
    Text(&'static str),
    /// A number of 32 bits.
    Number(u32),
    /// A number of 16 bits, with no more bytes than it needs.
    Short(u16),
    /// Names and values.
    Map(Vec<(&'static str, Value)>),
}

/// Kinds of values, in the upper three bits of their first byte.
const TEXT: u8 = 2;
const SHORT: u8 = 5;
const NUMBER: u8 = 6;
const MAP: u8 = 7;

fn begin(kind: u8, size: usize) -> u8 {
    kind << 5 | size as u8
}

impl Value {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                to.push(begin(TEXT, text.len()));
                to.extend(text.bytes());
            }
            Self::Number(number) => {
                to.push(begin(NUMBER, 4));
                to.extend(number.to_be_bytes());
            }
            Self::Short(number) => {
                let bytes = number.to_be_bytes();
                let needed = bytes.iter().skip_while(|byte| **byte == 0).copied();
                to.push(begin(SHORT, needed.clone().count()));
                to.extend(needed);
            }
            Self::Map(entries) => {
                to.push(begin(MAP, entries.len()));
                for (name, value) in entries {
                    Self::Text(name).write(to);
                    value.write(to);
                }
            }
        }
    }
}

/// The bytes of a file.
pub fn file(networks: &[(Ipv4Addr, u8, Value)]) -> Vec<u8> {
    // Nodes of two records each: another node, nothing, or data.
    #[derive(Clone, Copy)]
    enum Record {
        Nothing,
        Node(usize),
        Data(usize),
    }
    let (mut nodes, mut data) = (vec![[Record::Nothing; 2]], Vec::new());
    for (address, length, value) in networks {
        let mut at = 0;
        for bit in 0..*length {
            let side = (address.to_bits() >> (31 - bit) & 1) as usize;
            if bit + 1 == *length {
                nodes[at][side] = Record::Data(data.len());
            } else if let Record::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([Record::Nothing; 2]);
                nodes[at][side] = Record::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
        value.write(&mut data);
    }
    let count = nodes.len();
    let number = |record: &Record| match record {
        Record::Nothing => count,
        Record::Node(node) => *node,
        // Behind the tree and sixteen zeros.
        Record::Data(offset) => count + 16 + offset,
    };
    let mut bytes: Vec<u8> = Vec::new();
    for record in nodes.iter().flatten() {
        bytes.extend(&(number(record) as u32).to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    bytes.push(begin(MAP, 9));
    for (name, number) in
        [("binary_format_major_version", 2), ("binary_format_minor_version", 0), ("ip_version", 4), ("record_size", 24)]
    {
        Value::Text(name).write(&mut bytes);
        Value::Short(number).write(&mut bytes);
    }
    for (name, value) in [
        ("node_count", Value::Number(count as u32)),
        ("database_type", Value::Text("Test")),
        ("description", Value::Map(Vec::new())),
    ] {
        Value::Text(name).write(&mut bytes);
        value.write(&mut bytes);
    }
    // Types beyond seven stand in a byte of their own: an array, and a number of 64 bits.
    Value::Text("languages").write(&mut bytes);
    bytes.extend([0, 11 - 7]);
    Value::Text("build_epoch").write(&mut bytes);
    bytes.extend([4, 9 - 7, 0x6a, 0, 0, 0]);
    bytes
}

/// A record of a country.
pub fn country(continent: &'static str, code: &'static str) -> Value {
    Value::Map(vec![
        ("continent", Value::Map(vec![("code", Value::Text(continent))])),
        ("country", Value::Map(vec![("iso_code", Value::Text(code))])),
    ])
}

/// A record of a network.
pub fn network(number: u32) -> Value {
    Value::Map(vec![("autonomous_system_number", Value::Number(number))])
}
