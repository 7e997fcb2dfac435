//! What would flip a denial: random policies, random callers; each change is applied here, apart from the search, and
//! decided by the gate.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken generator should stop the test"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use mlgate::config::Format;
use mlgate::identity::Identity;
use mlgate::policy::attributes::{AttributeMap, Category, Value};
use mlgate::resource::Resource;
use mlgate::review::Candidate;
use mlgate::review::candidate::Question;
use mlgate::review::flip::{Change, Flipping, flip};
use mlgate::review::partial::{self, Outcome};
use mlgate::time::UnixTime;
use serde_json::{Map, Value as Json, json};

/// The same numbers in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(below).unwrap()).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.next(of.len())].clone()
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.next(100) < percent
    }
}

/// A request that owns what it is about.
#[derive(Clone, Debug)]
struct Asked {
    principal: Identity,
    resource: Resource,
    action: String,
    environment: AttributeMap,
    now: UnixTime,
    source: IpAddr,
}

impl Asked {
    fn question(&self) -> Question<'_> {
        Question {
            principal: &self.principal,
            resource: &self.resource,
            listed: true,
            action: &self.action,
            environment: &self.environment,
            now: Some(self.now),
            source: Some(self.source),
        }
    }

    fn apply(&mut self, change: &Change) {
        let text = || match &change.to {
            Some(Value::Text(text)) => text.clone(),
            other => panic!("{other:?} is no text"),
        };
        let map = match (change.category, change.name.as_str()) {
            (Category::Action, _) => return self.action = text(),
            (Category::Principal, "id") => return self.principal.principal = text(),
            (Category::Principal, "tier") => return self.principal.tier = text(),
            (Category::Principal, "roles") => {
                return match &change.to {
                    Some(Value::List(roles)) => self.principal.roles.clone_from(roles),
                    other => panic!("{other:?} are no roles"),
                };
            }
            (Category::Resource, "type") => return self.resource.kind = text(),
            (Category::Resource, "id") => return self.resource.id = text(),
            (Category::Environment, "now") => return self.now = UnixTime::parse(&text()).unwrap(),
            (Category::Environment, "source") => return self.source = text().parse().unwrap(),
            (Category::Principal, _) => &mut self.principal.attributes,
            (Category::Resource, _) => &mut self.resource.attributes,
            (Category::Environment, _) => &mut self.environment,
        };
        match &change.to {
            Some(value) => drop(map.insert(change.name.clone(), value.clone())),
            None => drop(map.remove(&change.name)),
        }
    }
}

/// What may stand behind an attribute of each name.
fn pattern(random: &mut Random, name: &str) -> Json {
    let short = match name {
        "team" => random.one(&[
            json!("a"),
            json!("b"),
            json!(["a", "c"]),
            json!("a*"),
            json!("*"),
            json!("{principal.team}"),
        ]),
        "level" => random.one(&[
            json!({ "gte": 2 }),
            json!({ "lt": 3 }),
            json!(1),
            json!([1, 2]),
            json!({ "gt": { "attribute": "resource.level" } }),
        ]),
        "tags" => random.one(&[
            json!("x"),
            json!({ "contains_all": ["x", "y"] }),
            json!(["y", "z"]),
            json!({ "present": true }),
        ]),
        "cleared" => random.one(&[json!(true), json!(false), json!({ "present": false })]),
        "stage" => random.one(&[json!("production"), json!(["production", "staging"]), json!("sta*")]),
        "id" => random.one(&[json!("m1"), json!("m2"), json!("m*")]),
        "name" => random.one(&[json!("production"), json!("staging")]),
        "time" => random.one(&[
            json!({ "gte": "09:00" }),
            json!({ "lt": "17:30" }),
            json!({ "gte": "08:00", "lt": "12:00" }),
        ]),
        "weekday" => random.one(&[json!("monday"), json!(["saturday", "sunday"])]),
        "source" => random.one(&[
            json!({ "in_cidr": "10.0.0.0/8" }),
            json!({ "in_cidr": ["192.0.2.0/24", "2001:db8::/32"] }),
        ]),
        other => panic!("{other}"),
    };
    // an object can be put behind `not`, a pattern too
    if random.percent(20) { json!({ "not": short }) } else { short }
}

