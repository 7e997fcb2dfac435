//! Rows become what one page shows: sums by time, by pair of principal and model, and by reason.

use std::collections::BTreeMap;

use mlgate::audit::analysis::bounded::Entry as _;
use mlgate::audit::analysis::usage::{Counts, Row};
use mlgate::audit::analysis::{HOUR_MS, hour_of};

use super::log::Read;
use super::query::Query;

/// Columns of a chart, at most.
const MAX_COLUMNS: i64 = 60;

/// Pairs of principal and model that are drawn.
pub(super) const MAX_DRAWN: usize = 20;

/// Pairs, reasons and names to choose from that are listed.
pub(super) const MAX_LISTED: usize = 200;

/// Hours that a column may stand for.
const STEPS: [i64; 7] = [1, 3, 6, 12, 24, 7 * 24, 28 * 24];

/// What one page shows.
pub(super) struct View {
    /// The columns of both charts.
    pub(super) columns: Columns,
    /// All of it.
    pub(super) total: Counts,
    /// By column.
    pub(super) by_time: Vec<Counts>,
    /// By principal and model, the most requests first.
    pub(super) pairs: Vec<Pair>,
    /// Of them, how many there are, also those that are not listed.
    pub(super) pairs_total: usize,
    /// The first [`MAX_DRAWN`] of them by column.
    pub(super) drawn: Vec<Vec<Counts>>,
    /// Why something was refused or failed, the most frequent first.
    pub(super) reasons: Vec<(String, Counts)>,
    /// Principals of the time shown, whatever else is asked for.
    pub(super) principals: Vec<String>,
    /// Models of the time shown.
    pub(super) models: Vec<String>,
}

/// Equal parts of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The hour of the first, from 1970 on.
    pub(super) first: i64,
    /// Hours of each.
    pub(super) step: i64,
    /// How many.
    pub(super) count: i64,
}

/// Who used which model.
pub(super) struct Pair {
    /// Nothing for those that nobody has authenticated.
    pub(super) principal: Option<String>,
    /// Nothing where no model was named.
    pub(super) model: Option<String>,
    /// All of it.
    pub(super) counts: Counts,
}

// === impl View ===

impl View {
    /// What `query` asks for.
    pub(super) fn of(read: &Read, query: &Query) -> Self {
        let columns = Columns::of(read, query);
        let count = usize::try_from(columns.count).unwrap_or(0);
        let mut total = Counts::default();
        let mut by_time = vec![Counts::default(); count];
        let mut pairs: BTreeMap<(Option<&str>, Option<&str>), Counts> = BTreeMap::new();
        let mut reasons: BTreeMap<&str, Counts> = BTreeMap::new();
        let mut principals: BTreeMap<&str, u64> = BTreeMap::new();
        let mut models: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &read.rows {
            let Some(column) = columns.place(row) else { continue };
            let [_, principal, model, reason, ..] = row.names.as_slice() else { continue };
            let (principal, model) = (principal.as_deref(), model.as_deref());
            for (names, name) in [(&mut principals, principal), (&mut models, model)] {
                if let Some(name) = name {
                    let requests = names.entry(name).or_default();
                    *requests = requests.saturating_add(row.counts.requests);
                }
            }
            let asked = |wanted: &Option<String>, name: Option<&str>| {
                wanted.as_deref().is_none_or(|wanted| name == Some(wanted))
            };
            if !asked(&query.principal, principal) || !asked(&query.model, model) {
                continue;
            }
            total.merge(row.counts);
            add(&mut by_time, column, row.counts);
            pairs.entry((principal, model)).or_default().merge(row.counts);
            if let Some(reason) = reason {
                reasons.entry(reason).or_default().merge(row.counts);
            }
        }
        let pairs_total = pairs.len();
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.requests));
        let pairs: Vec<Pair> = pairs
            .into_iter()
            .take(MAX_LISTED)
            .map(|((principal, model), counts)| {
                let [principal, model] = [principal, model].map(|name| name.map(str::to_owned));
                Pair { principal, model, counts }
            })
            .collect();
        let drawn = columns.drawn(read, pairs.get(..MAX_DRAWN).unwrap_or(&pairs));
        let mut reasons: Vec<(String, Counts)> =
            reasons.into_iter().map(|(reason, counts)| (reason.to_owned(), counts)).collect();
        reasons.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.requests));
        let [principals, models] = [principals, models].map(most);
        Self { columns, total, by_time, pairs, pairs_total, drawn, reasons, principals, models }
    }
}

