//! The table on a terminal: drawn anew with each look, scrolled by keys.

use super::rates::Process;
use super::text::{self, Role};
use super::{Looks, RecvTimeoutError, channel};
use crate::failure::Failure;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a key may wait.
const KEYS: Duration = Duration::from_millis(50);
/// Said at the bottom.
const HELP: &str = "q quit  ↑ ↓ PgUp PgDn Home End scroll";

/// What is on the screen.
#[derive(Default)]
struct Screen {
    /// `None` until the first interval is over.
    processes: Option<Vec<Process>>,
    /// Lines above the first one shown.
    scroll: usize,
    /// Lines that there is room for, as of the last drawing.
    height: usize,
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Up(usize),
    Down(usize),
    Nothing,
}

/// Shows looks until the user has had enough.
pub fn run(looks: Looks) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::CouldNot(format!("use the terminal: {e}"));
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(failed)?;
    }
    let (to, from) = channel();
    let looker = move || looks.send(&to);
    std::thread::Builder::new().name("looks".into()).spawn(looker).map_err(failed)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let mut show = || -> Result<(), Failure> {
        let mut screen = Screen::default();
        loop {
            terminal.draw(|frame| screen.draw(frame)).map_err(failed)?;
            // A look, a key or a new size: whatever comes first is shown next.
            while event::poll(Duration::ZERO).map_err(failed)? {
                let wish = event::read().map(|event| screen.wish(&event)).map_err(failed)?;
                match wish {
                    Wish::Quit => return Ok(()),
                    Wish::Up(lines) => screen.scroll = screen.scroll.saturating_sub(lines),
                    Wish::Down(lines) => screen.scroll = screen.scroll.saturating_add(lines),
                    Wish::Nothing => {}
                }
            }
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            match from.recv_timeout(KEYS) {
                Ok(processes) => screen.processes = Some(processes?),
                Err(RecvTimeoutError::Timeout) => {}
                // So many intervals were asked for.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    };
    let result = show();
    ratatui::restore();
    result
}

impl Screen {
    fn wish(&self, event: &Event) -> Wish {
        let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else {
            return Wish::Nothing;
        };
        if *kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        match code {
            KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Wish::Quit,
            KeyCode::Up | KeyCode::Char('k') => Wish::Up(1),
            KeyCode::Down | KeyCode::Char('j') => Wish::Down(1),
            KeyCode::PageUp => Wish::Up(self.height.max(1)),
            KeyCode::PageDown => Wish::Down(self.height.max(1)),
            KeyCode::Home => Wish::Up(usize::MAX),
            KeyCode::End => Wish::Down(usize::MAX),
            _ => Wish::Nothing,
        }
    }

    /// Draws the lines from the scroll position on, and the help below them. The position is brought
    /// back to where there is something to see.
    fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let [body, foot] = split(area);
        let lines = match &self.processes {
            None => vec![(Role::Row, "…".to_owned())],
            Some(processes) if processes.is_empty() => vec![(Role::Row, text::NOBODY.to_owned())],
            Some(processes) => text::lines(processes),
        };
        self.height = body.height.into();
        self.scroll = self.scroll.min(lines.len().saturating_sub(self.height));
        let below = lines.len().saturating_sub(self.scroll + self.height);
        let shown = lines.into_iter().skip(self.scroll).take(self.height);
        let shown: Vec<Line<'_>> =
            shown.map(|(role, line)| Line::styled(line, style(role))).collect();
        frame.render_widget(Paragraph::new(shown), body);
        let more = match (self.scroll, below) {
            (0, 0) => String::new(),
            (above, below) => format!("  ({above} lines above, {below} below)"),
        };
        let help = Line::styled(format!("{HELP}{more}"), Modifier::DIM);
        frame.render_widget(Paragraph::new(help), foot);
    }
}

/// The lines of the table, and the last one.
fn split(area: ratatui::layout::Rect) -> [ratatui::layout::Rect; 2] {
    let foot_height = area.height.min(1);
    let mut body = area;
    body.height = area.height - foot_height;
    let mut foot = area;
    (foot.y, foot.height) = (area.y + body.height, foot_height);
    [body, foot]
}

fn style(role: Role) -> Style {
    match role {
        Role::Title => Style::new().add_modifier(Modifier::BOLD),
        Role::Heads => Style::new().add_modifier(Modifier::DIM),
        Role::Row => Style::new(),
        Role::Trouble => Style::new().fg(Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::tests::{sampled, status};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> (Vec<String>, Vec<Color>) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = (0..height).map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned()
        });
        (lines.collect(), (0..height).map(|y| buffer[(2.min(width - 1), y)].fg).collect())
    }

    fn screen() -> Screen {
        Screen { processes: Some(sampled(status(10), status(12))), ..Screen::default() }
    }

    #[test]
    fn the_table_is_drawn_with_what_drops_in_red() {
        let (lines, colours) = drawn(&mut screen(), 100, 14);
        assert_eq!(lines[0], "broker 4711 east  up 00:00:12  /etc/tapline/broker.toml");
        assert!(lines[2].starts_with("  source  left "), "{lines:?}");
        assert!(lines[5].contains("75%") && lines[6].contains("queue_full 6000 (500/s)"));
        assert_eq!((colours[2], colours[5], colours[6]), (Color::Reset, Color::Red, Color::Red));
        // The interface is down.
        assert_eq!((colours[7], colours[9]), (Color::Reset, Color::Red));
        assert_eq!(lines[13], HELP);
    }

    #[test]
    fn a_small_screen_scrolls_and_stops_at_the_ends() {
        let mut screen = screen();
        let (lines, _) = drawn(&mut screen, 80, 5);
        assert!(lines[0].starts_with("broker") && lines[4].ends_with("(0 lines above, 7 below)"));
        screen.scroll = usize::MAX;
        let (lines, _) = drawn(&mut screen, 80, 5);
        assert_eq!(screen.scroll, 7);
        assert!(lines[3].trim().starts_with("dropped: rx_dropped 7"), "{lines:?}");
        for (width, height) in [(1, 1), (3, 2), (60, 1)] {
            drawn(&mut screen, width, height);
        }
        let (lines, _) = drawn(&mut Screen::default(), 40, 3);
        assert_eq!(lines[0], "…");
        let mut nobody = Screen { processes: Some(Vec::new()), ..Screen::default() };
        assert_eq!(drawn(&mut nobody, 40, 3).0[0], text::NOBODY);
    }

    #[test]
    fn keys_are_understood() {
        let screen = Screen { height: 10, ..Screen::default() };
        let press = |code| screen.wish(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        assert_eq!(press(KeyCode::Char('q')), Wish::Quit);
        assert_eq!(press(KeyCode::Esc), Wish::Quit);
        assert_eq!(press(KeyCode::Down), Wish::Down(1));
        assert_eq!(press(KeyCode::PageUp), Wish::Up(10));
        assert_eq!(press(KeyCode::Char('c')), Wish::Nothing);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.wish(&Event::Key(interrupt)), Wish::Quit);
        assert_eq!(screen.wish(&Event::Resize(3, 4)), Wish::Nothing);
    }
}