fn section(random: &mut Random, names: &[&str], most: usize) -> Map<String, Json> {
    let mut section = Map::new();
    for _ in 0..random.next(most + 1) {
        let name = random.one(names);
        section.insert(name.to_owned(), pattern(random, name));
    }
    section
}

const PRINCIPAL: [&str; 4] = ["team", "level", "tags", "cleared"];
const RESOURCE: [&str; 4] = ["team", "level", "stage", "id"];
const WHEN: [&str; 6] = [
    "principal.team",
    "principal.cleared",
    "resource.stage",
    "environment.name",
    "environment.time",
    "environment.source",
];

fn conditions(random: &mut Random, depth: usize) -> Map<String, Json> {
    let mut when = Map::new();
    for _ in 0..=random.next(2) {
        let name = random.one(&WHEN);
        when.insert(name.to_owned(), pattern(random, name.split_once('.').unwrap().1));
    }
    if depth < 2 && random.percent(40) {
        let (word, count) = random.one(&[("any", 2), ("all", 2), ("not", 1)]);
        let parts: Vec<Json> = (0..count).map(|_| Json::Object(conditions(random, depth + 1))).collect();
        when.insert(word.to_owned(), if word == "not" { parts[0].clone() } else { Json::Array(parts) });
    }
    when
}

fn document(random: &mut Random) -> Json {
    let policies: Vec<Json> = (0..1 + random.next(6))
        .map(|index| {
            let mut policy = json!({
                "name": format!("p{index}"),
                "effect": if random.percent(35) { "deny" } else { "allow" },
                "principal": section(random, &PRINCIPAL, 2),
                "resource": section(random, &RESOURCE, 2),
            });
            if random.percent(60) {
                policy["action"] =
                    random.one(&[json!(["read"]), json!(["read", "predict"]), json!(["delete"])]);
            }
            if random.percent(50) {
                policy["when"] = Json::Object(conditions(random, 0));
            }
            policy
        })
        .collect();
    let user = json!({ "permissions": ["read", { "actions": ["predict"], "resource": section(random, &RESOURCE, 2) }] });
    json!({
        "version": 1, "name": "flip", "environment": { "name": "production" },
        "resources": {
            "catalogue": [
                { "type": "model", "id": "m1", "team": "a", "level": 1, "stage": "production" },
                { "type": "model", "id": "m2", "team": "b", "level": 3, "stage": "staging" },
            ],
            "rules": [{ "preset": "openai" }],
        },
        "authorization": { "roles": { "user": user, "admin": { "inherits": ["user"], "permissions": ["delete"] } }, "policies": policies },
        "audit": { "collector": { "cluster": "a" }, "chain": { "unkeyed": true } },
    })
}

fn asked(random: &mut Random, candidate: &Candidate) -> Asked {
    let mut principal =
        Identity { principal: String::from("u"), name: String::from("u"), ..Identity::anonymous() };
    for role in ["user", "admin"] {
        if random.percent(25) {
            principal.roles.push(role.to_owned());
        }
    }
    let text = |text: &str| Value::Text(text.to_owned());
    let list = |texts: &[&str]| Value::List(texts.iter().map(|text| (*text).to_owned()).collect());
    // some are missing, and some have a type that nothing can be compared with
    for (name, values) in [
        ("team", vec![text("a"), text("b"), text("ab"), Value::Number(1)]),
        ("level", vec![Value::Number(0), Value::Number(2), Value::Number(4), text("high")]),
        ("tags", vec![list(&["x"]), list(&["x", "y"]), list(&[]), Value::Bool(true)]),
        ("cleared", vec![Value::Bool(true), Value::Bool(false), text("yes")]),
    ] {
        if random.percent(70) {
            principal.attributes.insert(name.to_owned(), random.one(&values));
        }
    }
    let id = random.one(&["m1", "m2"]);
    Asked {
        principal,
        resource: (*candidate.resource("model", id).0).clone(),
        action: random.one(&["read", "predict", "delete"]).to_owned(),
        environment: candidate.config.environment.clone(),
        now: UnixTime::parse(&format!("2026-02-{:02}T{:02}:15:00Z", 1 + random.next(28), random.next(24)))
            .unwrap(),
        source: random.one(&["10.1.2.3", "192.0.2.9", "203.0.113.5"]).parse().unwrap(),
    }
}

