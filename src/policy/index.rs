//! Rules become an [`Index`], so that a decision looks at those that may apply, however many others there are.
//!
//! A rule is filed under what its clauses pin down: an attribute that must be one of some values, or begin with some
//! text. Rules that pin down the same attributes make a [`Group`], a hash table from the values to the rules. A request
//! looks into each group with its own values. What pins nothing down, and what many rules pin down alike, is filed by its
//! next clause, which is asked once for all rules that share it. The candidates are a superset of what applies: every one
//! is evaluated.
//!
//! Only a clause that is definitely false may keep a rule out. A value of a type that no pattern can be compared with, or
//! none where there must be one, makes an error of the clause, and an error of a deny denies: the whole group is then
//! among the candidates.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::Rule;
use super::attributes::{Value, ValueRef};
use super::condition::comparison::{Comparison, Operand};
use super::condition::pattern::Alternative;
use super::condition::truth::{Absence, Lookup, Match};
use super::condition::{Block, Clause, Condition};
use super::schema::Designator;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    groups: Vec<Group>,
    shared: Vec<Shared>,
    /// Rules without a clause.
    always: Vec<u32>,
}

/// Rules that pin down the same attributes.
#[derive(Clone, Debug)]
struct Group {
    parts: Vec<Part>,
    table: HashMap<u64, Vec<Shared>, BuildHasherDefault<Known>>,
    /// Every rule of the group.
    rules: Vec<u32>,
}

/// One thing that a rule pins down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// The attribute's full name, by which parts are ordered.
    name: Rc<str>,
    /// How many bytes of a text count; `None`: the whole value.
    prefix: Option<usize>,
    attribute: Rc<Designator>,
}

/// Rules that have one clause in common; `None`: nothing more to tell them by.
#[derive(Clone, Debug)]
struct Shared {
    clause: Option<Clause>,
    rules: Vec<u32>,
}

/// A rule and the clause by which it could be filed further.
type Member<'r> = (u32, Option<&'r Clause>);

/// Which clauses of a rule count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// All of them.
    Rule,
    /// Whose it is, and which action it names.
    Claim,
}

/// So many rules are not worth filing.
const FEW: usize = 4;

/// A rule is filed under at most so many parts.
const MAX_PARTS: usize = 4;

/// A rule is filed in at most so many places: the product of the values that it lists.
const MAX_PLACES: usize = 64;

/// There are at most so many groups, since each request looks into all of them.
const MAX_GROUPS: usize = 12;

/// A request looks at most so often into one group: the product of the lengths of its lists.
const MAX_LOOKS: usize = 256;

/// What a rule pins down, and to which values: their hashes.
type Pinned = (Part, Vec<u64>);

// === impl Index ===

