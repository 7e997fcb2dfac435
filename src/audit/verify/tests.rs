use proptest::prelude::*;

use super::*;
use crate::audit::canonical::Tree;
use crate::audit::chain::{Chain, Signer, hex};
use crate::audit::event::{AccessEvent, AuditEvent, GapEvent, GapReason, OpenEvent};
use crate::time::UnixTime;

const SECRET: &[u8] = b"the key of the chain";

fn key() -> MacKey {
    MacKey::chain("c1", SECRET).unwrap()
}

fn signer() -> Signer {
    Signer::Keyed(key())
}

fn access(id: u64) -> AuditEvent {
    AuditEvent::Access(Box::new(AccessEvent {
        decision_id: format!("{id:032x}"),
        path: Some(String::from("/predict")),
        ..AccessEvent::default()
    }))
}

fn seal(chain: &mut Chain, signer: &Signer, event: &AuditEvent) -> String {
    let mut line = Vec::new();
    chain.seal(&event.draft("gate"), signer, &mut line);
    String::from_utf8(line).unwrap()
}

/// A chain of twelve: `open`, ten decisions, `close`.
fn log_of(nonce: u8, signer: &Signer) -> Vec<String> {
    let mut chain = Chain::new("gate", [nonce; 16]);
    let mut lines = vec![seal(&mut chain, signer, &AuditEvent::Open(OpenEvent::default()))];
    lines.extend((1..11).map(|id| seal(&mut chain, signer, &access(id))));
    lines.push(seal(&mut chain, signer, &AuditEvent::Close(UnixTime::from_millis(9))));
    lines
}

fn log() -> Vec<String> {
    log_of(1, &signer())
}

fn verify_with(lines: &[String], keys: Vec<MacKey>) -> Report {
    let mut verifier = Verifier::new(keys);
    let file: Rc<str> = Rc::from("audit.log");
    for (number, line) in (1..).zip(lines) {
        verifier.line(&Place { file: Rc::clone(&file), line: number }, line.as_bytes());
    }
    verifier.finish()
}

fn verify(lines: &[String]) -> Report {
    verify_with(lines, vec![key()])
}

/// Verdict, first bad number and the words of all faults of a log of one chain.
fn result(report: &Report) -> (Verdict, Option<u64>, Vec<FaultKind>) {
    assert_eq!(report.chains.len(), 1);
    let chain = &report.chains[0];
    (report.verdict, chain.first_bad_seq, chain.faults.first.iter().map(|fault| fault.kind).collect())
}

/// Changes a member and writes the event anew, MAC and all as it was.
fn edit(line: &str, name: &str, value: Tree) -> String {
    let mut tree = Tree::parse(line.as_bytes()).unwrap();
    tree.insert(name, value);
    String::from_utf8(tree.canonical()).unwrap()
}

fn text(text: &str) -> Tree {
    Tree::Text(String::from(text))
}

/// What somebody without the key can do: links every event to the one before as it now is.
fn relink(lines: &mut [String]) {
    for at in 1..lines.len() {
        let hash = SealedEvent::parse(lines[at.saturating_sub(1)].as_bytes()).unwrap().hash;
        lines[at] = edit(&lines[at], "prev", text(&hex(&hash)));
    }
}

#[test]
fn a_good_log_is_intact_in_any_order_and_with_duplicates() {
    let mut lines = log();
    let report = verify(&lines);
    assert_eq!(result(&report), (Verdict::Intact, None, vec![]));
    assert_eq!((report.events, report.chains[0].proven, report.chains[0].closed), (12, 12, true));
    lines.reverse();
    lines.extend(log());
    lines.extend(log_of(2, &signer()));
    lines.push(String::from("  \r"));
    let report = verify(&lines);
    assert_eq!((report.verdict, report.chains.len(), report.duplicates), (Verdict::Intact, 2, 12));
}

