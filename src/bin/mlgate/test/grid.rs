//! A table as people read it.

use mlgate::review::candidate::Answer;
use mlgate::review::grid::Cell;
use mlgate::review::suite::Table;

/// A table with more rows is not drawn: nobody would read it.
const MAX_ROWS: usize = 200;

/// Draws a table: `yes` and `-` are as expected, `YES!` is allowed and should not be, `NO!` the other way round, `WHY!` for
/// another reason than expected.
pub(super) fn draw(file: &str, table: &Table, answers: &[(Cell<'_>, Answer)]) -> String {
    let failed = answers.iter().filter(|(cell, answer)| !cell.expected.is_met_by(answer)).count();
    let note = if table.note.is_empty() { "a table" } else { &table.note };
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    let mut text = format!("{file}: {note} ({} cases{failed})\n", answers.len());
    if table.rows.len() > MAX_ROWS {
        text.push_str(&format!("  more than {MAX_ROWS} rows are not drawn\n"));
        return text;
    }
    let mut rows: Vec<Vec<&str>> = Vec::new();
    let columns = table.actions.len().max(1);
    let mut above = "";
    rows.push(["", ""].into_iter().chain(table.actions.iter().map(String::as_str)).collect());
    for (row, cells) in table.rows.iter().zip(answers.chunks(columns)) {
        let principal = if row.principal == above { "" } else { row.principal.as_str() };
        above = &row.principal;
        let cells = cells.iter().map(|(cell, answer)| word(cell, answer));
        rows.push([principal, row.resource.as_str()].into_iter().chain(cells).collect());
    }
    let mut widths = vec![0_usize; columns.saturating_add(2)];
    for row in &rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = (*width).max(word.chars().count());
        }
    }
    for row in rows {
        let mut line = String::from(" ");
        for (word, width) in row.into_iter().zip(&widths) {
            line.push_str(&format!(" {word:<width$} "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn word(cell: &Cell<'_>, answer: &Answer) -> &'static str {
    match (answer.is_allowed(), cell.expected.is_met_by(answer)) {
        (true, true) => "yes",
        (false, true) => "-",
        (allowed, false) if allowed == cell.expected.allowed => "WHY!",
        (true, false) => "YES!",
        (false, false) => "NO!",
    }
}
