//! Policies and requests in no engine's language.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Where an attribute belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Who asks.
    Principal,
    /// For what.
    Resource,
}

/// The type of an attribute; every value has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// A truth value.
    Bool,
    /// A list of texts.
    List,
    /// A text that is an IP address.
    Address,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Type::Text`] or [`Type::Address`].
    Text(String),
    /// Of [`Type::Number`].
    Number(i64),
    /// Of [`Type::Bool`].
    Bool(bool),
    /// Of [`Type::List`].
    List(Vec<String>),
}

/// A declared attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Where it belongs.
    pub category: Category,
    /// Its name there.
    pub name: String,
    /// What its values are.
    pub kind: Type,
}

/// One test of one attribute. A request without the attribute does not pass it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Text, number or truth value: the same. List: it has this member.
    Is(Value),
    /// Text: one of these. List: it has one of these.
    OneOf(Vec<String>),
    /// Text: begins so.
    StartsWith(String),
    /// Number: larger.
    Above(i64),
    /// Number: not larger.
    AtMost(i64),
    /// There is a value.
    Present,
    /// Text: the same as this attribute's; both must be there.
    SameAs(usize),
    /// Address: in this range.
    Within(String),
}

/// Tests joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formula {
    /// The attribute with this index passes.
    Test(usize, Test),
    /// Every one holds.
    All(Vec<Self>),
    /// Some one holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Grants or forbids.
    pub allows: bool,
    /// Of these actions; empty: of any.
    pub actions: Vec<String>,
    /// Where this holds.
    pub when: Formula,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What it does.
    pub action: String,
    /// Values by the attribute's index; what is absent is not there.
    pub values: BTreeMap<usize, Value>,
}

/// Attributes, and policies on them.
#[derive(Clone, Debug)]
pub struct World {
    /// What there is to know.
    pub attributes: Vec<Attribute>,
    /// In written order.
    pub rules: Vec<Rule>,
}

/// What may be done.
pub const ACTIONS: [&str; 4] = ["predict", "read", "train", "delete"];

/// Texts that occur; few, so that tests pass often. Some hold what other languages give a meaning.
const TEXTS: [&str; 7] = ["acme", "acme-eu", "widgets", "a", "Ä\u{1f511}", "\"q\\", "w%_?"];
const ADDRESSES: [&str; 5] = ["10.1.2.3", "10.200.0.1", "192.168.7.9", "2001:db8::7", "2001:db8:1::7"];
const RANGES: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "192.168.7.9/32", "2001:db8::/32", "2001:db8:1::/48"];
const NUMBERS: std::ops::RangeInclusive<i64> = -3..=3;

const MAX_DEPTH: usize = 3;

// === impl World ===

impl World {
    /// A random world; the same seed gives the same one.
    pub fn random(seed: u64) -> (Self, StdRng) {
        let mut random = StdRng::seed_from_u64(seed);
        let kinds = [Type::Text, Type::Text, Type::Number, Type::Bool, Type::List, Type::Address];
        let attributes: Vec<Attribute> = (0..random.random_range(2..=7))
            .map(|index| Attribute {
                category: if random.random() { Category::Principal } else { Category::Resource },
                name: format!("a{index}"),
                kind: kinds.choose(&mut random).copied().unwrap_or(Type::Text),
            })
            .collect();
        let mut world = Self { attributes, rules: Vec::new() };
        for _ in 0..random.random_range(1..=8) {
            let allows = random.random_bool(0.6);
            let when = world.formula(MAX_DEPTH, allows, &mut random);
            let actions = ACTIONS.iter().filter(|_| random.random()).map(|action| (*action).to_owned());
            let actions: Vec<String> = actions.collect();
            world.rules.push(Rule { allows, actions, when });
        }
        (world, random)
    }

    /// A random request of this world.
    pub fn ask(&self, random: &mut StdRng) -> Ask {
        let action = ACTIONS.choose(random).copied().unwrap_or_default().to_owned();
        let mut values = BTreeMap::new();
        for (index, attribute) in self.attributes.iter().enumerate() {
            if random.random_bool(0.8) {
                values.insert(index, value(attribute.kind, random));
            }
        }
        Ask { action, values }
    }

    /// In a rule that allows, what must not be of an attribute stands beside the test that it is there: mlgate refuses
    /// policies that who lacks the attribute would profit from.
    fn formula(&self, depth: usize, allows: bool, random: &mut StdRng) -> Formula {
        let inner = |random: &mut StdRng| self.formula(depth.saturating_sub(1), allows, random);
        let several = |random: &mut StdRng| (0..random.random_range(1..=3)).map(|_| inner(random)).collect();
        match if depth == 0 { 0 } else { random.random_range(0..7) } {
            4 => Formula::All(several(random)),
            5 => Formula::Any(several(random)),
            6 => {
                let not = inner(random);
                let mut tested = BTreeSet::new();
                not.tested(&mut tested);
                let mut all: Vec<Formula> = Vec::new();
                if allows {
                    all.extend(tested.into_iter().map(|index| Formula::Test(index, Test::Present)));
                }
                all.push(Formula::Not(Box::new(not)));
                Formula::All(all)
            }
            _ => {
                let index = random.random_range(0..self.attributes.len());
                Formula::Test(index, self.test(index, random))
            }
        }
    }

    fn test(&self, index: usize, random: &mut StdRng) -> Test {
        let kind = self.attributes.get(index).map_or(Type::Text, |attribute| attribute.kind);
        if random.random_bool(0.15) {
            return Test::Present;
        }
        let number = random.random_range(NUMBERS);
        match (kind, random.random_range(0..4)) {
            (Type::Number, 0) => Test::Above(number),
            (Type::Number, 1) => Test::AtMost(number),
            (Type::Text, 0) => Test::StartsWith(text(random).chars().take(2).collect()),
            (Type::Text, 1) => {
                let texts = |(other, it): (usize, &Attribute)| {
                    (other != index && it.kind == Type::Text && it.category == Category::Principal)
                        .then_some(other)
                };
                let others: Vec<usize> = self.attributes.iter().enumerate().filter_map(texts).collect();
                others
                    .choose(random)
                    .map_or_else(|| Test::Is(Value::Text(text(random))), |other| Test::SameAs(*other))
            }
            (Type::Text | Type::List, 2) => Test::OneOf((0..3).map(|_| text(random)).collect()),
            (Type::List, _) => Test::Is(Value::Text(text(random))),
            (Type::Address, _) => Test::Within(RANGES.choose(random).copied().unwrap_or_default().to_owned()),
            (Type::Text, _) => Test::Is(Value::Text(text(random))),
            _ => Test::Is(value(kind, random)),
        }
    }
}

// === impl Formula ===

impl Formula {
    /// Adds the attributes that it looks at.
    fn tested(&self, into: &mut BTreeSet<usize>) {
        match self {
            Self::Test(index, test) => {
                into.insert(*index);
                if let Test::SameAs(other) = test {
                    into.insert(*other);
                }
            }
            Self::All(list) | Self::Any(list) => list.iter().for_each(|formula| formula.tested(into)),
            Self::Not(inner) => inner.tested(into),
        }
    }
}

fn text(random: &mut StdRng) -> String {
    TEXTS.choose(random).copied().unwrap_or_default().to_owned()
}

fn value(kind: Type, random: &mut StdRng) -> Value {
    match kind {
        // a policy that wants the empty text is refused, a caller may have it
        Type::Text if random.random_bool(0.1) => Value::Text(String::new()),
        Type::Text => Value::Text(text(random)),
        Type::Number => Value::Number(random.random_range(NUMBERS)),
        Type::Bool => Value::Bool(random.random()),
        Type::List => Value::List((0..random.random_range(0..3)).map(|_| text(random)).collect()),
        Type::Address => Value::Text(ADDRESSES.choose(random).copied().unwrap_or_default().to_owned()),
    }
}
