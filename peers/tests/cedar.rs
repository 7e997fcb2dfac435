//! Random policies and requests have the same answer here and in Cedar, where they mean the same.

use mlgate_peers::cedar::{Cedar, CedarAsk};
use mlgate_peers::gate::{Gate, GateAsk};
use mlgate_peers::world::World;

const PAIRS: u64 = 20_000;
/// Requests on the policies of one world.
const ASKS: u64 = 20;

#[test]
fn every_answer_is_that_of_cedar() {
    let mut allowed = 0_u64;
    let mut seen = 0_u64;
    for seed in 0..PAIRS / ASKS {
        let (world, mut random) = World::random(seed);
        let (gate, cedar) = (Gate::of(&world).unwrap(), Cedar::of(&world).unwrap());
        for _ in 0..ASKS {
            let ask = world.ask(&mut random);
            let ours = gate.is_allowed(&GateAsk::of(&ask, &world).unwrap());
            let theirs = cedar.is_allowed(&CedarAsk::of(&ask, &world).unwrap());
            let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
            assert_eq!(ours, theirs, "seed {seed}: {ask:?} in {world:#?}");
            seen = seen.saturating_add(1);
            allowed = allowed.saturating_add(u64::from(ours));
        }
    }
    println!("{seen} pairs, {allowed} of them allowed, no difference");
    // a generator that only makes denials would show nothing
    assert!((PAIRS / 5..PAIRS * 4 / 5).contains(&allowed), "{allowed} of {seen} are allowed");
}
