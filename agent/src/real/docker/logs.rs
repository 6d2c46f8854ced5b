//! The last lines of a container's log, within bounds.

use std::collections::VecDeque;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use genesis_shared::stack::Service;
use genesis_shared::timestamp::Timestamp;

use super::failure::{failed, silent};
use super::{ANSWER_TIMEOUT, Docker};
use crate::ports::EffectError;

impl Docker {
    pub(super) async fn read_logs(
        &self,
        service: Service,
        lines: u32,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<String, EffectError> {
        if self.inspect(service).await?.is_none() {
            return Err(self.missing(service));
        }
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).tail(&lines.to_string());
        // Whole seconds only, so what came in the first of them is sorted out here.
        let second = since.map(|since| i32::try_from(since.seconds()).unwrap_or(i32::MAX));
        let options = second.map_or(options.clone(), |second| options.since(second)).build();
        let client = self.client(ANSWER_TIMEOUT)?;
        let mut pieces = client.logs(&self.name(service), Some(options));
        let mut tail = Tail::new(max_bytes);
        let reading = async {
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| failed("read a log", &error))?;
                tail.add(&String::from_utf8_lossy(piece.as_ref()), since);
            }
            Ok(())
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, reading).await {
            Ok(read) => read?,
            Err(_) => return Err(silent("read a log", ANSWER_TIMEOUT)),
        }
        Ok(tail.finish())
    }
}

/// The newest lines that fit.
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    max_bytes: usize,
}

impl Tail {
    fn new(max_bytes: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Adds what the engine gave: a line, or several where the container has a terminal.
    fn add(&mut self, piece: &str, since: Option<Timestamp>) {
        for line in piece.split_terminator('\n') {
            let at = line.split(' ').next().and_then(|word| word.parse::<Timestamp>().ok());
            if since.zip(at).is_some_and(|(since, at)| at < since) {
                continue;
            }
            let mut line = plain(line);
            // A line that alone is too long keeps its end.
            let surplus = (line.len() + 1).saturating_sub(self.max_bytes);
            let cut = (surplus..=line.len()).find(|&at| line.is_char_boundary(at)).unwrap_or(line.len());
            line.drain(..cut);
            self.bytes += line.len() + 1;
            self.lines.push_back(line);
            while self.bytes > self.max_bytes {
                let Some(oldest) = self.lines.pop_front() else { break };
                self.bytes -= oldest.len() + 1;
            }
        }
    }

    fn finish(self) -> String {
        self.lines.into_iter().fold(String::with_capacity(self.bytes), |mut text, line| {
            text.push_str(&line);
            text.push('\n');
            text
        })
    }
}

/// Without what would move a terminal's cursor or recolour it: whoever reads a log is not to be fooled by it.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A sequence of the form ESC [ parameters letter.
            if chars.next_if_eq(&'[').is_some() {
                while chars.next_if(|c| !c.is_ascii_alphabetic() && !c.is_control()).is_some() {}
                chars.next_if(char::is_ascii_alphabetic);
            }
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_lines_that_fit() {
        let mut tail = Tail::new(10);
        tail.add("one\n", None);
        tail.add("two\nthree\n", None);
        assert_eq!(tail.finish(), "two\nthree\n");
        let mut tail = Tail::new(6);
        tail.add("a long line\n", None);
        assert_eq!(tail.finish(), " line\n");
        let mut tail = Tail::new(0);
        tail.add("x\n", None);
        assert_eq!(tail.finish(), "");
        let mut tail = Tail::new(4);
        tail.add("äää\n", None);
        assert_eq!(tail.finish(), "ä\n", "cut between letters");
    }

    #[test]
    fn lines_before_the_moment_are_left_out() {
        let mut tail = Tail::new(1000);
        let since = "2026-01-01T00:00:00.500Z".parse().unwrap();
        tail.add("2026-01-01T00:00:00.400123456Z early\n", Some(since));
        tail.add("2026-01-01T00:00:00.600123456Z late\n", Some(since));
        assert_eq!(tail.finish(), "2026-01-01T00:00:00.600123456Z late\n");
    }

    #[test]
    fn a_log_cannot_move_the_cursor_of_who_reads_it() {
        assert_eq!(plain("a\u{1b}[31mred\u{1b}[0m\u{7}b\r\u{1b}[2J"), "aredb");
    }
}
