//! Which instances a client connects to.

mod rendezvous;
mod rocksteadier;

use bowline_core::Instance;

/// How a client chooses the instances that it connects to.
///
/// With M clients and N instances everybody to everybody is M × N connections, each with its keepalives, buffers and checks.
/// A subset bounds it. It must be even (every instance in as many subsets), and stay what it is when instances come and
/// go, since each change is a connection closed and one made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subsetting {
    /// Everybody connects to everybody.
    #[default]
    Everyone,
    /// Rocksteadier subsetting, as Google describes it (Ward, Wankadia, Guliani: *Reinventing Backend Subsetting at Google*, ACM
    /// Queue 20(5), 2022), made more even. Of up to 1 000 clients and instances the fullest has at most 5 % or one connection more
    /// than its share, whichever is more, for 94 of 100 pairs of numbers, and at most 7 % or two for the others.
    ///
    /// Clients and instances have small numbers of their own, leased as slots from the registry. What inherits the slot of
    /// its predecessor takes its place: a rolling restart changes no subset.
    ///
    /// Instances tell their slots in their metadata under [`SLOT`]. Where one of them does not, or two tell the same, this is
    /// the other kind.
    Slots {
        /// This client's own number.
        client: u32,
        /// How many instances of each cluster: not fewer than [`LEAST`].
        size: usize,
    },
    /// The `size` instances with the highest scores for this client (rendezvous hashing). Needs no numbers; as uneven as
    /// chance is: with subsets of 20 and as many clients as instances the fullest has almost twice its share.
    Scores {
        /// The client's own name: its instance id.
        client: String,
        /// How many instances of each cluster: not fewer than [`LEAST`].
        size: usize,
    },
}

/// The smallest subset: 20. With fewer, the failure of a few is the failure of a large part, and chance makes it uneven.
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
        let slots = match self {
            Self::Slots { client, .. } => slots(members, &instance).map(|slots| (*client, slots)),
            _ => None,
        };
        if let Some((client, slots)) = slots {
            let chosen = rocksteadier::choose(client, &slots, size);
            let rank = |member: &u32| {
                let slot = slot(instance(*member));
                chosen.iter().position(|chosen| Some(*chosen) == slot).unwrap_or(size)
            };
            members.sort_by_cached_key(rank);
            return chosen.len();
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

/// Which slots there are, in their order, if all members have one of their own.
fn slots<'a>(members: &[u32], instance: &impl Fn(u32) -> &'a Instance) -> Option<Vec<u32>> {
    let mut slots = members.iter().map(|m| slot(instance(*m))).collect::<Option<Vec<u32>>>()?;
    slots.sort_unstable();
    let told = slots.len();
    slots.dedup();
    (slots.len() == told).then_some(slots)
}

fn slot(instance: &Instance) -> Option<u32> {
    instance.metadata.get(SLOT)?.parse().ok().filter(|slot| *slot <= HIGHEST_SLOT)
}
