//! One table that people read: aligned, and coloured where a terminal shows it.

use std::fmt::Write;

/// What a call came to.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The caller.
    pub who: String,
    /// The call.
    pub call: String,
    /// The status the caller read.
    pub status: String,
    /// The reason the caller read, and what the audit event says where it says more.
    pub reason: String,
    /// What else was seen.
    pub note: String,
    /// What was not as expected.
    pub wrong: Option<String>,
}

/// Rows under a title.
#[derive(Clone, Debug)]
pub struct Section {
    /// The title.
    pub title: String,
    /// The rows.
    pub rows: Vec<Row>,
}

const HEADS: [&str; 4] = ["caller", "call", "status", "reason (in the audit log)"];
const GREEN: &str = "32";
const RED: &str = "1;31";
const BOLD: &str = "1";

/// The table as text.
pub fn render(sections: &[Section], coloured: bool) -> String {
    let cells = |row: &Row| {
        let last = [row.reason.as_str(), row.note.as_str()].into_iter().filter(|part| !part.is_empty());
        [row.who.clone(), row.call.clone(), row.status.clone(), last.collect::<Vec<_>>().join("; ")]
    };
    let mut widths = HEADS.map(|head| head.chars().count());
    for row in sections.iter().flat_map(|section| &section.rows) {
        for (width, cell) in widths.iter_mut().zip(cells(row)) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: [String; 4]| {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            let _ = write!(line, "  {cell:<width$}");
        }
        line.trim_end().to_owned()
    };
    let mut text = format!("{MARGIN}{}\n", bold(&line(HEADS.map(str::to_owned)), coloured));
    for section in sections {
        let _ = writeln!(text, "\n{}", bold(&section.title, coloured));
        for row in &section.rows {
            text.push_str(&marked(&line(cells(row)), row.wrong.as_deref(), coloured));
        }
    }
    text
}

/// A line after its mark; what is wrong with it stands below.
pub(crate) fn marked(line: &str, wrong: Option<&str>, coloured: bool) -> String {
    let (code, mark) = if wrong.is_none() { (GREEN, "ok") } else { (RED, "UNEXPECTED") };
    let mut text = format!("{}{line}\n", paint(code, &format!("{mark:<4}"), coloured));
    if let Some(wrong) = wrong {
        let _ = writeln!(text, "{MARGIN}  {}", paint(RED, wrong, coloured));
    }
    text
}

/// A title.
pub(crate) fn bold(text: &str, coloured: bool) -> String {
    paint(BOLD, text, coloured)
}

fn paint(code: &str, text: &str, coloured: bool) -> String {
    if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// As wide as the marks.
pub(crate) const MARGIN: &str = "    ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_what_is_wrong_is_marked() {
        let row = |who: &str, wrong: Option<&str>| Row {
            who: who.to_owned(),
            call: "GET /".to_owned(),
            status: "200".to_owned(),
            wrong: wrong.map(str::to_owned),
            ..Row::default()
        };
        let section =
            Section { title: "Who?".to_owned(), rows: vec![row("a", None), row("long name", Some("why"))] };
        let text = render(&[section], false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("status"), lines[3].find("200"), "{text}");
        assert!(lines[3].starts_with("ok    a"), "{text}");
        assert!(lines[4].starts_with("UNEXPECTED"), "{text}");
        assert_eq!(lines[5].trim(), "why");
        assert!(!text.contains('\x1b'));
    }
}
