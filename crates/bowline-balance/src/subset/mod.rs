//! Which instances a client connects to.

mod rendezvous;
mod rocksteadier;

use bowline_core::Instance;

use crate::hash::unit;

/// How a client chooses the instances that it connects to.
///
/// With M clients and N instances everybody to everybody is M × N connections, each with its keepalives, buffers and
/// checks. A subset bounds it. It must be even (every instance in as many subsets), and stay what it is when
/// instances come and go, since each change is a connection closed and one made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subsetting {
    /// Everybody connects to everybody.
    #[default]
    Everyone,
    /// Rocksteadier subsetting, as Google describes it (Ward, Wankadia, Guliani: *Reinventing Backend Subsetting at
    /// Google*, ACM Queue 20(5), 2022), made more even. Counted over 1 000 random pairs of up to 1 000 clients and
    /// instances, the fullest instance has at most 5 % or one connection more than its share, whichever is more, in
    /// 94 % of them, and at most 6 % or two in the others.
    ///
    /// Clients and instances have small numbers of their own, leased as slots from the registry. What inherits the
    /// slot of its predecessor takes its place: a rolling restart changes no subset.
    ///
    /// Instances tell their slots in their metadata under [`SLOT`]. Two with the same one, a successor and who is
    /// about to go, are in the same subsets. One without a slot is in as many as the others are, by scores; where
    /// nobody has one, all of this is by scores.
    Slots {
        /// This client's own number.
        client: u32,
        /// How many instances of each cluster: not fewer than [`LEAST`].
        size: usize,
    },
    /// The `size` instances with the highest scores for this client (rendezvous hashing). Needs no numbers; as
    /// uneven as chance is: with subsets of 20 and as many clients as instances the fullest has almost twice its share.
    Scores {
        /// The client's own name: its instance id.
        client: String,
        /// How many instances of each cluster: not fewer than [`LEAST`].
        size: usize,
    },
}

/// The smallest subset: 20. With fewer, the failure of a few is the failure of a large part, and chance makes it
/// uneven.
pub const LEAST: usize = 20;

/// The key of an instance's metadata under which it tells its slot.
pub const SLOT: &str = "slot";

/// Numbers above this are no slots: 65 535. The numbers are small ones, and the work grows with the highest.
const HIGHEST_SLOT: u32 = 65_535;

impl Subsetting {
    /// Puts the subset first among `members`, which are positions in what `instance` knows, and tells how many it has.
    pub(crate) fn arrange<'a>(&self, members: &mut [u32], instance: impl Fn(u32) -> &'a Instance) -> usize {
        let size = match self {
            Self::Everyone => return members.len(),
            Self::Slots { size, .. } | Self::Scores { size, .. } => (*size).max(LEAST),
        };
        if members.len() <= size {
            return members.len();
        }
        if let Self::Slots { client, .. } = self {
            let slots = slots(members, &instance);
            if !slots.is_empty() {
                let mut chosen = rocksteadier::choose(*client, &slots, size);
                chosen.sort_unstable();
                let (client, share) = (client.to_string(), size as f64 / members.len() as f64);
                let is_in = |member: &u32| match slot(instance(*member)) {
                    Some(slot) => chosen.binary_search(&slot).is_ok(),
                    None => unit(rendezvous::score(&client, instance(*member).id.as_str())) < share,
                };
                members.sort_by_cached_key(|member| !is_in(member));
                return members.partition_point(is_in);
            }
        }
        let client = match self {
            Self::Scores { client, .. } => client.clone(),
            Self::Slots { client, .. } => client.to_string(),
            Self::Everyone => String::new(),
        };
        let score = |member: &u32| rendezvous::score(&client, instance(*member).id.as_str());
        members.sort_by_cached_key(|member| std::cmp::Reverse(score(member)));
        size
    }
}

/// Which slots there are, in their order.
fn slots<'a>(members: &[u32], instance: &impl Fn(u32) -> &'a Instance) -> Vec<u32> {
    let mut slots: Vec<u32> = members.iter().filter_map(|member| slot(instance(*member))).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

fn slot(instance: &Instance) -> Option<u32> {
    instance.metadata.get(SLOT)?.parse().ok().filter(|slot| *slot <= HIGHEST_SLOT)
}