#[test]
fn an_edited_event_is_found_by_its_mac_and_by_its_successor() {
    let mut lines = log();
    lines[4] = edit(&lines[4], "path", text("/delete"));
    let kinds = vec![FaultKind::WrongMac, FaultKind::WrongPrev];
    assert_eq!(result(&verify(&lines)), (Verdict::Tampered, Some(4), kinds));
    let without_key = result(&verify_with(&lines, Vec::new()));
    assert_eq!(without_key, (Verdict::Tampered, Some(5), vec![FaultKind::WrongPrev]));
    let report = verify(&lines);
    let fault = &report.chains[0].faults.first[0];
    assert_eq!((fault.file.as_deref(), fault.line), (Some("audit.log"), Some(5)));
    assert!(report.to_string().contains("audit.log:5: seq 4: the MAC is wrong"), "{report}");
}

#[test]
fn recomputed_hashes_do_not_help_without_the_key() {
    let mut lines = log();
    lines[4] = edit(&lines[4], "path", text("/delete"));
    relink(&mut lines);
    assert_eq!(
        result(&verify_with(&lines, Vec::new())).0,
        Verdict::Intact,
        "nobody but the key holder can tell"
    );
    let (verdict, seq, kinds) = result(&verify(&lines));
    assert_eq!((verdict, seq, kinds), (Verdict::Tampered, Some(4), vec![FaultKind::WrongMac; 8]));
}

#[test]
fn a_chain_rewritten_as_unkeyed_is_not_taken_for_one_when_keys_are_given() {
    let (verdict, seq, kinds) = result(&verify(&log_of(1, &Signer::Unkeyed)));
    assert_eq!((verdict, seq, kinds), (Verdict::Tampered, Some(0), vec![FaultKind::Unkeyed; 12]));
    let mut lines = log();
    for line in &mut lines[3..] {
        let mut tree = Tree::parse(line.as_bytes()).unwrap();
        tree.remove("kid");
        tree.insert("mac", text("unkeyed"));
        *line = String::from_utf8(tree.canonical()).unwrap();
    }
    relink(&mut lines);
    let (verdict, seq, kinds) = result(&verify_with(&lines, Vec::new()));
    assert_eq!((verdict, seq, kinds), (Verdict::Tampered, Some(3), vec![FaultKind::MixedKeys; 9]));
}

#[test]
fn a_key_that_was_not_given_proves_nothing() {
    let other = MacKey::chain("c2", SECRET).unwrap();
    let report = verify_with(&log(), vec![other]);
    assert_eq!(result(&report), (Verdict::Unreadable, None, vec![]));
    assert!(report.to_string().contains("--chain-key c1=ENV"), "{report}");
    let wrong = MacKey::chain("c1", b"another secret").unwrap();
    assert_eq!(result(&verify_with(&log(), vec![wrong])).0, Verdict::Tampered);
}

#[test]
fn what_is_missing_is_named_wherever_it_was() {
    let missing = |range: std::ops::Range<usize>| {
        let mut lines = log();
        lines.drain(range);
        let report = verify(&lines);
        let fault = report.chains[0].faults.first.first().map(|fault| (fault.kind, fault.seq, fault.to));
        (report.verdict, report.chains[0].closed, fault)
    };
    assert_eq!(missing(5..6), (Verdict::Tampered, true, Some((FaultKind::Missing, 5, Some(5)))));
    assert_eq!(missing(3..9), (Verdict::Tampered, true, Some((FaultKind::Missing, 3, Some(8)))));
    assert_eq!(missing(0..4), (Verdict::Tampered, true, Some((FaultKind::Missing, 0, Some(3)))));
    assert_eq!(missing(8..12), (Verdict::Intact, false, None), "a cut tail is a chain that is not closed");
}

