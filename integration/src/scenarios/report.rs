//! What an incident came to, as people read it: the damage side by side, then what was done against it and when.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::demo::table::{MARGIN, bold, marked};

/// One incident.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its name.
    pub title: &'static str,
    /// What was sent.
    pub traffic: String,
    /// Its numbers.
    pub figures: Vec<Figure>,
    /// What happened with the gate.
    pub steps: Vec<Step>,
}

/// A number without the gate and with it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Of what.
    pub what: &'static str,
    /// Without.
    pub without: String,
    /// With.
    pub with: String,
    /// What was not as expected.
    pub wrong: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Step {
    /// Since the first call with the gate; what is not timed has none.
    pub at: Option<Duration>,
    /// What; further lines say more of it.
    pub text: String,
    /// What was not as expected.
    pub wrong: Option<String>,
}

// === impl Report ===

impl Report {
    /// Adds a number that must be as `holds` says.
    pub fn figure(
        &mut self,
        what: &'static str,
        (without, with): (impl Display, impl Display),
        holds: bool,
        wanted: &str,
    ) {
        let wrong = unless(holds, wanted);
        self.figures.push(Figure { what, without: without.to_string(), with: with.to_string(), wrong });
    }

    /// Adds an event that must be as `holds` says.
    pub fn step(&mut self, at: impl Into<Option<Duration>>, text: String, holds: bool, wanted: &str) {
        self.steps.push(Step { at: at.into(), text, wrong: unless(holds, wanted) });
    }

    /// How many lines are not as expected.
    pub fn wrong(&self) -> usize {
        let figures = self.figures.iter().filter(|figure| figure.wrong.is_some()).count();
        figures.saturating_add(self.steps.iter().filter(|step| step.wrong.is_some()).count())
    }

    /// As text.
    pub fn render(&self, coloured: bool) -> String {
        let mut text = format!("{}\n{MARGIN}  {}\n\n", bold(self.title, coloured), self.traffic);
        let heads = ["", "without the gate", "with the gate"].map(str::to_owned);
        let lines: Vec<[String; 3]> = self
            .figures
            .iter()
            .map(|figure| [figure.what.to_owned(), figure.without.clone(), figure.with.clone()])
            .collect();
        let mut widths = [0; 3];
        for line in std::iter::once(&heads).chain(&lines) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let aligned = |cells: &[String; 3]| {
            let cells = widths.iter().zip(cells).map(|(width, cell)| format!("  {cell:<width$}"));
            cells.collect::<String>().trim_end().to_owned()
        };
        let _ = writeln!(text, "{MARGIN}{}", bold(&aligned(&heads), coloured));
        for (figure, line) in self.figures.iter().zip(&lines) {
            text.push_str(&marked(&aligned(line), figure.wrong.as_deref(), coloured));
        }
        text.push('\n');
        for step in &self.steps {
            let at = step.at.map(|at| format!("{:.2} s", at.as_secs_f64())).unwrap_or_default();
            let mut lines = step.text.lines();
            let first = format!("  {at:>8}  {}", lines.next().unwrap_or_default());
            text.push_str(&marked(&first, step.wrong.as_deref(), coloured));
            for line in lines {
                let _ = writeln!(text, "{MARGIN}  {:>8}  {line}", "");
            }
        }
        text
    }
}

fn unless(holds: bool, wanted: &str) -> Option<String> {
    (!holds).then(|| format!("expected: {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_expected_is_marked_and_counted() {
        let mut report = Report { title: "Title", traffic: "calls".to_owned(), ..Report::default() };
        report.figure("served", (1300, 100), true, "");
        report.figure("refused by the gate", (0, 7), false, "1200 refused");
        report.step(Duration::from_millis(1250), "told\nmore".to_owned(), true, "");
        assert_eq!(report.wrong(), 1);
        let text = report.render(false);
        let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap();
        assert_eq!(line("without the gate").find("without"), line("served").find("1300"), "{text}");
        assert!(line("served").starts_with("ok  ") && line("refused").starts_with("UNEXPECTED"), "{text}");
        assert!(text.contains("expected: 1200 refused"), "{text}");
        assert!(line("told").contains("1.25 s") && line("more").starts_with("     "), "{text}");
    }
}
