use proptest::prelude::*;

use super::*;

fn draft(id: u32) -> Draft {
    Draft { bytes: id.to_be_bytes().to_vec(), cuts: [0; 4], count: None }
}

fn queue(max_events: usize, on_full: OnFullSpec) -> Queue {
    Queue::new(QueueSettings { max_events, max_bytes: 1 << 20, on_full })
}

fn drain(queue: &mut Queue) -> Vec<Next> {
    std::iter::from_fn(|| queue.pop()).collect()
}

fn key(source: u32) -> RefusalKey {
    RefusalKey {
        reason: "credential_missing",
        principal: None,
        source: Some(source.to_string()),
        profile: None,
    }
}

/// What comes out stands for.
fn events(next: &[Next]) -> u64 {
    next.iter()
        .map(|next| match next {
            Next::Event(draft) => draft.count.unwrap_or(1),
            Next::Lost(count) => *count,
        })
        .sum()
}

#[test]
fn what_happened_first_leaves_first_whatever_its_kind() {
    let mut queue = queue(10, OnFullSpec::DropOldest);
    queue.push(draft(1), Worth::Routine, None);
    queue.push_refusal(key(1), draft(2), || draft(0));
    queue.push(draft(3), Worth::Denial, None);
    queue.push_control(draft(4));
    queue.push_open(draft(0));
    assert_eq!(queue.len(), 5);
    assert_eq!(drain(&mut queue), [0, 1, 2, 3, 4].map(|id| Next::Event(draft(id))));
    assert!(queue.is_empty() && queue.bytes() == 0);
}

#[test]
fn a_flood_of_refusals_is_counted_and_pushes_nothing_out() {
    let mut queue = queue(10, OnFullSpec::DropOldest);
    for id in 0..10 {
        queue.push(draft(id), Worth::Routine, None);
    }
    for round in 0..1_000 {
        for source in 0..100 {
            queue.push_refusal(key(source), draft(round), || draft(0));
        }
    }
    assert_eq!(queue.dropped_total(), 0);
    assert!(queue.len() <= 10 + 100);
    let left = drain(&mut queue);
    assert_eq!(events(&left), 10 + 100_000);
    queue.push_refusal(key(1), draft(1), || draft(0));
    assert_eq!(drain(&mut queue), [Next::Event(draft(1))], "after the flood they are told one by one");
}

#[test]
fn a_flood_from_everywhere_is_counted_by_reason() {
    let mut queue = queue(10, OnFullSpec::DropOldest);
    for source in 0..100_000 {
        queue.push_refusal(key(source), draft(source), || draft(u32::MAX));
    }
    assert_eq!(queue.len(), MAX_REFUSALS + 1);
    let left = drain(&mut queue);
    assert_eq!(events(&left), 100_000);
    let Some(Next::Event(last)) = left.last() else { panic!("no last") };
    assert_eq!(last.bytes, u32::MAX.to_be_bytes());
}

#[test]
fn bytes_are_a_bound_of_their_own() {
    let settings = QueueSettings { max_events: 1_000, max_bytes: 40, on_full: OnFullSpec::DropOldest };
    let mut queue = Queue::new(settings);
    for id in 0..20 {
        queue.push(draft(id), Worth::Routine, None);
    }
    assert_eq!((queue.len(), queue.bytes()), (10, 40));
    assert_eq!(queue.pop(), Some(Next::Lost(10)));
}

#[derive(Clone, Debug)]
enum Op {
    Push { worth: Worth, reserve: bool },
    Refuse { source: u32 },
    Control,
    Pop,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let worth = prop_oneof![Just(Worth::Stranger), Just(Worth::Routine), Just(Worth::Denial)];
    let op = prop_oneof![
        6 => (worth, any::<bool>()).prop_map(|(worth, reserve)| Op::Push { worth, reserve }),
        3 => (0_u32..200).prop_map(|source| Op::Refuse { source }),
        1 => Just(Op::Control),
        3 => Just(Op::Pop),
    ];
    proptest::collection::vec(op, 0..400)
}

proptest! {
    #[test]
    fn nothing_disappears_without_a_count(ops in ops(), max_events in 1_usize..20, deny in any::<bool>()) {
        let mut queue = queue(max_events, if deny { OnFullSpec::Deny } else { OnFullSpec::DropOldest });
        let (mut pushed, mut left) = (0_u64, Vec::new());
        for op in ops {
            match op {
                Op::Push { worth, reserve } => {
                    let reservation = if reserve { queue.reserve().ok() } else { None };
                    let sure = reservation.is_some() && deny;
                    let dropped = queue.dropped_total();
                    queue.push(draft(1), worth, reservation);
                    prop_assert!(!sure || queue.dropped_total() == dropped, "a reserved place was not kept");
                    pushed = pushed.saturating_add(1);
                }
                Op::Refuse { source } => {
                    queue.push_refusal(key(source), draft(2), || draft(0));
                    pushed = pushed.saturating_add(1);
                }
                Op::Control => {
                    queue.push_control(draft(3));
                    pushed = pushed.saturating_add(1);
                }
                Op::Pop => left.extend(queue.pop()),
            }
            prop_assert!(queue.decisions() <= max_events);
        }
        left.extend(drain(&mut queue));
        prop_assert_eq!(events(&left), pushed);
        prop_assert!(queue.is_empty() && queue.bytes() == 0 && queue.reserved.get() == 0);
    }
}

#[test]
fn a_flood_of_strangers_is_forgotten_before_what_is_known_of_anybody() {
    let mut queue = queue(4, OnFullSpec::DropOldest);
    queue.push(draft(1), Worth::Routine, None);
    queue.push(draft(2), Worth::Denial, None);
    for id in 10..20 {
        queue.push(draft(id), Worth::Stranger, None);
    }
    let kept = [1, 2].map(|id| Next::Event(draft(id))).into_iter();
    let strangers = [18, 19].map(|id| Next::Event(draft(id)));
    assert_eq!(drain(&mut queue), kept.chain([Next::Lost(8)]).chain(strangers).collect::<Vec<_>>());
    assert!(queue.is_empty() && queue.bytes() == 0);
}
