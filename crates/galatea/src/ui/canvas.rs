//! The canvas as it is carved: every step redraws all positions in place.

use console::{Term, measure_text_width};
use galatea_train::Frame;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How far a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing but noise is known of it.
    Hidden,
    /// It shows a token that may still change.
    Guess,
    /// It was decided in this step.
    Fresh,
    /// It was decided before.
    Settled,
}

/// One position: its text, with the space before it where the vocabulary is of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What is shown.
    pub(crate) text: String,
    /// How it is shown.
    pub(crate) state: State,
}

/// The name of the absorbing token, which is drawn as a block.
const MASK: &str = "[MASK]";
const BLOCK: char = '░';
/// A hidden word is as wide as a usual one, a hidden character as one.
const HIDDEN_WORD: usize = 4;

/// Lines of at most `columns` columns that show `cells`; with `color`, hidden and guessed positions are dim and fresh ones
/// bright.
pub(crate) fn draw(cells: &[Cell], columns: usize, color: bool) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut column, mut style) = (0, "");
    for cell in cells {
        let (text, state) = shown(cell);
        let text = if column == 0 { text.trim_start_matches(' ') } else { &text };
        let mut width = measure_text_width(text);
        let mut text = text;
        let line = lines.last_mut().expect("there is always a line");
        if column > 0 && column + width > columns {
            if !style.is_empty() {
                line.push_str(RESET);
                style = "";
            }
            lines.push(String::new());
            text = text.trim_start_matches(' ');
            (column, width) = (0, measure_text_width(text));
        }
        let line = lines.last_mut().expect("there is always a line");
        let wanted = if color { sgr(state) } else { "" };
        if wanted != style {
            line.push_str(if style.is_empty() { "" } else { RESET });
            line.push_str(wanted);
            style = wanted;
        }
        line.push_str(text);
        column += width;
    }
    if !style.is_empty() {
        lines.last_mut().expect("there is always a line").push_str(RESET);
    }
    lines
}

const RESET: &str = "\x1b[0m";

fn sgr(state: State) -> &'static str {
    match state {
        State::Hidden | State::Guess => "\x1b[2m",
        State::Fresh => "\x1b[1;92m",
        State::Settled => "",
    }
}

/// A cell's text without what would move the cursor, a mask as a block.
fn shown(cell: &Cell) -> (String, State) {
    let text = &cell.text;
    if let Some(before) = text.strip_suffix(MASK).filter(|before| before.trim().is_empty()) {
        let width = if before.is_empty() { 1 } else { HIDDEN_WORD };
        let block: String = before.chars().chain(std::iter::repeat_n(BLOCK, width)).collect();
        return (block, if cell.state == State::Guess { State::Hidden } else { cell.state });
    }
    let printable = |c: char| match c {
        '\n' => '⏎',
        '\t' => '→',
        c if c.is_control() => '·',
        c => c,
    };
    (text.chars().map(printable).collect(), cell.state)
}

/// Redraws a canvas on standard error, at the pace that was asked; without a terminal it writes a line a step.
pub(crate) struct Painter {
    enabled: bool,
    delay: Duration,
    terminal: bool,
    color: bool,
    /// Which positions were decided in the frame before.
    decided: Vec<bool>,
    /// Lines on the screen that the next frame replaces.
    lines: usize,
}

impl Painter {
    /// A painter that waits `delay` after every frame; it does nothing unless `enabled`.
    pub(crate) fn new(enabled: bool, delay: Duration) -> Self {
        let terminal = io::stderr().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { enabled, delay, terminal, color, decided: Vec::new(), lines: 0 }
    }

    /// Draws the rows of a frame; `text_of` is a token as it is shown, `[MASK]` for the absorbing one, with a space before it
    /// where tokens are words.
    pub(crate) fn paint(&mut self, frame: &Frame<'_>, text_of: impl Fn(u32) -> String) {
        if !self.enabled {
            return;
        }
        let decided: Vec<bool> = frame.decided.iter().copied().collect();
        if self.decided.len() != decided.len() {
            // What the first frame shows as decided was given, not found.
            self.decided.clone_from(&decided);
        }
        let cells: Vec<Cell> = frame
            .ids
            .iter()
            .zip(decided.iter().zip(&self.decided))
            .map(|(&id, (&now, &before))| {
                let state = match (now, before) {
                    (false, _) => State::Guess,
                    (true, false) => State::Fresh,
                    (true, true) => State::Settled,
                };
                Cell { text: text_of(id), state }
            })
            .collect();
        self.decided = decided;
        let len = frame.ids.ncols().max(1);
        let title = title(frame, &self.decided);
        let picture = if self.terminal {
            self.in_place(&title, &cells, len)
        } else {
            format!("{title}  {}\n", line(&cells[..len.min(cells.len())]))
        };
        // A picture that cannot be shown does not stop the carving.
        let _ = io::stderr().lock().write_all(picture.as_bytes());
        std::thread::sleep(self.delay);
    }

