//! Sums by time become plain SVG: no script, no style attribute, colours by classes of the style sheet. Each chart
//! has a title and a description, each mark a tooltip; the page puts a table beside it.

use std::fmt::Write as _;

use mlgate::audit::analysis::usage::Counts;
use mlgate::time::UnixTime;

use super::page::{Html, number, pair_name};
use super::view::{Columns, View};

/// Width of a drawing; it scales with the page.
const WIDTH: u64 = 960;

/// Between two labels of the time.
const LABEL_WIDTH: u64 = 76;

/// Where a drawing has its marks.
struct Frame {
    left: u64,
    top: u64,
    width: u64,
    height: u64,
}

/// Allowed, failed and denied over time, on top of each other.
pub(super) fn by_time(view: &View) -> String {
    let frame = Frame { left: 58, top: 10, width: WIDTH.saturating_sub(66), height: 190 };
    let highest = view.by_time.iter().map(|counts| counts.requests).max().unwrap_or(0);
    let (step, top) = scale(highest);
    let mut svg = open("time", &frame, "Requests over time", &described(&view.total));
    for line in 0..=top.checked_div(step).unwrap_or(0) {
        let value = line.saturating_mul(step);
        let y = frame.bottom().saturating_sub(part(value, top, frame.height));
        let (x, end, text) = (frame.left, frame.right(), frame.left.saturating_sub(8));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x}\" x2=\"{end}\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"axis\" x=\"{text}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            y.saturating_add(4),
            number(value)
        );
    }
    for (column, counts) in view.by_time.iter().enumerate().filter(|(_, counts)| counts.requests > 0) {
        let (x, width) = frame.column(column, view.by_time.len());
        let _ = write!(svg, "<g><title>{}</title>", tip(&[], view.columns, column, counts));
        let mut below = 0;
        let failed = counts.errors.saturating_add(counts.aborted);
        for (class, count) in [("allowed", counts.allowed()), ("failed", failed), ("denied", counts.denied)] {
            let (from, to) = (part(below, top, frame.height), below.saturating_add(count));
            let height = part(to, top, frame.height).saturating_sub(from).max(u64::from(count > 0));
            let y = frame.bottom().saturating_sub(from).saturating_sub(height);
            if count > 0 {
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
                );
            }
            below = to;
        }
        svg.push_str("</g>");
    }
    times(&mut svg, &frame, view.columns);
    svg + "</svg>"
}

/// Who used which model when: a row for each pair, the stronger the colour the more.
pub(super) fn heat(view: &View) -> String {
    const ROW: u64 = 22;
    let rows = u64::try_from(view.drawn.len()).unwrap_or(0);
    let frame =
        Frame { left: 300, top: 4, width: WIDTH.saturating_sub(308), height: rows.saturating_mul(ROW) };
    let highest = view.drawn.iter().flatten().map(|counts| counts.requests).max().unwrap_or(0);
    let about =
        format!("{rows} pairs of principal and model, at most {} requests in a field", number(highest));
    let mut svg = open("heat", &frame, "Who used which model when", &about);
    for (row, (pair, cells)) in (0_u64..).zip(view.pairs.iter().zip(&view.drawn)) {
        let y = frame.top.saturating_add(row.saturating_mul(ROW));
        let names = pair_name(pair);
        let label = format!("{} · {}", names[0], names[1]);
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"end\"><title>{}</title>{}</text>",
            frame.left.saturating_sub(8),
            y.saturating_add(15),
            Html(&label),
            Html(&cut(&label)),
        );
        for (column, counts) in cells.iter().enumerate() {
            let (x, width) = frame.column(column, cells.len());
            if counts.requests == 0 {
                let (y, height) = (y.saturating_add(2), ROW.saturating_sub(4));
                let _ = write!(
                    svg,
                    "<rect class=\"empty\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
                );
                continue;
            }
            let _ = write!(
                svg,
                "<g><title>{}</title><rect class=\"allowed\" fill-opacity=\"0.{:02}\" x=\"{x}\" y=\"{}\" \
                 width=\"{width}\" height=\"{}\"/>",
                tip(&names, view.columns, column, counts),
                depth(counts.requests, highest),
                y.saturating_add(2),
                ROW.saturating_sub(4),
            );
            // mostly refused: marked by shape, not by colour alone
            if counts.denied.saturating_mul(2) > counts.requests {
                let _ = write!(
                    svg,
                    "<rect class=\"denied\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"5\"/>",
                    y.saturating_add(ROW).saturating_sub(7)
                );
            }
            svg.push_str("</g>");
        }
    }
    times(&mut svg, &frame, view.columns);
    svg + "</svg>"
}

/// A bar as long as `count` is of `most`.
pub(super) fn bar(count: u64, most: u64) -> String {
    let width = part(count, most, 200).max(1);
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 200 12\" aria-hidden=\"true\" preserveAspectRatio=\"none\">\
         <rect class=\"denied\" width=\"{width}\" height=\"12\" rx=\"2\"/></svg>"
    )
}

