//! Rocksteadier subsetting.
//!
//! Clients and instances are put into lots of ten by their numbers. The lots of instances stand on a ring, each at
//! the place that the van der Corput sequence gives to its number, so that a new lot stands in the middle of the
//! largest gap and moves nobody. A lot of clients starts on that ring at a place of its own and goes round. In each
//! lot of instances the ten clients of a lot take ten different instances, in an order that belongs to that pair of
//! lots alone; whoever finds no instance there goes on to the next lot. After a round each goes on with the next one
//! in each order.
//!
//! So ten clients together take each instance of a lot once, which keeps it even; they take it in different company,
//! so that no two clients have the same subset; and each client's order of preference is a fixed one over all
//! numbers there will ever be. An instance that comes enters only those subsets in which it stands before the last one.
//!
//! Two things are other than in the article, for evenness. Two lots of clients start at one place and go round in
//! opposite directions, which levels the gaps of a ring that is not a power of two. And orders are turned and
//! mirrored by chance instead of shuffled, so that in a lot that is not full the instances that are there stand
//! apart from each other.

use crate::hash::pair;

/// How many there are in a lot: 10, as in the article: larger ones share fewer instances, and are less even.
const LOT: u32 = 10;

/// The first `size` of `slots`, which are sorted, for a client.
pub(super) fn choose(client: u32, slots: &[u32], size: usize) -> Vec<u32> {
    let ring = ring(slots.last().map_or(0, |highest| highest / LOT + 1));
    let (lot, row) = (client / LOT, apart(client % LOT));
    let start = ring.partition_point(|other| other.reverse_bits() < (lot / 2).reverse_bits());
    let forward = lot.is_multiple_of(2);
    let mut chosen = Vec::with_capacity(size);
    for round in 0..LOT {
        for step in 0..ring.len() {
            let here = if forward { start + step } else { start + 2 * ring.len() - 1 - step };
            let instances = ring[here % ring.len()];
            let slot = instances * LOT + at(row + round, lot, instances);
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

/// Members of a lot by the row they stand in: those that come first stand apart from each other. It is the order of
/// the bits in reverse, made dense.
const ROWS: [u32; LOT as usize] = [0, 8, 4, 2, 6, 1, 9, 5, 3, 7];

/// The row of a member of a lot.
fn apart(member: u32) -> u32 {
    (0..LOT).find(|row| ROWS[*row as usize] == member).unwrap_or_default()
}

/// Who of a lot of instances stands in a row, for a lot of clients.
fn at(row: u32, clients: u32, instances: u32) -> u32 {
    let chance = pair(u64::from(clients), u64::from(instances));
    let turned = (row + (chance % u64::from(LOT)) as u32) % LOT;
    let is_mirrored = chance >> 63 == 1;
    ROWS[if is_mirrored { LOT - 1 - turned } else { turned } as usize]
}
