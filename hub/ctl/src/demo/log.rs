//! Reads the logs of the demo's processes: their last lines when one fails, their warnings while all is well.

/// Lines of a log that are shown when its process fails.
const TAIL_LINES: usize = 12;

/// The lines of a growing log that are complete and were not told yet.
pub fn complete_lines<'a>(log: &'a str, told: &mut usize) -> impl Iterator<Item = &'a str> {
    let end = log.rfind('\n').map_or(0, |end| end + 1);
    let new = log.get(*told..end).unwrap_or_default();
    *told = end;
    new.lines()
}

/// A warning or error of a log as `NAME: what`, without time and module, cut to a line's length.
pub fn warning(name: &str, line: &str) -> Option<String> {
    const LENGTH: usize = 160;
    let (_, text) = line.split_once(" WARN ").or_else(|| line.split_once(" ERROR "))?;
    let text = text.split_once(": ").map_or(text, |(_, text)| text);
    let cut: String = text.chars().take(LENGTH).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    Some(format!("{name}: {cut}{dots}"))
}

/// The last lines of some output, indented.
pub fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if last.is_empty() {
        return "    (nothing)".to_owned();
    }
    last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_each_warning_once_and_only_when_its_line_is_complete() {
        let mut told = 0;
        let log = "T  INFO a::b: fine\nT  WARN a::b: n8n is away\nT  WARN a::b: n8n is st";
        let mut new =
            |log: &str| complete_lines(log, &mut told).filter_map(|l| warning("agent", l)).collect::<Vec<_>>();
        assert_eq!(new(log), ["agent: n8n is away"]);
        assert_eq!(new(&format!("{log}ill away\n")), ["agent: n8n is still away"]);
        assert_eq!(new(&format!("{log}ill away\n")), Vec::<String>::new());
    }

    #[test]
    fn the_tail_is_the_end() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        assert!(tail(log.as_bytes()).ends_with("line 99") && !tail(log.as_bytes()).contains("line 80\n"));
        assert_eq!(tail(b""), "    (nothing)");
    }
}
