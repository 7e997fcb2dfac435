//! The result as JUnit XML, which every CI shows: a suite for each file, a case for each cell.

use mlgate::review::grid::Cell;

use super::Failure;

/// Writes one document.
pub(super) struct Writer {
    name: String,
    suites: Vec<Suite>,
}

struct Suite {
    name: String,
    cases: usize,
    failed: usize,
    body: String,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(config: &str) -> Self {
        Self { name: config.to_owned(), suites: Vec::new() }
    }

    /// The cases that follow are of this file.
    pub(super) fn suite(&mut self, file: &str) {
        self.suites.push(Suite { name: file.to_owned(), cases: 0, failed: 0, body: String::new() });
    }

    pub(super) fn case(&mut self, cell: &Cell<'_>, failure: Option<&Failure>) {
        let Some(suite) = self.suites.last_mut() else { return };
        suite.cases = suite.cases.saturating_add(1);
        let name = escaped(&format!("{} {} {}", cell.row.principal, cell.action, cell.row.resource));
        let class = escaped(&cell.table.note);
        suite.body.push_str(&format!("    <testcase classname=\"{class}\" name=\"{name}\""));
        match failure {
            None => suite.body.push_str("/>\n"),
            Some(failure) => {
                suite.failed = suite.failed.saturating_add(1);
                let message = escaped(&format!("{}, expected {}", failure.got, failure.expected));
                let text = escaped(&failure.to_string());
                suite.body.push_str(&format!(
                    ">\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>\n"
                ));
            }
        }
    }

    pub(super) fn finish(&self) -> String {
        let sum = |of: fn(&Suite) -> usize| self.suites.iter().map(of).sum::<usize>();
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        text.push_str(&format!(
            "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\">\n",
            escaped(&self.name),
            sum(|suite| suite.cases),
            sum(|suite| suite.failed)
        ));
        for suite in &self.suites {
            text.push_str(&format!(
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">\n{}  </testsuite>\n",
                escaped(&suite.name),
                suite.cases,
                suite.failed,
                suite.body
            ));
        }
        text.push_str("</testsuites>\n");
        text
    }
}

/// Text for an attribute or an element. What XML 1.0 §2.2 has no way to say becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_xml_cannot_say_is_replaced() {
        assert_eq!(escaped("a<b>&\"c\"\u{1b}[2J\n"), "a&lt;b&gt;&amp;&quot;c&quot;?[2J?");
    }
}
