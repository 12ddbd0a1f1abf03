//! A small terminal shows what the editor says: line and cursor must be right after every byte.

use proptest::prelude::*;
use shell_line::{Editor, Event, LINE_CHARACTERS_MAX};

const PROMPT: &str = "nexus> ";

/// One row of a terminal that knows what the editor uses.
#[derive(Default)]
struct Terminal {
    row: Vec<char>,
    column: usize,
}

impl Terminal {
    fn show(&mut self, text: &str) {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\r' => self.column = 0,
                '\n' => *self = Terminal::default(),
                '\x07' => {}
                '\x1b' => self.sequence(&mut characters),
                _ => {
                    self.row.resize(self.row.len().max(self.column + 1), ' ');
                    self.row[self.column] = character;
                    self.column += 1;
                }
            }
        }
    }

    fn sequence(&mut self, characters: &mut std::str::Chars<'_>) {
        assert_eq!(characters.next(), Some('['));
        let mut number = String::new();
        for character in characters {
            match character {
                '0'..='9' => number.push(character),
                'K' => return self.row.truncate(self.column),
                'D' => return self.column -= number.parse::<usize>().unwrap(),
                'H' => return self.column = 0,
                'J' => return *self = Terminal::default(),
                other => panic!("the editor uses an unknown sequence {other:?}"),
            }
        }
    }
}

fn candidates(before: &str) -> Vec<String> {
    if before.contains(' ') {
        return vec!["consoled".into(), "pong".into()];
    }
    ["help", "halt", "ps", "poweroff"].map(String::from).to_vec()
}

/// Types bytes that come `together` at a time; yields the events, the terminal and the editor.
fn typed_in_pieces(bytes: &[u8], together: usize) -> (Vec<Event>, Terminal, Editor) {
    let mut editor = Editor::new(PROMPT);
    let mut terminal = Terminal::default();
    terminal.show(editor.begin());
    let mut events = Vec::new();
    for piece in bytes.chunks(together) {
        let mut shown = String::new();
        for &byte in piece {
            if let Some(event) = editor.feed(byte, &candidates, &mut shown) {
                events.push(event);
                shown.push_str(editor.begin());
            }
        }
        editor.refresh(&mut shown);
        terminal.show(&shown);
    }
    (events, terminal, editor)
}

fn typed(bytes: &[u8]) -> (Vec<Event>, Terminal, Editor) {
    typed_in_pieces(bytes, 1)
}

fn entered(bytes: &[u8]) -> String {
    match typed(bytes).0.pop() {
        Some(Event::Line(line)) => line,
        other => panic!("no line was entered: {other:?}"),
    }
}

#[test]
fn keys_edit_where_the_cursor_is() {
    assert_eq!(entered(b"elp\x1b[Hh\r"), "help");
    assert_eq!(entered(b"heXlp\x1b[D\x1b[D\x7f\r"), "help");
    assert_eq!(entered(b"Xhelp\x01\x1b[3~\r"), "help");
    assert_eq!(entered(b"kill one two\x17\x17pong\r"), "kill pong");
    assert_eq!(entered(b"rubbish\x15ps\r"), "ps");
    assert_eq!(entered(b"psrubbish\x01\x06\x06\x0b\r"), "ps");
}

#[test]
fn history_comes_back_and_so_does_the_line_being_typed() {
    assert_eq!(entered(b"ps\rmem\r\x1b[A\x1b[A\r"), "ps");
    assert_eq!(entered(b"ps\rhal\x1b[A\x1b[Bf\r"), "half");
}

#[test]
fn completion_goes_as_far_as_all_candidates_agree() {
    assert_eq!(entered(b"he\t\r"), "help ");
    assert_eq!(entered(b"po\t\r"), "poweroff ");
    assert_eq!(entered(b"h\t\telp\r"), "help");
    assert_eq!(entered(b"kill co\t\r"), "kill consoled ");
    assert_eq!(entered(b"zz\t\r"), "zz");
}

#[test]
fn interrupt_gives_the_line_up() {
    let (events, terminal, editor) = typed(b"half a li\x03");
    assert_eq!(events, [Event::Interrupt]);
    assert_eq!((editor.line().as_str(), terminal.column), ("", PROMPT.len()));
}

#[test]
fn a_line_beyond_its_bound_stays_at_its_bound() {
    let mut bytes = vec![b'x'; 2 * LINE_CHARACTERS_MAX];
    bytes.push(b'\r');
    assert_eq!(entered(&bytes).len(), LINE_CHARACTERS_MAX);
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    const SPECIAL: &[&[u8]] = &[
        b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D", b"\x1b[H", b"\x1b[F", b"\x1b[3~", b"\x7f", b"\t", b"\r",
        b"\x03", b"\x0b", b"\x0c", b"\x15", b"\x17",
    ];
    let key = prop_oneof![
        "[a-z ]".prop_map(String::into_bytes),
        Just("ü".as_bytes().to_vec()),
        prop::sample::select(SPECIAL).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(key, 0..120).prop_map(|keys| keys.concat())
}

proptest! {
    #[test]
    fn the_terminal_always_shows_prompt_and_line(bytes in keys(), together in 1usize..40) {
        let (events, terminal, editor) = typed_in_pieces(&bytes, together);
        prop_assert_eq!(events, typed(&bytes).0, "how bytes arrive changes nothing");
        let row: String = terminal.row.iter().collect();
        prop_assert_eq!(row, format!("{PROMPT}{}", editor.line()));
        prop_assert!(terminal.column <= terminal.row.len());
        prop_assert!(editor.line().chars().count() <= LINE_CHARACTERS_MAX);
    }
}
