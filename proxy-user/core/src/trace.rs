//! Trace context: what `traceparent` says (W3C Trace Context level 1, section 3.2), and whether a trace is recorded.
//! Random numbers are arguments.

use std::fmt;

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// The flag of a trace that its caller records.
const SAMPLED: u8 = 1;

/// What a caller says of the trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
}

/// Number of a trace; shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

/// Number of a span; shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A request's own span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub id: SpanId,
    /// The caller's span, where the trace is the caller's.
    pub parent: Option<SpanId>,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Parent {
    /// Reads `traceparent`. `None` where it is not one: then a trace of its own begins.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let version = number(head.get(..2)?)?;
        // Later versions may say more, behind a dash; 255 is none.
        if version == 0xff || !(rest.is_empty() || version > 0 && rest.starts_with(b"-")) {
            return None;
        }
        if [2, 35, 52].iter().any(|at| head.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace = number(head.get(3..35)?)?;
        let span = number(head.get(36..52)?)? as u64;
        let flags = number(head.get(53..55)?)? as u8;
        (trace != 0 && span != 0).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled: flags & SAMPLED != 0,
        })
    }
}

impl Span {
    /// A span below `parent`, or the first of a trace of which `share` are recorded. `random` are three numbers.
    pub fn new(parent: Option<Parent>, share: f64, random: [u64; 3]) -> Self {
        let [high, low, id] = random;
        // A number of zero stands for none.
        let id = SpanId(id.max(1));
        if let Some(Parent { trace, span, sampled }) = parent {
            return Self { trace, id, parent: Some(span), sampled };
        }
        let trace = TraceId((u128::from(high) << 64 | u128::from(low)).max(1));
        Self { trace, id, parent: None, sampled: is_sampled(high, share) }
    }

    /// `traceparent` for whoever is asked on its behalf.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.id, u8::from(self.sampled))
    }
}

/// Whether a random number is among `share` of all.
#[expect(clippy::cast_precision_loss, reason = "a share is not known to 53 bits")]
fn is_sampled(random: u64, share: f64) -> bool {
    (random as f64) < share * (u64::MAX as f64) || share >= 1.0
}

/// Lower-case hexadecimal digits, at most 32.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recommendation_calls_valid_is_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::parse(text.as_bytes()).unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((parent.span.to_string().as_str(), parent.sampled), ("00f067aa0ba902b7", true));
        let later = text.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(Parent::parse(later.as_bytes()), Some(parent));
        let off = text.replace("-01", "-02");
        assert!(!Parent::parse(off.as_bytes()).unwrap().sampled);
    }

    #[test]
    fn what_it_calls_invalid_is_not() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
        ] {
            assert_eq!(Parent::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_span_belongs_to_its_parents_trace_or_begins_one() {
        let parent = Parent { trace: TraceId(7), span: SpanId(9), sampled: true };
        let span = Span::new(Some(parent), 0.0, [1, 2, 3]);
        assert_eq!((span.trace, span.parent, span.sampled), (TraceId(7), Some(SpanId(9)), true));
        assert_eq!(Parent::parse(span.traceparent().as_bytes()).unwrap().span, span.id);
        let first = Span::new(None, 1.0, [0, 0, 0]);
        assert_eq!((first.trace, first.id, first.sampled), (TraceId(1), SpanId(1), true));
        assert!(!Span::new(None, 0.0, [0, 0, 0]).sampled);
        let recorded = (0..1000_u64).filter(|n| Span::new(None, 0.25, [n << 54, 1, 1]).sampled).count();
        assert_eq!(recorded, 256);
    }
}
