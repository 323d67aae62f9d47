//! What the servers tell of all applications: a pure state machine over whole lists and changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bowline_core::Result;
use serde::Deserialize;

use crate::client;
use crate::form::Told;

/// One object, where a list of one is written so, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn all(all: Option<Self>) -> Vec<T> {
        match all {
            None => Vec::new(),
            Some(Self::One(one)) => vec![one],
            Some(Self::Many(many)) => many,
        }
    }
}

/// An answer: everything, or what changed.
pub(crate) struct Listed {
    hash: String,
    instances: Vec<(String, Told)>,
}

impl Listed {
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Answer {
            applications: Applications,
        }
        #[derive(Deserialize)]
        struct Applications {
            #[serde(rename = "apps__hashcode", default)]
            hash: String,
            #[serde(default)]
            application: Option<OneOrMany<Application>>,
        }
        #[derive(Deserialize)]
        struct Application {
            name: String,
            #[serde(default)]
            instance: Option<OneOrMany<Told>>,
        }
        let Applications { hash, application } = client::read::<Answer>(body)?.applications;
        let mut instances = Vec::new();
        for app in OneOrMany::all(application) {
            let all = OneOrMany::all(app.instance).into_iter();
            instances.extend(all.map(|instance| (app.name.to_lowercase(), instance)));
        }
        Ok(Self { hash, instances })
    }
}

pub(crate) type App = BTreeMap<String, Arc<Told>>;

/// All instances by application, in small letters, and by identifier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apps {
    listed: BTreeMap<String, Arc<App>>,
    /// Who is known to have gone in the last minutes, and whether on purpose.
    gone: BTreeMap<(String, String), bool>,
}

impl Apps {
    /// Everything there is, and what changed last, which may be later or earlier.
    pub(crate) fn of(all: Listed, delta: Option<Listed>) -> Self {
        let mut apps = Self::default();
        for (app, told) in all.instances {
            apps.set(app, told);
        }
        apps.note_gone(delta.as_ref());
        apps
    }

    fn set(&mut self, app: String, told: Told) {
        let id = told.id().to_owned();
        Arc::make_mut(self.listed.entry(app).or_default()).insert(id, Arc::new(told));
    }

    fn note_gone(&mut self, delta: Option<&Listed>) {
        self.gone = BTreeMap::new();
        for (app, told) in delta.iter().flat_map(|delta| &delta.instances) {
            if told.is_deleted() {
                // Who leaves says that it is down first; who just stops to renew does not.
                self.gone.insert((app.clone(), told.id().to_owned()), told.status == "DOWN");
            }
        }
    }

    /// Takes what changed. Returns whether this is what there is, by the servers' own count.
    pub(crate) fn change(&mut self, delta: Listed) -> bool {
        self.note_gone(Some(&delta));
        let hash = delta.hash;
        for (app, told) in delta.instances {
            if !told.is_deleted() {
                self.set(app, told);
            } else if let Some(known) = self.listed.get_mut(&app) {
                Arc::make_mut(known).remove(told.id());
                if known.is_empty() {
                    self.listed.remove(&app);
                }
            }
        }
        hash == self.hash()
    }

    /// How many instances have which status: `DOWN_1_UP_3_`.
    fn hash(&self) -> String {
        let mut counts = BTreeMap::<&str, usize>::new();
        for told in self.listed.values().flat_map(|app| app.values()) {
            *counts.entry(&told.status).or_default() += 1;
        }
        counts.iter().fold(String::new(), |mut hash, (status, count)| {
            let _ = write!(hash, "{status}_{count}_");
            hash
        })
    }

    pub(crate) fn app(&self, app: &str) -> Arc<App> {
        self.listed.get(app).cloned().unwrap_or_default()
    }

    /// Whether somebody is known to have gone, and on purpose if so.
    pub(crate) fn gone(&self, app: &str, id: &str) -> Option<bool> {
        self.gone.get(&(app.to_owned(), id.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn instance(id: &str, status: &str, action: &str) -> Value {
        json!({"instanceId": id, "hostName": "h", "status": status, "actionType": action})
    }

    fn listed(hash: &str, instances: Value) -> Listed {
        let value = json!({"applications": {
            "versions__delta": "1", "apps__hashcode": hash, "application": [{"name": "SHOP", "instance": instances}],
        }});
        Listed::read(value.to_string().as_bytes()).unwrap()
    }

    fn ids(apps: &Apps) -> Vec<String> {
        apps.app("shop").keys().cloned().collect()
    }

    #[test]
    fn changes_are_applied_and_their_hash_tells_whether_some_are_missing() {
        let all = listed("UP_2_", json!([instance("a", "UP", "ADDED"), instance("b", "UP", "ADDED")]));
        let mut apps = Apps::of(all, None);
        let delta = json!([instance("a", "UP", "DELETED"), instance("c", "STARTING", "ADDED")]);
        assert!(apps.change(listed("STARTING_1_UP_1_", delta.clone())));
        assert_eq!(ids(&apps), ["b", "c"]);
        assert!(apps.change(listed("STARTING_1_UP_1_", delta)), "they are told again for some minutes");
        assert!(!apps.change(listed("UP_5_", json!([]))));
    }

    #[test]
    fn who_was_down_when_it_went_has_left_on_purpose() {
        let delta = || listed("", json!([instance("a", "UP", "DELETED"), instance("b", "DOWN", "DELETED")]));
        let apps = Apps::of(listed("", json!([])), Some(delta()));
        let gone = |id| apps.gone("shop", id);
        assert_eq!((gone("a"), gone("b"), gone("c")), (Some(false), Some(true), None));
    }

    #[test]
    fn lists_of_one_may_be_objects_and_empty_ones_may_be_missing() {
        let one = listed("UP_1_", instance("a", "UP", "ADDED"));
        assert_eq!(ids(&Apps::of(one, None)), ["a"]);
        let none = br#"{"applications":{"versions__delta":"1","apps__hashcode":""}}"#;
        assert!(ids(&Apps::of(Listed::read(none).unwrap(), None)).is_empty());
        assert!(Listed::read(b"<html>").is_err());
    }
}