/// The beginning of a column as a label says it.
pub(super) fn when(columns: Columns, column: usize) -> String {
    let text = UnixTime::from_millis(columns.start(column)).to_string();
    let day = text.get(..10).unwrap_or_default();
    if columns.step >= 24 {
        day.to_owned()
    } else {
        format!("{day} {}", text.get(11..16).unwrap_or_default())
    }
}

fn open(id: &str, frame: &Frame, title: &str, about: &str) -> String {
    let height = frame.bottom().saturating_add(24);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-about\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-about\">{about}</desc>"
    )
}

fn described(total: &Counts) -> String {
    format!(
        "{} requests: {} allowed, {} denied, {} failed or left",
        number(total.requests),
        number(total.allowed()),
        number(total.denied),
        number(total.errors.saturating_add(total.aborted)),
    )
}

fn tip(names: &[String], columns: Columns, column: usize, counts: &Counts) -> String {
    let mut text = String::new();
    for name in names {
        let _ = write!(text, "{}, ", Html(name));
    }
    let _ = write!(text, "{}: {}", when(columns, column), described(counts));
    text
}

/// Labels below, as many as there is room for.
fn times(svg: &mut String, frame: &Frame, columns: Columns) {
    let count = usize::try_from(columns.count).unwrap_or(0);
    let width = frame.width.checked_div(u64::try_from(count).unwrap_or(1)).unwrap_or(1).max(1);
    let every = usize::try_from(LABEL_WIDTH.div_ceil(width)).unwrap_or(1).max(1);
    for column in (0..count).step_by(every) {
        let label = when(columns, column);
        // the day where it begins, else the hour
        let text = match label.split_once(' ') {
            Some((_, hour)) if hour != "00:00" && column > 0 => hour,
            Some((day, _)) => day,
            None => &label,
        };
        let (x, _) = frame.column(column, count);
        let y = frame.bottom().saturating_add(17);
        let _ = write!(svg, "<text class=\"axis\" x=\"{x}\" y=\"{y}\">{text}</text>");
    }
}

// === impl Frame ===

impl Frame {
    const fn bottom(&self) -> u64 {
        self.top.saturating_add(self.height)
    }

    const fn right(&self) -> u64 {
        self.left.saturating_add(self.width)
    }

    /// Left edge and width of a column, with a gap.
    fn column(&self, column: usize, count: usize) -> (u64, u64) {
        let [column, count] = [column, count].map(|number| u64::try_from(number).unwrap_or(0));
        let edge = |column| self.left.saturating_add(part(column, count, self.width));
        let width = edge(column.saturating_add(1)).saturating_sub(edge(column));
        (edge(column), width.saturating_sub(if width > 8 { 2 } else { 1 }).max(1))
    }
}

/// `length` times `value` of `whole`.
fn part(value: u64, whole: u64, length: u64) -> u64 {
    let part = u128::from(value).saturating_mul(u128::from(length)).checked_div(u128::from(whole));
    u64::try_from(part.unwrap_or(0)).unwrap_or(length).min(length)
}

/// Lines of a grid at round numbers, and the highest of them.
fn scale(highest: u64) -> (u64, u64) {
    let mut step = 1_u64;
    for factor in [2, 5, 10].into_iter().cycle() {
        if step.saturating_mul(4) >= highest || step > u64::MAX / 100 {
            break;
        }
        let unit = 10_u64.saturating_pow(step.ilog10());
        step = unit.saturating_mul(factor);
    }
    (step, highest.div_ceil(step).max(1).saturating_mul(step))
}

/// From 15 to 99 by the number of digits rather than by the number: one busy hour must not hide all others.
fn depth(requests: u64, highest: u64) -> u64 {
    let bits = |number: u64| u64::from(number.saturating_add(1).ilog2());
    part(bits(requests), bits(highest).max(1), 84).saturating_add(15)
}

/// As much of a label as there is room for.
fn cut(label: &str) -> String {
    const ROOM: usize = 40;
    if label.chars().count() <= ROOM {
        return label.to_owned();
    }
    label.chars().take(ROOM.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_few_lines_at_round_numbers() {
        for (highest, expected) in
            [(0, (1, 1)), (4, (1, 4)), (5, (2, 6)), (9, (5, 10)), (36, (10, 40)), (10_012, (5_000, 15_000))]
        {
            assert_eq!(scale(highest), expected, "{highest}");
        }
        for highest in [1, 7, 99, 12_345, 1 << 50, u64::MAX] {
            let (step, top) = scale(highest);
            assert!(
                top >= highest && top / step <= if highest == u64::MAX { 100 } else { 5 },
                "{highest}: {step} {top}"
            );
        }
    }

    #[test]
    fn more_is_darker_and_the_least_is_seen() {
        assert_eq!((depth(1, 10_000), depth(10_000, 10_000)), (21, 99));
        assert!(depth(10, 10_000) < depth(100, 10_000));
        assert!(depth(1, 1) <= 99 && depth(0, 0) == 15);
    }

    #[test]
    fn a_long_label_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(41)).chars().count(), 40);
    }
}
