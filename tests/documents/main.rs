//! What the documents say is what the code does: tables are held to it in both directions, links and paths exist,
//! commands run. Generated tables are written anew by `MLGATE_BLESS=1 cargo test --all-features --test documents`.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken document should stop the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod commands;
mod events;
mod links;
mod words;

use mlgate::config::document::BoundsSpec;
use mlgate::config::faults::Faults;
use mlgate::config::shape::words as written;
use mlgate::config::tree::Tree;
use mlgate::envoy::rule::Rule;
use mlgate::filter::metrics::NAMES;
use mlgate::filter::refusal::{Reason, Refusal};
use mlgate::filter::reply::{Caller, reply};
use mlgate::limits::gcra::Quota;
use mlgate::policy::condition::comparison::OPERATORS;
use mlgate::policy::condition::{Condition, Section};
use mlgate::policy::schema::Schema;

const REFERENCE: &str = "docs/reference.md";

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let mut all = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// The rows of the first table under a heading, without its head; cells are trimmed, backticks stay.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = read(REFERENCE);
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("{REFERENCE} has no section `{heading}`"));
    let rows: Vec<Vec<String>> = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim().trim_start_matches('|').trim_end_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "`{heading}` has no table");
    rows
}

/// The first `columns` of a table, as a set; a row that stands there twice is a failure.
fn columns(heading: &str, columns: usize) -> BTreeSet<Vec<String>> {
    let rows = table(heading);
    let count = rows.len();
    let set: BTreeSet<Vec<String>> =
        rows.into_iter().map(|row| row.into_iter().take(columns).collect()).collect();
    assert_eq!(set.len(), count, "`{heading}` says something twice");
    set
}

/// What only the code has, and what only the document has.
fn assert_same(what: &str, code: &BTreeSet<Vec<String>>, document: &BTreeSet<Vec<String>>) {
    let missing: Vec<_> = code.difference(document).collect();
    let invented: Vec<_> = document.difference(code).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{what}: {REFERENCE} lacks {missing:#?} and invents {invented:#?}"
    );
}

/// Holds the text between `<!-- name -->` and `<!-- /name -->` to what the code says, or writes it there.
fn generated(path: &str, name: &str, wanted: &str) {
    let text = read(path);
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("{path} has no {open}"));
    let (found, after) = rest.split_once(&close).unwrap_or_else(|| panic!("{path} has no {close}"));
    if found == wanted {
        return;
    }
    if std::env::var_os("MLGATE_BLESS").is_some() {
        let whole = [before, &open, wanted, &close, after].concat();
        return std::fs::write(root().join(path), whole).unwrap();
    }
    let line = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    panic!("{path}: `{name}` is not what the code says (set MLGATE_BLESS=1 to write it): {line:#?}");
}

#[test]
fn each_word_of_the_configuration_is_described() {
    // One test, so that only one writes.
    generated(REFERENCE, "words", &words::table());
    generated(REFERENCE, "reserved", &words::reserved());
}

#[test]
fn each_danger_has_its_row() {
    let rows: String = Rule::ALL
        .into_iter()
        .map(|rule| format!("| `{}` | {} | {} |\n", rule.name(), rule.danger(), rule.remedy()))
        .collect();
    generated(REFERENCE, "dangers", &format!("| rule | danger | remedy |\n|---|---|---|\n{rows}"));
}

#[test]
fn the_full_example_has_every_word() {
    let tree = Tree::from_yaml(read("envoy/config/full.yaml").as_bytes()).unwrap();
    assert_eq!(words::missing_in(&tree.to_json()), Vec::<String>::new());
}

#[test]
fn each_operator_has_its_row_and_an_example_that_works() {
    let rows = table("Conditions");
    let said: Vec<&str> = rows.iter().filter_map(|row| row[0].strip_prefix('`')?.strip_suffix('`')).collect();
    assert_eq!(said, OPERATORS);
    let words = written::OPERATORS.built().collect::<Vec<_>>();
    assert_eq!(words, OPERATORS);
    for row in rows {
        let example = format!("{{ {} }}", row[1].trim_matches('`'));
        let written = Tree::from_yaml(example.as_bytes()).unwrap().to_json();
        assert!(row[0] == "none" || example.contains(&format!("{}:", row[0].trim_matches('`'))), "{example}");
        let written = written.as_object().unwrap().clone().into_iter().collect();
        let mut faults = Faults::default();
        Condition::compile(&written, Section::When, &Schema::default(), "/when", &mut faults);
        assert!(faults.is_empty(), "{example}: {faults:?}");
    }
}