impl Index {
    /// Files rules by their position.
    pub(super) fn build<'r>(rules: impl Iterator<Item = (usize, &'r Rule)>, over: Over) -> Self {
        let rules: Vec<(u32, &Rule)> =
            rules.filter_map(|(number, rule)| Some((u32::try_from(number).ok()?, rule))).collect();
        if rules.len() <= FEW {
            return Self { always: rules.into_iter().map(|(number, _)| number).collect(), ..Self::default() };
        }
        let mut filed: Vec<(u32, Vec<Pinned>, &Rule)> =
            rules.into_iter().map(|(number, rule)| (number, pinned(rule, over), rule)).collect();
        let distinct = distinct(filed.iter().flat_map(|(_, pinned, _)| pinned));
        for (_, pinned, _) in &mut filed {
            choose(pinned, &distinct);
        }
        // The groups that hold most; what is in none of them is filed under its best part alone, and then under none.
        let mut index = Self::default();
        let wide = largest(filed.iter().map(|(_, pinned, _)| parts(pinned)), MAX_GROUPS / 2);
        for (_, pinned, _) in &mut filed {
            if !pinned.is_empty() && !wide.contains(&parts(pinned)) {
                pinned.truncate(1);
            }
        }
        let kept = largest(filed.iter().map(|(_, pinned, _)| parts(pinned)), MAX_GROUPS);
        let mut groups: BTreeMap<Vec<Part>, BTreeMap<u64, Vec<Member<'r>>>> = BTreeMap::new();
        let mut others: Vec<Member<'r>> = Vec::new();
        for (number, pinned, rule) in filed {
            let parts = parts(&pinned);
            if !parts.is_empty() && kept.contains(&parts) {
                let member = (number, next_clause(rule, over, &parts));
                let group = groups.entry(parts).or_default();
                places(&pinned).into_iter().for_each(|place| group.entry(place).or_default().push(member));
            } else if let Some(clause) = next_clause(rule, over, &[]).or_else(|| any_clause(rule, over)) {
                others.push((number, Some(clause)));
            } else {
                index.always.push(number);
            }
        }
        index.groups = groups.into_iter().map(|(parts, places)| Group::new(parts, places)).collect();
        index.shared = Shared::all_of(others);
        index
    }

    /// Every rule that may say something other than *no*, and perhaps others; by position, each once.
    pub(super) fn candidates(&self, lookup: Lookup<'_>) -> impl Iterator<Item = usize> + use<> {
        let mut found: Vec<u32> = Vec::new();
        self.find(lookup, &mut |rules| {
            found.extend(rules);
            false
        });
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|number| usize::try_from(number).ok())
    }

    /// Whether one of them passes a test.
    pub(super) fn any(&self, lookup: Lookup<'_>, test: impl Fn(usize) -> bool) -> bool {
        self.find(lookup, &mut |rules| rules.iter().any(|number| usize::try_from(*number).is_ok_and(&test)))
    }

    /// Shows rules until `seen` has enough, and says whether it had.
    fn find(&self, lookup: Lookup<'_>, seen: &mut dyn FnMut(&[u32]) -> bool) -> bool {
        seen(&self.always)
            || self.groups.iter().any(|group| group.find(lookup, seen))
            || Shared::find(&self.shared, lookup, seen)
    }
}

// === impl Shared ===

impl Shared {
    /// Rules by the clause that they share, those on one attribute side by side.
    fn all_of(members: Vec<Member<'_>>) -> Vec<Self> {
        let mut by_clause: BTreeMap<Option<String>, Self> = BTreeMap::new();
        for (number, clause) in members {
            let name = clause.map(|clause| format!("{} {}", clause.attribute().full_name, clause.to_json()));
            let shared =
                by_clause.entry(name).or_insert_with(|| Self { clause: clause.cloned(), rules: Vec::new() });
            shared.rules.push(number);
        }
        by_clause.into_values().collect()
    }

    fn find(all: &[Self], lookup: Lookup<'_>, seen: &mut dyn FnMut(&[u32]) -> bool) -> bool {
        let mut before: Option<(&Designator, Option<ValueRef<'_>>)> = None;
        all.iter().any(|shared| {
            // an error may be an answer too: only what is definitely false keeps rules out
            let may_apply = shared.clause.as_ref().is_none_or(|clause| {
                let attribute = clause.attribute();
                let found = match before {
                    Some((known, found)) if std::ptr::eq(known, attribute) => found,
                    _ => lookup.value(attribute),
                };
                before = Some((attribute, found));
                clause.matches_value(found, lookup) != Match::No
            });
            may_apply && seen(&shared.rules)
        })
    }
}

// === impl Group ===

impl Group {
    fn new(parts: Vec<Part>, places: BTreeMap<u64, Vec<Member<'_>>>) -> Self {
        let mut rules: Vec<u32> = places.values().flatten().map(|(number, _)| *number).collect();
        rules.sort_unstable();
        rules.dedup();
        let file = |members: Vec<Member<'_>>| {
            if members.len() > FEW {
                return Shared::all_of(members);
            }
            vec![Shared { clause: None, rules: members.into_iter().map(|(number, _)| number).collect() }]
        };
        let table = places.into_iter().map(|(place, members)| (place, file(members))).collect();
        Self { parts, table, rules }
    }