fn add(times: &mut [Counts], column: usize, counts: Counts) {
    if let Some(time) = times.get_mut(column) {
        time.merge(counts);
    }
}

/// The most frequent names, in alphabetical order.
fn most(names: BTreeMap<&str, u64>) -> Vec<String> {
    let mut names: Vec<(&str, u64)> = names.into_iter().collect();
    names.sort_by_key(|(_, requests)| std::cmp::Reverse(*requests));
    let mut names: Vec<String> =
        names.into_iter().take(MAX_LISTED).map(|(name, _)| name.to_owned()).collect();
    names.sort_unstable();
    names
}

// === impl Columns ===

impl Columns {
    fn of(read: &Read, query: &Query) -> Self {
        let (first, last) = match query.since.hours() {
            // the hour that runs now is the last one
            Some(hours) => {
                let now = hour_of(read.now.saturating_sub(1));
                (now.saturating_sub(hours).saturating_add(1), now)
            }
            None => {
                let hours = || read.rows.iter().map(|row| hour_of(row.counts.first));
                (hours().min().unwrap_or(0), hours().max().unwrap_or(0))
            }
        };
        let hours = last.saturating_sub(first).saturating_add(1);
        let fits = |step: &&i64| hours.saturating_add(**step) <= step.saturating_mul(MAX_COLUMNS);
        let step = STEPS
            .iter()
            .find(fits)
            .copied()
            .unwrap_or_else(|| hours.div_euclid(MAX_COLUMNS.saturating_sub(1)).saturating_add(1));
        // columns begin where days do
        let first = if step > 1 { first.div_euclid(step).saturating_mul(step) } else { first };
        let count = last.saturating_sub(first).div_euclid(step).saturating_add(1);
        Self { first, step, count: count.clamp(1, MAX_COLUMNS) }
    }

    /// The beginning of a column, in milliseconds since 1970.
    pub(super) fn start(self, column: usize) -> i64 {
        let column = i64::try_from(column).unwrap_or(0);
        self.first.saturating_add(column.saturating_mul(self.step)).saturating_mul(HOUR_MS)
    }

    /// These pairs by column.
    fn drawn(self, read: &Read, pairs: &[Pair]) -> Vec<Vec<Counts>> {
        let count = usize::try_from(self.count).unwrap_or(0);
        let mut drawn = vec![vec![Counts::default(); count]; pairs.len()];
        for row in &read.rows {
            let [_, principal, model, ..] = row.names.as_slice() else { continue };
            let at = pairs.iter().position(|pair| (&pair.principal, &pair.model) == (principal, model));
            let (Some(column), Some(times)) = (self.place(row), at.and_then(|at| drawn.get_mut(at))) else {
                continue;
            };
            add(times, column, row.counts);
        }
        drawn
    }

    fn place(self, row: &Row) -> Option<usize> {
        let column = hour_of(row.counts.first).saturating_sub(self.first).div_euclid(self.step);
        usize::try_from(column).ok().filter(|_| column < self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::query::Since;
    use super::*;

    #[test]
    fn columns_cover_the_time_and_are_few() {
        for (since, step, count) in [(Since::Day, 1, 24), (Since::Week, 3, 56), (Since::Month, 24, 30)] {
            let read = super::super::page::tests::read(&[]);
            let columns = Columns::of(&read, &Query { since, ..Query::default() });
            assert_eq!((columns.step, columns.count), (step, count), "{since:?}");
            let end = columns.start(usize::try_from(columns.count).unwrap());
            assert!(end >= read.now && end.saturating_sub(read.now) <= step.saturating_mul(HOUR_MS));
        }
    }
}
