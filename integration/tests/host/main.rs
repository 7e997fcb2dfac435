//! What the host really does, proven in the real Envoy with the probe of `integration/probe`. `docs/host.md` says what
//! follows from each test.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test has a clock, and a broken fixture should stop it"
)]

mod bodies;
mod calls;
mod disconnects;
mod probe;
mod waits;

#[test]
fn the_page_names_tests_that_exist() {
    let page = include_str!("../../../docs/host.md");
    let sources = [
        include_str!("bodies.rs"),
        include_str!("calls.rs"),
        include_str!("disconnects.rs"),
        include_str!("waits.rs"),
    ]
    .concat();
    // The names of tests are sentences; nothing else on the page has five underscores.
    let is_sentence = |word: &&str| word.matches('_').count() >= 5;
    let tests = sources.split("async fn ").skip(1).filter_map(|rest| rest.split('(').next());
    let tests: Vec<&str> = tests.filter(is_sentence).collect();
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_sentence).collect();
    assert!(named.iter().all(|name| tests.contains(name)), "docs/host.md: {named:#?}");
    assert!(tests.iter().all(|test| named.contains(test)), "not on docs/host.md: {tests:#?}");
}
