//! How answers look: tables for people, JSON for programs. Colour only where a terminal reads it.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Headings of tables.
pub(super) const HEADING: Style = Style::new().bold();
/// What is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What wants attention.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();

/// What is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Standard output; colours are stripped unless a terminal reads it.
pub(super) fn stdout() -> impl Write {
    anstream::stdout().lock()
}

/// One JSON value and a line end.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    // Written in one piece, so that a broken pipe comes back as what it is and not inside a serialization error.
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(io::stdout().lock().write_all(&text)?)
}

/// One JSON value on a line of its own, at once.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    Ok(out.flush()?)
}

/// Columns under headings. The first `left` columns are aligned left, the others, figures, right.
pub(super) fn table(out: &mut impl Write, headings: &[&str], left: usize, rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let cell = if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            line.push_str(&cell);
        }
        line.trim_end().to_owned()
    };
    writeln!(out, "{HEADING}{}{HEADING:#}", line(&mut headings.iter().copied()))?;
    for row in rows {
        writeln!(out, "{}", line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

/// A time in seconds as people say it: `850ms`, `42s`, `12m 5s`, `3h 20m`, `2d 4h`.
#[expect(clippy::cast_sign_loss, reason = "negative times are cut to zero first")]
pub(super) fn duration(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1e3).round() as u64;
    let whole = milliseconds / 1_000;
    match whole {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{whole}s"),
        60..3_600 => pair(whole, 60, "m", "s", 1),
        3_600..86_400 => pair(whole, 3_600, "h", "m", 60),
        _ => pair(whole, 86_400, "d", "h", 3_600),
    }
}

fn pair(seconds: u64, unit: u64, name: &str, next_name: &str, next_unit: u64) -> String {
    match seconds % unit / next_unit {
        0 => format!("{}{name}", seconds / unit),
        rest => format!("{}{name} {rest}{next_name}", seconds / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let rows = [
            (-1.0, "0ms"),
            (0.85, "850ms"),
            (42.4, "42s"),
            (725.0, "12m 5s"),
            (600.0, "10m"),
            (12_000.0, "3h 20m"),
            (187_200.0, "2d 4h"),
        ];
        for (seconds, text) in rows {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_table_lines_up() {
        let mut out = Vec::new();
        let rows = vec![vec!["a".to_owned(), "7".to_owned()], vec!["long name".to_owned(), "12345".to_owned()]];
        table(&mut out, &["name", "n"], 1, &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let plain = text.replace(&format!("{HEADING}"), "").replace(&format!("{HEADING:#}"), "");
        assert_eq!(plain, "name           n\na              7\nlong name  12345\n");
    }
}