    fn find(&self, lookup: Lookup<'_>, seen: &mut dyn FnMut(&[u32]) -> bool) -> bool {
        let mut single = Some(START);
        // only where some attribute is a list
        let mut several: Vec<u64> = Vec::new();
        let mut unsure = false;
        for part in &self.parts {
            match part.seen(lookup) {
                Seen::One(value) => {
                    single = single.map(|place| combine(place, value));
                    several.iter_mut().for_each(|place| *place = combine(*place, value));
                }
                Seen::Several(list) => {
                    let places = single.take().into_iter().chain(several);
                    let hashes: Vec<u64> = list.iter().filter_map(|text| part.hash_text(text)).collect();
                    several = places
                        .flat_map(|place| hashes.iter().map(move |hash| combine(place, *hash)))
                        .collect();
                    if several.len() > MAX_LOOKS {
                        return seen(&self.rules);
                    }
                }
                // a part that is false keeps all out, whatever errs beside it
                Seen::Nothing => return false,
                Seen::Unsure => unsure = true,
            }
        }
        if unsure {
            return seen(&self.rules);
        }
        let filed = |place: u64| self.table.get(&place).map(Vec::as_slice).unwrap_or_default();
        single.into_iter().chain(several).any(|place| Shared::find(filed(place), lookup, seen))
    }
}

/// What a request has of a part.
enum Seen<'a> {
    /// Nothing that any value could be: each clause is false.
    Nothing,
    /// This value.
    One(u64),
    /// These values, one of which may be meant.
    Several(&'a [String]),
    /// Something that makes an error of each clause, or of some.
    Unsure,
}

// === impl Part ===

impl Part {
    fn seen<'a>(&self, lookup: Lookup<'a>) -> Seen<'a> {
        match lookup.attributes.lookup(self.attribute.category, &self.attribute.name) {
            Some(ValueRef::Text(text)) => self.hash_text(text).map_or(Seen::Nothing, Seen::One),
            Some(ValueRef::List(list)) => Seen::Several(list),
            // every clause of the group compares with a text
            Some(_) => Seen::Unsure,
            None if self.attribute.required || lookup.absence == Absence::Error => Seen::Unsure,
            None => Seen::Nothing,
        }
    }

    fn hash_text(&self, text: &str) -> Option<u64> {
        let bytes = text.as_bytes();
        let counted = match self.prefix {
            None => bytes,
            Some(length) => bytes.get(..length)?,
        };
        Some(hash(counted))
    }
}

/// Hashes that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Known(u64);

impl Hasher for Known {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = combine(self.0, u64::from(*byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What a rule pins down in the clauses that must all hold.
fn pinned(rule: &Rule, over: Over) -> Vec<Pinned> {
    let mut pinned: Vec<Pinned> = Vec::new();
    for clause in clauses(rule, over) {
        for (prefix, texts) in pins(clause).into_iter() {
            let attribute = clause.shared_attribute();
            let part = Part { name: Rc::clone(&attribute.full_name), prefix, attribute };
            let mut hashes: Vec<u64> = texts.into_iter().filter_map(|text| part.hash_text(text)).collect();
            hashes.sort_unstable();
            hashes.dedup();
            if hashes.len() <= MAX_PLACES && pinned.iter().all(|(known, _)| known.name != part.name) {
                pinned.push((part, hashes));
            }
        }
    }
    pinned
}

/// The texts that an attribute must be or begin with for a clause to hold. All of one length where they are prefixes.
fn pins(clause: &Clause) -> Option<(Option<usize>, Vec<&str>)> {
    if clause.is_negated() {
        return None;
    }
    match clause.comparison() {
        Comparison::Equals(Operand::Value(Value::Text(text))) => Some((None, vec![text])),
        Comparison::Like(pattern) => {
            let alternatives = pattern.alternatives().iter();
            let texts: Option<Vec<(Option<usize>, &str)>> = alternatives
                .map(|alternative| match alternative {
                    Alternative::Text(text) => Some((None, &**text)),
                    Alternative::Prefix(text) => Some((Some(text.len()), &**text)),
                    _ => None,
                })
                .collect();
            let texts = texts?;
            let (prefix, _) = *texts.first()?;
            let alike = texts.iter().all(|(other, _)| *other == prefix);
            alike.then(|| (prefix, texts.into_iter().map(|(_, text)| text).collect()))
        }
        _ => None,
    }
}

/// The first clause that none of the parts stands for and that is not about the action, which separates least.
fn next_clause<'r>(rule: &'r Rule, over: Over, parts: &[Part]) -> Option<&'r Clause> {
    clauses(rule, over).into_iter().find(|clause| {
        let name = &clause.attribute().full_name;
        **name != *"action" && parts.iter().all(|part| part.name != *name)
    })
}

fn any_clause(rule: &Rule, over: Over) -> Option<&Clause> {
    clauses(rule, over).into_iter().next()
}

/// The clauses that must all hold: those of conjunctions within conjunctions too.
fn clauses(rule: &Rule, over: Over) -> Vec<&Clause> {
    let [claim, object] = rule.conditions();
    let mut open: Vec<&Condition> =
        std::iter::once(claim).chain(Some(object).filter(|_| over == Over::Rule)).collect();
    open.reverse();
    let mut clauses = Vec::new();
    while let Some(condition) = open.pop() {
        clauses.extend(condition.clauses());
        for block in condition.blocks() {
            if let Block::All(parts) = block {
                open.extend(parts);
            }
        }
    }
    clauses
}

/// How many values each part takes over all rules: what takes but one separates nothing.
fn distinct<'p>(pinned: impl Iterator<Item = &'p Pinned>) -> BTreeMap<Part, usize> {
    let mut values: BTreeMap<Part, std::collections::BTreeSet<u64>> = BTreeMap::new();
    for (part, hashes) in pinned {
        values.entry(part.clone()).or_default().extend(hashes);
    }
    values.into_iter().map(|(part, values)| (part, values.len())).collect()
}