/// Under each way of combining: what is said without an attribute is said whatever it is.
#[test]
fn what_is_answered_without_an_attribute_holds_for_each_value_of_it() {
    let mut random = Random(7);
    let (mut said, mut depends) = (0, 0);
    for round in 0..600 {
        let mut document = document(&mut random);
        match round % 3 {
            0 => {}
            1 => document["authorization"]["combining"] = json!("first_applicable"),
            _ => {
                document["profiles"] = json!({ "default": { "authenticate": { "any": ["api_key"] }, "combining": "permit_unless_deny" } });
            }
        }
        let document = document.to_string();
        let Ok(candidate) = Candidate::open(document.as_bytes(), Format::Json, &|_| None) else { continue };
        let profile = candidate.profile("default").unwrap();
        let mut asked = asked(&mut random, &candidate);
        let unknown =
            [(Category::Principal, String::from("level")), (Category::Principal, String::from("team"))];
        asked.principal.attributes.retain(|name, _| !matches!(name.as_str(), "level" | "team"));
        let outcome = partial::decide(&candidate, profile, &asked.question(), &unknown.into_iter().collect());
        let Outcome::Said(answer) = outcome else {
            depends += 1;
            continue;
        };
        said += 1;
        for level in [
            None,
            Some(Value::Number(0)),
            Some(Value::Number(2)),
            Some(Value::Number(4)),
            Some(Value::Bool(true)),
        ] {
            for team in [None, Some("a"), Some("b"), Some("c")] {
                let mut known = asked.clone();
                let team = team.map(|team| Value::Text(team.to_owned()));
                known.principal.attributes.extend(level.clone().map(|level| (String::from("level"), level)));
                known.principal.attributes.extend(team.map(|team| (String::from("team"), team)));
                let really = candidate.decide(profile, &known.question());
                assert_eq!(
                    really.is_allowed(),
                    answer.is_allowed(),
                    "{answer} {really}\n{known:#?}\n{document}"
                );
            }
        }
    }
    println!("{said} said, {depends} depend");
    assert!(said > 100 && depends > 50, "{said} {depends}");
}

#[test]
fn the_suggested_change_flips_a_denial_and_no_part_of_it_can_be_left_out() {
    let mut random = Random(42);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut unknown = Vec::new();
    while counts.get("flipped").copied().unwrap_or(0) < 500 {
        let document = document(&mut random).to_string();
        let Ok(candidate) = Candidate::open(document.as_bytes(), Format::Json, &|_| None) else {
            *counts.entry("refused as a configuration").or_default() += 1;
            continue;
        };
        let profile = candidate.profile("default").unwrap();
        for _ in 0..6 {
            let asked = asked(&mut random, &candidate);
            let answer = candidate.decide(profile, &asked.question());
            let Some(reason) = answer.reason() else { continue };
            let changes = match flip(&candidate.config, profile, &asked.question()) {
                Flipping::By(changes) => changes,
                Flipping::Never(_) => {
                    *counts.entry("never").or_default() += 1;
                    continue;
                }
                Flipping::NotFound => {
                    *counts.entry("not found").or_default() += 1;
                    unknown.push((document.clone(), asked));
                    continue;
                }
            };
            *counts.entry("flipped").or_default() += 1;
            *reasons.entry(reason).or_default() += 1;
            *sizes.entry(changes.len()).or_default() += 1;
            let full = (1_usize << changes.len()) - 1;
            for subset in 0..=full {
                let mut other = asked.clone();
                let chosen = changes.iter().enumerate().filter(|(bit, _)| subset & (1 << bit) != 0);
                chosen.for_each(|(_, change)| other.apply(change));
                let allowed = candidate.decide(profile, &other.question()).is_allowed();
                assert_eq!(allowed, subset == full, "{subset:b} of {changes:#?}\n{asked:#?}\n{document}");
            }
        }
    }
    println!("{counts:?}; by reason {reasons:?}; by number of changes {sizes:?}");
    for (document, asked) in unknown.iter().take(3) {
        println!("not found: {document}\n{asked:?}");
    }
    assert!(reasons.len() >= 4, "{reasons:?}");
    assert_eq!(counts.get("not found"), None, "{counts:?}");
}
