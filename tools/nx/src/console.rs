//! What the machine prints, as lines with a known author.
//!
//! With the boot argument `console.origin=1` each line of a process begins with `[name] `, put there by
//! the one who authenticated it. A line without it is firmware, or text that a person sees at the prompt.

/// One line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Who printed it, if it says so.
    pub author: Option<&'a str>,
    /// What was printed.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// Takes the author off a line that [`clean`] made.
    pub fn parse(line: &'a str) -> Self {
        let origin = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        match origin {
            Some((author, text)) if is_name(author) => Line { author: Some(author), text },
            _ => Line { author: None, text: line },
        }
    }
}

/// A line as it stands on a terminal at the end: what a carriage return overwrote is gone, control
/// sequences are gone.
pub fn clean(raw: &str) -> String {
    let kept = raw.trim_end_matches(['\r', '\n']);
    let last = kept.rsplit('\r').next().unwrap_or(kept);
    without_control(last)
}

/// The text without escape sequences and control characters other than newlines.
pub fn without_control(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' if characters.next_if_eq(&'[').is_some() => {
                // A control sequence ends with its first character from `@` to `~`.
                let _ = characters.by_ref().find(|last| ('@'..='~').contains(last));
            }
            '\n' => result.push('\n'),
            other if other.is_control() => {}
            other => result.push(other),
        }
    }
    result
}

/// Bytes of a line that wait for its end; what is longer is cut into several.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that came in pieces, given out by whole lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes more bytes and yields the lines that they end, cleaned.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let end = match self.rest.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.rest.len() > LINE_BYTES_MAX => self.rest.len(),
            None => return Vec::new(),
        };
        let tail = self.rest.split_off(end);
        let whole = std::mem::replace(&mut self.rest, tail);
        String::from_utf8_lossy(&whole).lines().map(clean).collect()
    }
}

/// A line as a report shows it: short, and harmless to a terminal.
pub fn shown(line: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let printable = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    let mut result: String = line.chars().take(CHARACTERS_MAX).map(printable).collect();
    if line.chars().count() > CHARACTERS_MAX {
        result.push_str(" …");
    }
    result
}

fn is_name(text: &str) -> bool {
    let allowed =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    !text.is_empty() && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_author() {
        assert_eq!(Line::parse("[pong] pong: ready"), Line { author: Some("pong"), text: "pong: ready" });
    }

    #[test]
    fn text_that_only_looks_like_an_origin_has_no_author() {
        for text in ["pong: ready", "[pong]pong: ready", "[INFO metricsd] wal", "[] x", "[ 0.1] x"] {
            assert_eq!(Line::parse(text), Line { author: None, text });
        }
    }

    #[test]
    fn a_redrawn_prompt_leaves_what_was_drawn_last() {
        assert_eq!(clean("nexus> he\r\x1b[K[pong] pong: ready\r\n"), "[pong] pong: ready");
    }

    #[test]
    fn control_sequences_are_no_text() {
        assert_eq!(without_control("\x1b[1;32mok\x1b[0m\x07\nnext"), "ok\nnext");
    }

    #[test]
    fn lines_are_given_out_when_they_are_whole() {
        let mut lines = Lines::default();
        assert!(lines.push(b"boot").is_empty());
        assert_eq!(lines.push(b": ok\r\ntraps"), ["boot: ok"]);
        assert_eq!(lines.push(b": ok\n\nnexus> "), ["traps: ok", ""]);
    }

    #[test]
    fn a_report_shows_no_line_that_is_long_or_not_printable() {
        assert_eq!(shown("ok \u{85}é"), "ok ??");
        assert_eq!(shown(&"x".repeat(300)).chars().count(), 202);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        assert!(lines.push(&[b'x'; LINE_BYTES_MAX]).is_empty());
        assert_eq!(lines.push(b"y").len(), 1);
        assert_eq!(lines.push(b"z\n"), ["z"]);
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(Lines::default().push(b"\xff\xfe[pong] x\n").len(), 1);
    }
}
