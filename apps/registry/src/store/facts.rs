//! What nodes tell each other.

use std::sync::Arc;
use std::time::Duration;

use super::{Gone, Override, Record, ServiceKey, Version};

/// What a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An instance.
    Instance,
    /// What an operator wants of it.
    Override,
}

/// Names a fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// The service.
    pub key: ServiceKey,
    /// The instance.
    pub id: Arc<str>,
    /// What about it.
    pub kind: Kind,
}

/// The latest that a node knows of something.
#[derive(Clone, Debug)]
pub struct Fact {
    /// What it is about.
    pub of: FactKey,
    /// Which of two facts is the later.
    pub version: Version,
    /// What is so.
    pub said: Said,
}

/// What is so.
#[derive(Clone, Debug)]
pub enum Said {
    /// It is registered.
    Here(Announced),
    /// It is gone, since so long ago.
    Gone(Gone, Duration),
    /// An operator wants this of it.
    Overridden {
        /// Empty: nothing any more.
        overridden: Arc<Override>,
        /// Because the instance had been gone for long, and not because an operator took it back.
        forgotten: bool,
    },
}

/// A registration, as nodes tell it.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The instance as it was registered.
    pub record: Arc<Record>,
    /// Who registered it.
    pub holder: Arc<str>,
    /// Orders what one holder says.
    pub sequence: u64,
    /// How long it lives without being renewed.
    pub ttl: Duration,
    /// How long ago its holder came.
    pub age: Duration,
    /// How long ago its holder was heard of, at most.
    pub said: Duration,
    /// The version at which it was registered, see [`Store::deregister`](super::Store::deregister).
    pub registered: Version,
}