#[test]
fn lines_that_change_places_are_fine_and_events_that_do_are_not() {
    let mut lines = log();
    lines.swap(3, 7);
    assert_eq!(verify(&lines).verdict, Verdict::Intact);
    let (a, b) = (lines[3].clone(), lines[7].clone());
    lines[3] = edit(&a, "seq", Tree::Integer(3));
    lines[7] = edit(&b, "seq", Tree::Integer(7));
    let (verdict, seq, _) = result(&verify(&lines));
    assert_eq!((verdict, seq), (Verdict::Tampered, Some(3)));
}

#[test]
fn an_inserted_event_is_a_fork_or_follows_the_close() {
    let mut lines = log();
    lines.insert(5, edit(&lines[5], "path", text("/other")));
    let (verdict, seq, kinds) = result(&verify(&lines));
    assert_eq!((verdict, seq), (Verdict::Tampered, Some(5)));
    assert!(kinds.contains(&FaultKind::Fork) && kinds.contains(&FaultKind::WrongMac));

    let mut chain = Chain::new("gate", [1; 16]);
    let mut lines = log();
    for line in &mut lines {
        *line = seal(&mut chain, &signer(), &SealedKind::of(line));
    }
    lines.push(seal(&mut chain, &signer(), &access(99)));
    assert_eq!(result(&verify(&lines)), (Verdict::Tampered, Some(12), vec![FaultKind::AfterClose]));
}

/// The event of a line of [`log`].
struct SealedKind;

impl SealedKind {
    fn of(line: &str) -> AuditEvent {
        match SealedEvent::parse(line.as_bytes()).unwrap().kind {
            crate::audit::sealed::Kind::Open { .. } => AuditEvent::Open(OpenEvent::default()),
            crate::audit::sealed::Kind::Close => AuditEvent::Close(UnixTime::from_millis(9)),
            _ => access(1),
        }
    }
}

#[test]
fn two_ends_spliced_together_do_not_hold() {
    let mut lines = log();
    let other = log_of(2, &signer());
    lines.truncate(6);
    let chain = SealedEvent::parse(lines[0].as_bytes()).unwrap().chain;
    lines.extend(other[6..].iter().map(|line| edit(line, "chain", text(&chain))));
    let (verdict, seq, kinds) = result(&verify(&lines));
    assert_eq!((verdict, seq), (Verdict::Tampered, Some(6)));
    assert!(kinds.contains(&FaultKind::WrongPrev) && kinds.contains(&FaultKind::WrongMac));
}

#[test]
fn a_chain_begins_with_open_and_without_predecessor() {
    let mut chain = Chain::new("gate", [3; 16]);
    let lines = vec![seal(&mut chain, &signer(), &access(1)), seal(&mut chain, &signer(), &access(2))];
    assert_eq!(result(&verify(&lines)), (Verdict::Tampered, Some(0), vec![FaultKind::NotOpened]));
    let mut lines = log_of(1, &Signer::Unkeyed);
    lines[0] = edit(&lines[0], "prev", text(&hex(&[7; 32])));
    let kinds = result(&verify_with(&lines, Vec::new())).2;
    assert_eq!(kinds, [FaultKind::WrongPrev, FaultKind::WrongPrev]);
}

#[test]
fn a_declared_loss_is_no_crime_and_an_undeclared_one_beside_it_is() {
    let gap = |range| {
        AuditEvent::Gap(GapEvent {
            timestamp: UnixTime::from_millis(0),
            count: 3,
            reason: GapReason::Refused,
            range,
        })
    };
    let mut chain = Chain::new("gate", [1; 16]);
    let mut lines = vec![seal(&mut chain, &signer(), &AuditEvent::Open(OpenEvent::default()))];
    lines.extend((1..4).map(|id| seal(&mut chain, &signer(), &access(id))));
    lines.push(seal(&mut chain, &signer(), &gap(Some((1, 3)))));
    lines.push(seal(&mut chain, &signer(), &gap(None)));
    lines.drain(1..4);
    let report = verify(&lines);
    assert_eq!((report.verdict, report.lost, report.chains[0].gaps.total), (Verdict::Gaps, 6, 2));
    assert_eq!(report.verdict.exit(), 3);

    lines.remove(0);
    assert_eq!(result(&verify(&lines)), (Verdict::Tampered, Some(0), vec![FaultKind::Missing]));

    // a gap cannot speak for numbers that it does not follow
    let mut chain = Chain::new("gate", [1; 16]);
    let mut lines = vec![seal(&mut chain, &signer(), &AuditEvent::Open(OpenEvent::default()))];
    lines.extend((1..4).map(|id| seal(&mut chain, &signer(), &access(id))));
    lines.push(seal(&mut chain, &signer(), &gap(Some((1, 2)))));
    lines.drain(1..4);
    assert_eq!(result(&verify(&lines)), (Verdict::Tampered, Some(1), vec![FaultKind::Missing]));
}

