//! The parts of lists, maps and enums.

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::de::{Deserializer, IntoDeserializer};

use super::{De, join};
use crate::env;
use crate::node::{Entry, Node, Style};
use crate::problem::{Origin, Problem};

pub(super) struct List<'s, 'a> {
    parent: &'s De<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'s, 'a> List<'s, 'a> {
    pub(super) fn new(parent: &'s De<'a>, list: &'a [Node]) -> Self {
        Self { parent, items: list.iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for List<'_, '_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let path = format!("{}[{index}]", self.parent.path);
        self.parent.child(node, path).read(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

pub(super) struct Map<'s, 'a> {
    parent: &'s De<'a>,
    entries: std::vec::IntoIter<(&'a str, &'a Node)>,
    current: Option<(&'a str, &'a Node)>,
}

impl<'s, 'a> Map<'s, 'a> {
    pub(super) fn new(parent: &'s De<'a>, entries: &'a [Entry]) -> Self {
        Self::of_struct(parent, entries.iter().map(|e| (e.key.as_str(), &e.node)).collect())
    }

    /// With the keys as the struct spells them.
    pub(super) fn of_struct(parent: &'s De<'a>, entries: Vec<(&'a str, &'a Node)>) -> Self {
        Self { parent, entries: entries.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Map<'_, '_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        self.current = self.entries.next();
        let Some((key, node)) = self.current else { return Ok(None) };
        // A key can be a number too, if that is what the map is keyed by.
        let name = Node::scalar(node.origin.clone(), key, Style::Loose);
        let path = join(&self.parent.path, key);
        De { node: &name, path, unknown: self.parent.unknown }.read(seed).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (key, node) =
            self.current.take().ok_or_else(|| Problem::new("a value was asked for before its key"))?;
        self.parent.child(node, join(&self.parent.path, key)).read(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// `{ variant: content }`.
pub(super) struct Enum<'s, 'a> {
    parent: &'s De<'a>,
    entry: &'a Entry,
    variants: &'static [&'static str],
}

impl<'s, 'a> Enum<'s, 'a> {
    pub(super) fn new(parent: &'s De<'a>, entry: &'a Entry, variants: &'static [&'static str]) -> Self {
        Self { parent, entry, variants }
    }
}

impl<'de, 'a> EnumAccess<'de> for Enum<'_, 'a> {
    type Error = Problem;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Problem> {
        let given = self.entry.key.as_str();
        let from_env = matches!(self.entry.origin, Origin::Env(_));
        let found = env::find(self.variants.iter().copied(), given).filter(|_| from_env);
        let name = found.and_then(|at| self.variants.get(at)).copied().unwrap_or(given);
        let name = IntoDeserializer::<Problem>::into_deserializer(name);
        let variant = seed.deserialize(name).map_err(|p| p.at(&self.entry.origin, &self.parent.path))?;
        Ok((variant, Content(self.parent.child(&self.entry.node, join(&self.parent.path, given)))))
    }
}

pub(super) struct Content<'a>(De<'a>);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        self.0.read(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Problem> {
        self.0.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
