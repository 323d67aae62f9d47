//! Rocksteadier subsetting.
//!
//! Clients and instances are put into lots of ten by their numbers. The lots of instances stand on a ring, each at the place
//! that the van der Corput sequence gives to its number, so that a new lot stands in the middle of the largest gap and moves
//! nobody. A lot of clients starts on that ring at the place of its own number, and goes round. In each lot of instances the
//! ten clients of a lot take ten different instances, in an order that is shuffled for that pair of lots alone; whoever
//! finds no instance there goes on to the next lot. After a round it goes on with the next order.
//!
//! So ten clients together take each instance of a lot once, which keeps it even; they take it in different company, so that
//! no two clients have the same subset; and each client's order of preference is a fixed one over all numbers there will
//! ever be. An instance that comes enters only those subsets in which it stands before the last one.

use crate::hash::{mix, pair};

/// How many there are in a lot: 10, as in the article: larger ones share fewer instances, and are less even.
const LOT: u32 = 10;

/// The first `size` of `slots`, which are sorted, for a client.
pub(super) fn choose(client: u32, slots: &[u32], size: usize) -> Vec<u32> {
    let lots = slots.last().map_or(0, |highest| highest / LOT + 1);
    let ring = ring(lots);
    let (lot, column) = (client / LOT, place_in_lot(client % LOT));
    let start = ring.partition_point(|other| other.reverse_bits() < lot.reverse_bits());
    // Shuffled once per lot, not once per look.
    let orders: Vec<[u32; LOT as usize]> = ring.iter().map(|other| shuffled(lot, *other)).collect();
    let mut chosen = Vec::with_capacity(size);
    for round in 0..LOT {
        for step in 0..ring.len() {
            let here = (start + step) % ring.len();
            let slot = ring[here] * LOT + orders[here][((column + round) % LOT) as usize];
            if slots.binary_search(&slot).is_ok() {
                chosen.push(slot);
            }
            if chosen.len() >= size {
                return chosen;
            }
        }
    }
    chosen
}

/// The numbers of lots in the order of their places on the ring: the bits of a number in reverse are its place.
fn ring(lots: u32) -> Vec<u32> {
    let mut ring: Vec<u32> = (0..lots).collect();
    ring.sort_unstable_by_key(|lot| lot.reverse_bits());
    ring
}

/// Where a client starts within its lot: a lot that is not full yet has its clients apart from each other.
fn place_in_lot(number: u32) -> u32 {
    ring(LOT).iter().position(|other| *other == number).unwrap_or_default() as u32
}

/// The order of a lot of instances for a lot of clients.
fn shuffled(clients: u32, instances: u32) -> [u32; LOT as usize] {
    let mut order: [u32; LOT as usize] = std::array::from_fn(|i| i as u32);
    let seed = pair(u64::from(clients), u64::from(instances));
    for last in (1..order.len()).rev() {
        let chance = mix(seed ^ last as u64);
        order.swap(last, ((u128::from(chance) * (last as u128 + 1)) >> 64) as usize);
    }
    order
}
