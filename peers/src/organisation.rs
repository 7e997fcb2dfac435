//! The policies of a large organisation: 100 organisations of 20 teams, each policy for one organisation, team, type and
//! stage with one more condition; one in a hundred for everybody.

use std::collections::BTreeMap;

use crate::world::{Ask, Attribute, Category, Formula, Rule, Test, Type, Value, World};

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgPolicy {
    /// Grants or forbids.
    pub allows: bool,
    /// Organisation, team, type, stage; `None`: whoever and whatever.
    pub place: Option<[String; 4]>,
    /// The caller's clearance must be above it.
    pub above: i64,
}

/// A request that one policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgAsk {
    /// Organisation, team, type, stage.
    pub place: [String; 4],
    /// The caller's clearance.
    pub clearance: i64,
}

/// So many policies.
#[derive(Clone, Debug)]
pub struct Organisation {
    /// In written order.
    pub policies: Vec<OrgPolicy>,
}

/// The attributes of a place, in its order.
pub const PLACE: [(Category, &str); 4] = [
    (Category::Principal, "org"),
    (Category::Principal, "team"),
    (Category::Resource, "kind"),
    (Category::Resource, "stage"),
];
/// The attribute of the further condition.
pub const CLEARANCE: &str = "clearance";
/// What every policy is about.
pub const ACTION: &str = "predict";

const ORGS: usize = 100;
const TEAMS: usize = 20;
const KINDS: usize = 5;
const STAGES: [&str; 3] = ["production", "staging", "research"];
/// One policy in so many is for everybody.
const EVERYBODY: usize = 100;
/// One policy in so many forbids.
const FORBIDS: usize = 10;

// === impl Organisation ===

impl Organisation {
    /// The first `count` policies.
    pub fn of(count: usize) -> Self {
        let policies = (0..count).map(|index| {
            let everybody = index % EVERYBODY == EVERYBODY - 1;
            let forbids = index % FORBIDS == FORBIDS - 1;
            OrgPolicy {
                allows: !forbids,
                place: (!everybody).then(|| place(index)),
                // what is for everybody wants one of a few clearances
                above: if everybody {
                    everybody_above(index)
                } else if forbids {
                    90
                } else {
                    2
                },
            }
        });
        Self { policies: policies.collect() }
    }

    /// As many, with nothing by which an engine could tell early which ones apply: each wants a clearance of its own.
    pub fn hostile(count: usize) -> Self {
        let policies = (0..count).map(|index| {
            let above = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(100);
            OrgPolicy { allows: true, place: None, above: if index == 0 { 2 } else { above } }
        });
        Self { policies: policies.collect() }
    }

    /// The request that the first policy allows; the others say nothing of it.
    pub fn ask(&self) -> OrgAsk {
        OrgAsk { place: place(0), clearance: 5 }
    }

    /// A request that nothing speaks of.
    pub fn stranger(&self) -> OrgAsk {
        let mut ask = self.ask();
        ask.place[0] = String::from("org_of_nobody");
        ask
    }

    /// As a world.
    pub fn world(&self) -> World {
        let mut attributes: Vec<Attribute> = PLACE
            .iter()
            .map(|(category, name)| Attribute {
                category: *category,
                name: (*name).to_owned(),
                kind: Type::Text,
            })
            .collect();
        let clearance = attributes.len();
        attributes.push(Attribute {
            category: Category::Principal,
            name: CLEARANCE.to_owned(),
            kind: Type::Number,
        });
        let rules = self.policies.iter().map(|policy| {
            let place = policy.place.iter().flatten().enumerate();
            let place = place.map(|(index, text)| Formula::Test(index, Test::Is(Value::Text(text.clone()))));
            let above = std::iter::once(Formula::Test(clearance, Test::Above(policy.above)));
            Rule {
                allows: policy.allows,
                actions: vec![ACTION.to_owned()],
                when: Formula::All(place.chain(above).collect()),
            }
        });
        World { rules: rules.collect(), attributes }
    }
}

// === impl OrgAsk ===

impl OrgAsk {
    /// In the world of its organisation.
    pub fn ask(&self) -> Ask {
        let mut values: BTreeMap<usize, Value> =
            self.place.iter().map(|text| Value::Text(text.clone())).enumerate().collect();
        values.insert(self.place.len(), Value::Number(self.clearance));
        Ask { action: ACTION.to_owned(), values }
    }
}

/// One of five.
fn everybody_above(index: usize) -> i64 {
    let step = index.div_euclid(EVERYBODY).rem_euclid(5);
    i64::try_from(step).map_or(90, |step| step.saturating_add(90))
}

fn place(index: usize) -> [String; 4] {
    let stage = STAGES.get(index.rem_euclid(STAGES.len())).copied().unwrap_or_default();
    [
        format!("org_{}", index % ORGS),
        format!("team_{}", index / ORGS % TEAMS),
        format!("kind_{}", index / (ORGS * TEAMS) % KINDS),
        stage.to_owned(),
    ]
}