#[test]
fn a_chain_that_is_missing_altogether_leaves_its_name() {
    let mut chain = Chain::new("gate", [5; 16]);
    let before = SealedEvent::parse(log()[0].as_bytes()).unwrap().chain;
    let open = OpenEvent { prev_chain: Some(before.clone()), ..OpenEvent::default() };
    let mut lines = vec![seal(&mut chain, &signer(), &AuditEvent::Open(open))];
    let report = verify(&lines);
    assert_eq!(report.chains[0].missing_predecessor.as_deref(), Some(before.as_str()));
    lines.extend(log());
    assert!(verify(&lines).chains.iter().all(|chain| chain.missing_predecessor.is_none()));
}

#[test]
fn input_without_a_single_event_is_not_intact() {
    assert_eq!(verify(&[]).verdict, Verdict::Unreadable);
    assert_eq!(verify(&[String::from("\n")]).verdict, Verdict::Unreadable);
}

#[test]
fn findings_are_counted_beyond_those_listed() {
    let lines: Vec<String> = (0..1_000).map(|line| format!("not json {line}")).collect();
    let report = verify(&lines);
    assert_eq!((report.unreadable.total, report.unreadable.first.len()), (1_000, MAX_LISTED));
    assert_eq!(report.verdict.exit(), 2);
    assert!(report.to_string().contains("and 900 more unreadable lines"));
}

proptest! {
    #[test]
    fn one_changed_byte_is_never_intact(line in 0_usize..12, at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut lines = log();
        let mut bytes = lines[line].clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        // a byte of white space more or less is no change, but there is none in these lines to begin with
        lines[line] = text;
        let report = verify(&lines);
        prop_assert_ne!(report.verdict.exit(), 0, "{}", report);
        prop_assert_ne!(report.verdict.exit(), 3, "{}", report);
    }

    #[test]
    fn any_order_gives_the_same_verdict(order in Just((0..24).collect::<Vec<usize>>()).prop_shuffle()) {
        let all = [log(), log_of(2, &signer())].concat();
        let lines: Vec<String> = order.iter().map(|at| all[*at].clone()).collect();
        let report = verify(&lines);
        prop_assert_eq!((report.verdict, report.events), (Verdict::Intact, 24));
        prop_assert!(report.chains.iter().all(|chain| chain.faults.total == 0 && chain.closed));
    }

    #[test]
    fn whatever_is_left_out_is_found(mask in proptest::collection::vec(any::<bool>(), 12)) {
        let lines: Vec<String> =
            log().into_iter().zip(&mask).filter(|(_, kept)| **kept).map(|(line, _)| line).collect();
        prop_assume!(!lines.is_empty());
        let cut_tail = mask.iter().position(|kept| !kept).unwrap_or(12);
        let only_the_tail = mask.iter().skip(cut_tail).all(|kept| !kept);
        let (verdict, seq, _) = result(&verify(&lines));
        if only_the_tail {
            prop_assert_eq!(verdict, Verdict::Intact);
        } else {
            prop_assert_eq!((verdict, seq), (Verdict::Tampered, Some(u64::try_from(cut_tail).unwrap())));
        }
    }
}