/// Keeps the parts that separate most, best first, as many as leave a rule in few places.
fn choose(pinned: &mut Vec<Pinned>, distinct: &BTreeMap<Part, usize>) {
    let separates = |part: &Part| distinct.get(part).copied().unwrap_or_default();
    pinned.sort_by(|(one, _), (other, _)| separates(other).cmp(&separates(one)).then_with(|| one.cmp(other)));
    let mut places = 1_usize;
    let mut kept = 0_usize;
    pinned.retain(|(part, hashes)| {
        let more = places.saturating_mul(hashes.len());
        let keep = kept < MAX_PARTS && more <= MAX_PLACES && (separates(part) > 1 || kept == 0);
        if keep {
            places = more;
            kept = kept.saturating_add(1);
        }
        keep
    });
}

fn parts(pinned: &[Pinned]) -> Vec<Part> {
    let mut parts: Vec<Part> = pinned.iter().map(|(part, _)| part.clone()).collect();
    parts.sort_unstable();
    parts
}

/// The combinations of parts that most rules have.
fn largest(all: impl Iterator<Item = Vec<Part>>, most: usize) -> Vec<Vec<Part>> {
    let mut sizes: BTreeMap<Vec<Part>, usize> = BTreeMap::new();
    for parts in all.filter(|parts| !parts.is_empty()) {
        let size = sizes.entry(parts).or_default();
        *size = size.saturating_add(1);
    }
    let mut sizes: Vec<(Vec<Part>, usize)> = sizes.into_iter().collect();
    sizes.sort_by(|(one, size), (other, larger)| larger.cmp(size).then_with(|| one.cmp(other)));
    sizes.into_iter().take(most).map(|(parts, _)| parts).collect()
}

/// Every combination of the values of a rule's parts, in the order of the group's.
fn places(pinned: &[Pinned]) -> Vec<u64> {
    let mut ordered: Vec<&Pinned> = pinned.iter().collect();
    ordered.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    ordered.into_iter().fold(vec![START], |places, (_, hashes)| {
        places.iter().flat_map(|place| hashes.iter().map(|hash| combine(*place, *hash))).collect()
    })
}

/// Not commutative, so that values of two attributes cannot be exchanged. Two places that fall together only make a
/// candidate more.
const fn combine(place: u64, hash: u64) -> u64 {
    (place.rotate_left(23) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Of a value. The table never grows by what a request brings, so nobody gains by values that fall together.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(START, |hash, word| combine(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().fold(1, |last, byte| last << 8 | u64::from(*byte));
    combine(hash, last)
}

const START: u64 = 0x6d6c_6761_7465;