/// Which Envoys were tried is written by `make versions`; by hand nobody may take one out.
#[test]
fn the_readme_says_which_envoys_were_tried() {
    let readme = read("README.md");
    let table =
        readme.split("<!-- versions -->\n").nth(1).unwrap().split("<!-- /versions -->").next().unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(2).map(|line| line.split('|').map(str::trim).collect()).collect();
    let minors: Vec<&str> =
        rows.iter().filter_map(|row| row.get(1)?.rsplit_once('.')).map(|(minor, _)| minor).collect();
    assert_eq!(minors, ["1.36", "1.37", "1.38", "1.39", "1.40"]);
    for row in rows {
        let cases: Option<u32> = row.get(2).and_then(|cell| cell.parse().ok());
        assert!(cases.is_some_and(|cases| cases > 100), "{row:?}");
    }
}

#[test]
fn each_bound_has_its_default() {
    // Taken apart whole: a new bound does not compile without its row.
    let BoundsSpec {
        header_bytes,
        body_held,
        waiting,
        wait,
        json_depth,
        principal_slots,
        source_slots,
        cas_retries,
        audit_queue,
        metric_series,
        token_bytes,
        verified_tokens,
        decisions,
        jwks_bytes,
        jwks_keys,
    } = BoundsSpec::default();
    let size = |bytes: u64| match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        bytes => format!("{}KiB", bytes >> 10),
    };
    let code = [
        ("header_bytes", size(header_bytes.0)),
        ("body_held", size(body_held.0)),
        ("waiting", waiting.to_string()),
        ("wait", format!("{}s", wait.0.as_secs())),
        ("json_depth", json_depth.to_string()),
        ("principal_slots", principal_slots.to_string()),
        ("source_slots", source_slots.to_string()),
        ("cas_retries", cas_retries.to_string()),
        ("audit_queue", size(audit_queue.0)),
        ("metric_series", metric_series.to_string()),
        ("token_bytes", size(token_bytes.0)),
        ("jwks_bytes", size(jwks_bytes.0)),
        ("jwks_keys", jwks_keys.to_string()),
        ("verified_tokens", verified_tokens.to_string()),
        ("decisions", decisions.to_string()),
    ];
    let code =
        code.into_iter().map(|(name, value)| vec![format!("`{name}`"), format!("`{value}`")]).collect();
    assert_same("bounds", &code, &columns("Bounds", 2));
}

#[test]
fn each_reason_has_its_row() {
    let quota = Quota { limit: 1, remaining: 0, reset: std::time::Duration::from_secs(1) };
    let code = Reason::ALL.into_iter().map(|reason| {
        let answer = reason.answer();
        let limited = reason == Reason::RateLimited;
        let timed = limited || reason == Reason::Blocked;
        let refusal = Refusal { reason, retry_after: timed.then_some(std::time::Duration::from_secs(1)) };
        let caller = Caller { decision_id: "", grpc: false, invalid_credential_status: 401, realm: "" };
        let reply = reply(refusal, limited.then_some(&quota), caller);
        let own = ["content-type", "cache-control"];
        let mut with: Vec<String> = reply
            .headers
            .iter()
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .map(|(name, _)| match name.strip_prefix("x-ratelimit-") {
                Some(_) => "`x-ratelimit-*`".to_owned(),
                None => format!("`{name}`"),
            })
            .collect();
        with.dedup();
        vec![
            format!("`{}`", answer.inner),
            format!("`{}`", answer.public),
            answer.status.to_string(),
            answer.grpc_status.to_string(),
            with.join(", "),
        ]
    });
    assert_same("reasons", &code.collect(), &columns("Reasons", 5));
}

#[test]
fn each_metric_has_its_row() {
    let code = NAMES.iter().map(|(name, kind, labels)| {
        let labels: Vec<String> =
            labels.split(", ").filter(|label| !label.is_empty()).map(|label| format!("`{label}`")).collect();
        vec![format!("`{name}`"), (*kind).to_owned(), labels.join(", ")]
    });
    assert_same("metrics", &code.collect(), &columns("Metrics", 3));
}

#[test]
fn each_label_is_taken_out_of_the_names_by_the_example_bootstrap() {
    let bootstrap = read("envoy/envoy.yaml");
    let labels = NAMES.iter().flat_map(|(_, _, labels)| labels.split(", ")).filter(|label| !label.is_empty());
    for label in labels.chain(["gate"]) {
        let tag = format!(r"- {{ tag_name: {label}, regex: '(\.{label}\.=\.(.*?)\.;)' }}");
        assert!(bootstrap.contains(&tag), "envoy/envoy.yaml has no `{tag}`");
    }
}
