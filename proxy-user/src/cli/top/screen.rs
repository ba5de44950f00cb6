//! The screen of `top`: four lists. However it ends, the terminal is as it was before.

use std::io;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, Widget};
use ratatui::{DefaultTerminal, Frame};

use super::tally::{Rate, Rates};

/// Columns of a figure.
const FIGURE: u16 = 10;

/// What a key asks for.
pub enum Key {
    /// End.
    End,
    /// The terminal has another size.
    Redraw,
}

/// The terminal, taken over. Dropping it gives it back; so does a panic.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal over.
    pub fn open() -> io::Result<Self> {
        let mut screen = Self { terminal: ratatui::try_init()? };
        screen.draw(&Rates::default())?;
        Ok(screen)
    }

    /// Shows a set of figures.
    pub fn draw(&mut self, rates: &Rates) -> io::Result<()> {
        self.terminal.draw(|frame| show(frame, rates)).map(drop)
    }

    /// What was pressed since the last call; does not wait.
    pub fn key() -> io::Result<Option<Key>> {
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) => {
                    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(Some(Key::End));
                    }
                }
                Event::Resize(..) => return Ok(Some(Key::Redraw)),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn show(frame: &mut Frame<'_>, rates: &Rates) {
    render(rates, frame.area(), frame.buffer_mut());
}

fn render(rates: &Rates, area: Rect, buffer: &mut Buffer) {
    let [head, upper, lower, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(area);
    let half = || Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    let head_line = Line::from(vec![
        "tidegate top  ".bold(),
        format!("{} packets/s, ", figure(rates.packets)).into(),
        format!("{} dropped/s", figure(rates.dropped)).fg(if rates.dropped > 0.0 { Color::Red } else { Color::Green }),
    ]);
    Paragraph::new(head_line).render(head, buffer);
    let ([reasons, rules], [sources, services]) = (half().areas(upper), half().areas(lower));
    for (title, list, place) in [
        ("reason", &rates.reasons, reasons),
        ("rule", &rates.rules, rules),
        ("dropped source, estimate", &rates.sources, sources),
        ("dropped for service, estimate", &rates.services, services),
    ] {
        table(title, list).render(place, buffer);
    }
    let lost = rates.lost.kernel + rates.lost.reader;
    let note = if lost > 0 { format!("{lost} samples lost; ") } else { String::new() };
    Paragraph::new(format!("{note}q ends")).style(Style::new().add_modifier(Modifier::DIM)).render(foot, buffer);
}

fn table<'a>(title: &'a str, list: &'a [Rate]) -> Table<'a> {
    let rows = list.iter().map(|rate| Row::new([rate.name.clone(), figure(rate.packets), figure(rate.bytes)]));
    let widths = [Constraint::Fill(1), Constraint::Length(FIGURE), Constraint::Length(FIGURE)];
    Table::new(rows, widths)
        .header(Row::new([title, "packets/s", "bytes/s"]).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered())
}

/// A number in few characters: `0`, `7.5`, `950`, `12.3k`, `4.0M`.
fn figure(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    for (unit, name) in UNITS {
        if value >= unit {
            return format!("{:.1}{name}", value / unit);
        }
    }
    if value > 0.0 && value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let rows = [
            (0.0, "0"),
            (0.5, "0.5"),
            (7.25, "7.2"),
            (950.0, "950"),
            (12_345.0, "12.3k"),
            (4e6, "4.0M"),
            (2.5e9, "2.5G"),
        ];
        for (value, text) in rows {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn all_lists_are_on_the_screen() {
        let rate = |name: &str| vec![Rate { name: name.to_owned(), packets: 1_500.0, bytes: 2e6 }];
        let rates = Rates {
            packets: 1_500.0,
            dropped: 1_500.0,
            reasons: rate("verdict"),
            rules: rate("shop/scanners"),
            sources: rate("192.0.2.7"),
            services: rate("web"),
            ..Rates::default()
        };
        let area = Rect::new(0, 0, 100, 20);
        let mut buffer = Buffer::empty(area);
        render(&rates, area, &mut buffer);
        let text: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
        for part in ["verdict", "shop/scanners", "192.0.2.7", "web", "1.5k packets/s", "2.0M", "q ends"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        // A terminal of a few cells is no reason to fail.
        for (width, height) in [(0, 0), (1, 1), (20, 3)] {
            let area = Rect::new(0, 0, width, height);
            render(&rates, area, &mut Buffer::empty(area));
        }
    }
}