    /// The next frame starts below what is on the screen.
    pub(crate) fn leave(&mut self) {
        self.lines = 0;
        self.decided.clear();
    }

    /// A frame over the one before, in one synchronised update so that it does not flicker.
    fn in_place(&mut self, title: &str, cells: &[Cell], len: usize) -> String {
        let (rows, columns) = Term::stderr().size_checked().map_or((24, 80), |(r, c)| (usize::from(r), usize::from(c)));
        let mut lines = vec![title.to_owned()];
        for row in cells.chunks(len) {
            lines.extend(draw(row, columns.max(8) - 1, self.color));
        }
        // The cursor cannot climb above the screen: what does not fit is left out.
        lines.truncate(rows.saturating_sub(1).max(2));
        let up = if self.lines == 0 { String::new() } else { format!("\x1b[{}A", self.lines) };
        self.lines = lines.len();
        let body: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        format!("\x1b[?2026h{up}\r{body}\x1b[J\x1b[?2026l")
    }
}

fn title(frame: &Frame<'_>, decided: &[bool]) -> String {
    let known = decided.iter().filter(|&&d| d).count();
    let (step, steps, t) = (frame.step, frame.steps, frame.t);
    format!("step {step:>3}/{steps}  t {t:.3}  {known:>4}/{} decided", decided.len())
}

/// One row on one line, without color.
fn line(cells: &[Cell]) -> String {
    draw(cells, usize::MAX, false).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[(&str, State)]) -> Vec<Cell> {
        texts.iter().map(|&(text, state)| Cell { text: text.to_owned(), state }).collect()
    }

    #[test]
    fn masks_are_blocks_as_wide_as_what_they_hide() {
        let words = cells(&[(" the", State::Settled), (" [MASK]", State::Guess), (" cat", State::Fresh)]);
        assert_eq!(draw(&words, 80, false), ["the ░░░░ cat"]);
        let chars = cells(&[("a", State::Settled), ("[MASK]", State::Guess), ("c", State::Fresh)]);
        assert_eq!(draw(&chars, 80, false), ["a░c"]);
    }

    #[test]
    fn fresh_is_bright_and_noise_is_dim() {
        let words = cells(&[(" the", State::Settled), (" [MASK]", State::Guess), (" cat", State::Fresh)]);
        assert_eq!(draw(&words, 80, true), ["the\x1b[2m ░░░░\x1b[0m\x1b[1;92m cat\x1b[0m"]);
    }

    #[test]
    fn no_line_is_wider_than_asked_and_no_token_is_lost() {
        let words: Vec<Cell> = (0..50)
            .map(|i| Cell { text: format!(" w{i}"), state: [State::Fresh, State::Settled, State::Guess][i % 3] })
            .collect();
        for columns in [5, 7, 20, 79] {
            for color in [false, true] {
                let lines = draw(&words, columns, color);
                assert!(lines.iter().all(|l| measure_text_width(l) <= columns), "{columns}: {lines:?}");
                let plain: Vec<String> = lines.iter().map(|l| console::strip_ansi_codes(l).into_owned()).collect();
                let found: Vec<&str> = plain.iter().flat_map(|l| l.split_whitespace()).collect();
                assert_eq!(found, (0..50).map(|i| format!("w{i}")).collect::<Vec<_>>());
                assert!(
                    lines.iter().all(|l| l.matches("\x1b[0m").count() * 2 == l.matches('\x1b').count()),
                    "{lines:?}"
                );
            }
        }
    }

    #[test]
    fn nothing_in_a_text_moves_the_cursor() {
        let text =
            cells(&[("a", State::Settled), ("\n", State::Settled), ("\x1b[2J", State::Settled), ("\t", State::Fresh)]);
        assert_eq!(draw(&text, 80, false), ["a⏎·[2J→"]);
    }

    #[test]
    fn a_frame_climbs_over_the_one_before() {
        let mut painter = Painter {
            enabled: true,
            delay: Duration::ZERO,
            terminal: true,
            color: false,
            decided: Vec::new(),
            lines: 0,
        };
        let row = cells(&[("a", State::Settled), ("b", State::Settled)]);
        let first = painter.in_place("title", &row, 2);
        assert_eq!(first, "\x1b[?2026h\rtitle\x1b[K\nab\x1b[K\n\x1b[J\x1b[?2026l");
        assert!(painter.in_place("title", &row, 2).starts_with("\x1b[?2026h\x1b[2A\r"));
        painter.leave();
        assert!(painter.in_place("title", &row, 2).starts_with("\x1b[?2026h\r"));
    }
}
