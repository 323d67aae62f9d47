//! The nodes of instances: made, changed and deleted, whatever else happens to them meanwhile.

use bowline_core::{Error, Result};

use crate::link::Link;
use crate::options::Options;
use crate::wire::{self, Access, Stat, code, op};

/// How often something is tried that others change meanwhile.
const ROUNDS: usize = 5;

/// One life of a node: by whom and by which change it was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) session: i64,
    pub(crate) created: i64,
}

impl From<Stat> for Place {
    fn from(stat: Stat) -> Self {
        Self { session: stat.owner, created: stat.czxid }
    }
}

/// Who may change what is registered.
pub(crate) fn access(options: &Options) -> Access {
    if options.credentials.is_some() { Access::Creator } else { Access::Open }
}

async fn stat(link: &Link, path: &str) -> Result<Option<Stat>> {
    let reply = link.call(op::EXISTS, wire::question(path)).await?;
    if reply.code == code::NO_NODE {
        return Ok(None);
    }
    Stat::read(&mut reply.ok("to look for a node")?).map(Some)
}

/// Which life the node has now.
pub(crate) async fn place(link: &Link, path: &str) -> Result<Option<Place>> {
    Ok(stat(link, path).await?.map(Place::from))
}

/// Puts an instance's node there. `None` if there is one that may not be taken.
pub(crate) async fn put(
    link: &Link,
    path: &str,
    value: &[u8],
    access: Access,
    is_ours: &(dyn Fn(Place) -> bool + Sync),
    may_take: &(dyn Fn(Place) -> bool + Sync),
) -> Result<Option<Place>> {
    for _ in 0..ROUNDS {
        let done = match stat(link, path).await? {
            None => create(link, path, value, access).await?,
            Some(found) if found.owner == link.session && is_ours(found.into()) => {
                set(link, path, value, found).await?
            }
            Some(found) if may_take(found.into()) => replace(link, path, value, access, found).await?,
            Some(_) => return Ok(None),
        };
        if done.is_some() {
            return Ok(done);
        }
    }
    Err(Error::unavailable(format!("others change the node `{path}` all the time")))
}

/// Each of these is `None` if the node is not as it was any more.
async fn create(link: &Link, path: &str, value: &[u8], access: Access) -> Result<Option<Place>> {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    make_parents(link, parent, access).await?;
    let reply = link.call(op::CREATE2, wire::create(path, value, access, true)).await?;
    match reply.code {
        code::NODE_EXISTS => Ok(None),
        code::NO_NODE => {
            link.forget_parent(parent);
            Ok(None)
        }
        _ => {
            let mut reader = reply.ok("to register an instance")?;
            reader.text()?;
            Ok(Some(Stat::read(&mut reader)?.into()))
        }
    }
}

async fn set(link: &Link, path: &str, value: &[u8], found: Stat) -> Result<Option<Place>> {
    let reply = link.call(op::SET_DATA, wire::set_data(path, value)).await?;
    if reply.code == code::NO_NODE {
        return Ok(None);
    }
    let now = Place::from(Stat::read(&mut reply.ok("to change an instance")?)?);
    Ok(Some(now).filter(|now| *now == found.into()))
}

/// Takes the node over in one change, so that nobody sees it missing.
async fn replace(
    link: &Link,
    path: &str,
    value: &[u8],
    access: Access,
    found: Stat,
) -> Result<Option<Place>> {
    let delete = (op::DELETE, wire::delete(path, found.version));
    let create = (op::CREATE2, wire::create(path, value, access, true));
    let reply = link.call(op::MULTI, wire::multi([delete, create])).await?;
    // A refused one is told in the answer's head too.
    let is_over = |refusal| matches!(refusal, code::NO_NODE | code::BAD_VERSION | code::NODE_EXISTS);
    if is_over(reply.code) {
        return Ok(None);
    }
    match wire::multi_answer(reply.ok("to take an instance's node over")?)? {
        Ok(created) => Ok(created.map(Place::from)),
        Err(refusal) if is_over(refusal) => Ok(None),
        Err(refusal) => Err(wire::refused(refusal, "to take an instance's node over")),
    }
}

/// Makes the nodes above instances. They stay.
async fn make_parents(link: &Link, path: &str, access: Access) -> Result<()> {
    if link.has_parent(path) {
        return Ok(());
    }
    for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
        let reply = link.call(op::CREATE2, wire::create(&path[..end], b"", access, false)).await?;
        // Where a node may not be created, it may be there all the same; whether it is, the next one tells.
        if !matches!(reply.code, code::NODE_EXISTS | code::NO_AUTH) {
            reply.ok("to make a service's node")?;
        }
    }
    link.note_parent(path);
    Ok(())
}

/// Takes an instance out, if the node is still its own: on purpose, which the service's node tells by the instance's name.
///
/// Between the look and the deletion somebody else may take the node over. It is deleted then too, and its owner registers it
/// again as soon as it looks.
pub(crate) async fn remove(
    link: &Link,
    path: &str,
    id: &str,
    is_ours: &(dyn Fn(Place) -> bool + Sync),
) -> Result<()> {
    let Some(found) = stat(link, path).await?.filter(|found| is_ours((*found).into())) else { return Ok(()) };
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let delete = (op::DELETE, wire::delete(path, -1));
    let note = (op::SET_DATA, wire::set_data(parent, id.as_bytes()));
    let reply = link.call(op::MULTI, wire::multi([delete, note])).await?;
    let refusal = match reply.code {
        code::OK => wire::multi_answer(reply.ok("to remove an instance")?)?.err(),
        refusal => Some(refusal),
    };
    match refusal {
        None | Some(code::NO_NODE) => Ok(()),
        // The service's node is somebody else's: without the note then.
        Some(code::NO_AUTH) => delete_node(link, path, found).await,
        Some(refusal) => Err(wire::refused(refusal, "to remove an instance")),
    }
}

/// Deletes the node if it has this life.
pub(crate) async fn delete(link: &Link, path: &str, place: Place) -> Result<()> {
    match stat(link, path).await?.filter(|found| Place::from(*found) == place) {
        Some(found) => delete_node(link, path, found).await,
        None => Ok(()),
    }
}

async fn delete_node(link: &Link, path: &str, found: Stat) -> Result<()> {
    let reply = link.call(op::DELETE, wire::delete(path, found.version)).await?;
    if reply.code == code::NO_NODE {
        return Ok(());
    }
    reply.ok("to delete an instance's node").map(|_| ())
}
