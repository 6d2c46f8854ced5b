//! Writes the text format of Prometheus: a family's HELP and TYPE once, its samples after them.

use std::fmt::Display;

/// A page being written.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Begins a family of what goes up and down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) {
        self.begin(name, "gauge", help);
    }

    /// Begins a family of what only grows.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) {
        self.begin(name, "counter", help);
    }

    /// Begins a family of distributions.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) {
        self.begin(name, "histogram", help);
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// One distribution. `counts` are of each bucket alone; Prometheus wants them added up.
    pub(super) fn buckets(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], count: u64, sum: f64) {
        let mut all = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            all += count;
            self.line("_bucket", &[labels, &[("le", &bound.to_string())]].concat(), all);
        }
        self.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.line("_sum", labels, sum);
        self.line("_count", labels, count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.text.push_str(&format!("{}{name}=\"{value}\"", if at == 0 { '{' } else { ',' }));
        }
        self.text.push_str(if labels.is_empty() { "" } else { "}" });
        self.text.push_str(&format!(" {value}\n"));
    }

    /// The whole page.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_added_up() {
        let mut page = Page::default();
        page.gauge("a", "What it is.");
        page.sample(&[("x", "q\"\\\nz"), ("y", "")], 7);
        page.histogram("b_seconds", "How long.");
        page.buckets(&[("r", "/")], &[0.5, 1.0], &[2, 3], 6, 4.25);
        let expected = "# HELP a What it is.\n# TYPE a gauge\na{x=\"q\\\"\\\\\\nz\",y=\"\"} 7\n\
            # HELP b_seconds How long.\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{r=\"/\",le=\"0.5\"} 2\nb_seconds_bucket{r=\"/\",le=\"1\"} 5\n\
            b_seconds_bucket{r=\"/\",le=\"+Inf\"} 6\nb_seconds_sum{r=\"/\"} 4.25\nb_seconds_count{r=\"/\"} 6\n";
        assert_eq!(page.into_text(), expected);
    }
}
