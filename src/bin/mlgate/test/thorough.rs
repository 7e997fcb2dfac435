//! How much of the policies the tables try: clauses seen both ways, and mutants that no case notices.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use mlgate::config::shape::{self, Object, Shape, grammar, required};
use mlgate::config::tree::Tree;
use mlgate::review::Candidate;
use mlgate::review::coverage::Coverage as Asked;
use mlgate::review::grid::Cell;
use serde::{Deserialize, Serialize};

use super::File;
use crate::environment::Environment;
use crate::{Stop, format_of, read_file};

/// Which clauses were seen both ways.
#[derive(Serialize)]
pub(super) struct Coverage {
    /// Of a hundred, rounded down.
    pub(super) percent: u8,
    clauses: usize,
    uncovered: Vec<Place>,
}

/// What became of the mutants.
#[derive(Serialize)]
pub(super) struct Mutants {
    mutants: usize,
    /// Refused as configurations.
    refused: usize,
    /// That no case notices.
    survivors: Vec<Place>,
    /// Survivors that are listed as equivalent.
    equivalent: Vec<Equivalent>,
    /// Listed as equivalent, and no survivors.
    outdated: Vec<String>,
}

/// A place in the configuration.
#[derive(Clone, Serialize)]
struct Place {
    pointer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    what: String,
}

/// One mutant that decides as the original does, and why.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Equivalent {
    mutant: String,
    because: String,
}

#[derive(Deserialize)]
struct Equivalents {
    equivalent: Vec<Equivalent>,
}

static WORDS: Shape = Shape::Object(&Object {
    fields: &[required("equivalent", Shape::List { of: &Shape::Object(&EQUIVALENT), min: 0 }, "")],
    rest: None,
});

static EQUIVALENT: Object = Object {
    fields: &[
        required("mutant", Shape::Text(&grammar::ANY), ""),
        required("because", Shape::Text(&grammar::ANY), ""),
    ],
    rest: None,
};

/// Asks every cell, and notes what each clause says.
pub(super) fn cover(candidate: &Candidate, files: &[File]) -> Coverage {
    let mut asked = Asked::of(candidate);
    for cell in cells(files) {
        if let Some(profile) = candidate.profile(&cell.row.profile) {
            asked.ask(profile, &cell.question());
        }
    }
    Coverage {
        percent: asked.percent(),
        clauses: asked.clauses().len(),
        uncovered: asked
            .uncovered()
            .map(|seen| Place::of(candidate, &seen.pointer, seen.to_string()))
            .collect(),
    }
}

/// Tries every mutant on every cell, until one notices.
pub(super) fn mutate(
    candidate: &Candidate,
    files: &[File],
    equivalents: Option<&Path>,
    environment: &Environment,
) -> Result<Mutants, Stop> {
    let mut listed = match equivalents {
        Some(path) => read(path)?,
        None => BTreeMap::new(),
    };
    let mutants = candidate.mutants();
    let mut found = Mutants {
        mutants: mutants.len(),
        refused: 0,
        survivors: Vec::new(),
        equivalent: Vec::new(),
        outdated: Vec::new(),
    };
    let terminal = std::io::stderr().is_terminal();
    for (number, mutant) in mutants.iter().enumerate() {
        if terminal {
            // a terminal that is gone is no reason to stop
            let _ = write!(std::io::stderr(), "\r{number} of {} mutants", mutants.len());
        }
        let Some(config) = candidate.mutate(mutant, &|name| environment.value_or_stand_in(name)) else {
            found.refused = found.refused.saturating_add(1);
            continue;
        };
        if cells(files).all(|cell| cell.expected.is_met_by(&cell.answer(&config))) {
            match listed.remove(&mutant.name) {
                Some(equivalent) => found.equivalent.push(equivalent),
                None => found.survivors.push(Place::of(candidate, &mutant.pointer, mutant.name.clone())),
            }
        }
    }
    if terminal {
        // as above
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    found.outdated = listed.into_keys().collect();
    Ok(found)
}

fn cells(files: &[File]) -> impl Iterator<Item = Cell<'_>> {
    files.iter().flat_map(|file| file.suite.each())
}

/// Reads a list of mutants that are equivalent.
fn read(path: &Path) -> Result<BTreeMap<String, Equivalent>, Stop> {
    let bytes = read_file(path)?;
    let remedy = "write `equivalent: [{ mutant: …, because: … }]`, with names as `--mutants` prints them";
    let invalid = |what: String| Stop::invalid(path.display(), what, remedy);
    let tree = Tree::read(&bytes, format_of(path)).map_err(|faults| invalid(super::lines(faults)))?;
    let faults = shape::check(&WORDS, tree.root());
    if !faults.is_empty() {
        return Err(invalid(super::lines(faults)));
    }
    let spec: Equivalents =
        serde_json::from_value(tree.to_json()).map_err(|error| invalid(error.to_string()))?;
    Ok(spec.equivalent.into_iter().map(|one| (one.mutant.clone(), one)).collect())
}

// === impl Coverage ===

impl Coverage {
    /// For people; `below`: the clauses are named.
    pub(super) fn human(&self, config: &str, below: bool) -> String {
        let mut text = String::new();
        for place in self.uncovered.iter().filter(|_| below) {
            text.push_str(&place.human(config));
        }
        let covered = self.clauses.saturating_sub(self.uncovered.len());
        text.push_str(&format!(
            "{config}: {covered} of {} clauses seen true and false, {} %\n",
            self.clauses, self.percent
        ));
        text
    }
}

// === impl Mutants ===

impl Mutants {
    /// Whether every mutant is noticed or known to be equivalent.
    pub(super) const fn are_dead(&self) -> bool {
        self.survivors.is_empty() && self.outdated.is_empty()
    }

    pub(super) fn human(&self, config: &str) -> String {
        let mut text = String::new();
        for place in &self.survivors {
            let place = Place { what: format!("no case notices {}", place.what), ..place.clone() };
            text.push_str(&place.human(config));
        }
        for name in &self.outdated {
            text.push_str(&format!("{config}: listed as equivalent, and no survivor: {name}\n"));
        }
        text.push_str(&format!(
            "{config}: {} mutants, {} survive, {} equivalent, {} no configuration\n",
            self.mutants,
            self.survivors.len(),
            self.equivalent.len(),
            self.refused
        ));
        text
    }
}

// === impl Place ===

impl Place {
    fn of(candidate: &Candidate, pointer: &str, what: String) -> Self {
        Self { pointer: pointer.to_owned(), line: candidate.tree.line_of(pointer), what }
    }

    fn human(&self, config: &str) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{config}{line}: {}\n", self.what)
    }
}
