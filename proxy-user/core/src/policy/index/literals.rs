//! Literals that a regular expression cannot match without.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Most alternatives that are looked for.
const MAX_LITERALS: usize = 64;

/// In ASCII lower case: one of them stands in every text that matches, whatever its case. None where there is no such.
pub(super) fn required(pattern: &str) -> Option<Vec<Vec<u8>>> {
    let hir = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern).ok()?;
    of(&hir)
}

fn of(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    if let Some(literal) = exact(hir) {
        return (!literal.is_empty()).then(|| vec![literal]);
    }
    match hir.kind() {
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(of(part)?);
            }
            (all.len() <= MAX_LITERALS).then_some(all)
        }
        HirKind::Concat(parts) => {
            let mut options: Vec<Vec<Vec<u8>>> = Vec::new();
            let mut run = Vec::new();
            for part in parts {
                if let Some(literal) = exact(part) {
                    run.extend(literal);
                    continue;
                }
                options.extend((!run.is_empty()).then(|| vec![std::mem::take(&mut run)]));
                options.extend(of(part));
            }
            options.extend((!run.is_empty()).then(|| vec![run]));
            // The longest of them is the rarest; of alternatives the shortest counts.
            options.into_iter().max_by_key(|option| option.iter().map(Vec::len).min())
        }
        _ => None,
    }
}

/// The bytes that the part stands for, if these are the same in every match but for case; none for an assertion.
fn exact(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(Vec::new()),
        HirKind::Literal(literal) => Some(literal.0.to_ascii_lowercase()),
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(exact).try_fold(Vec::new(), |mut all, part| {
            all.extend(part?);
            Some(all)
        }),
        HirKind::Class(class) => {
            let ranges: Vec<(u32, u32)> = match class {
                Class::Unicode(class) => class.ranges().iter().map(|r| (r.start().into(), r.end().into())).collect(),
                Class::Bytes(class) => class.ranges().iter().map(|r| (r.start().into(), r.end().into())).collect(),
            };
            let mut letters = ranges.iter().map(|(start, end)| {
                let byte = u8::try_from(*start).ok().filter(|byte| start == end && byte.is_ascii())?;
                Some(byte.to_ascii_lowercase())
            });
            let first = letters.next()??;
            letters.all(|letter| letter == Some(first)).then(|| vec![first])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_stand_in_a_match() {
        let found = |pattern: &str| {
            let literals = required(pattern)?;
            Some(literals.into_iter().map(|l| String::from_utf8(l).expect("ASCII")).collect::<Vec<_>>().join("|"))
        };
        for (pattern, literals) in [
            ("abc", Some("abc")),
            ("^/A/.*/log[i]n$", Some("/login")),
            ("(?i)union\\s+all", Some("union")),
            ("^(sqlmap|nikto)", Some("sqlmap|nikto")),
            ("(^|/)\\.\\.(/|$)", Some("..")),
            ("a?b*", None),
            ("[0-9]+", None),
            ("x(abc)+y", Some("abc")),
            ("(?i)k", None),
            ("abc|[0-9]", None),
            ("", None),
        ] {
            assert_eq!(found(pattern).as_deref(), literals, "{pattern}");
        }
    }
}
