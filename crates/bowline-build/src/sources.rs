//! Where `.proto` files are looked for: the include roots, what comes with this crate, protobuf's own.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::{bundled, editions};

/// Finds files by the name they are imported by.
#[derive(Debug)]
pub(crate) struct Sources {
    includes: Vec<PathBuf>,
    google: GoogleFileResolver,
    of_editions: Rc<RefCell<BTreeSet<String>>>,
}

impl Sources {
    pub(crate) fn new(includes: &[PathBuf]) -> Self {
        let includes = includes.iter().map(|include| without_dots(include)).collect();
        Self { includes, google: GoogleFileResolver::new(), of_editions: Rc::default() }
    }

    /// The names of the opened files that are of an edition, which protox does not tell.
    pub(crate) fn of_editions(&self) -> Rc<RefCell<BTreeSet<String>>> {
        Rc::clone(&self.of_editions)
    }

    /// The import name of a listed file that comes with this crate and that no include root has.
    pub(crate) fn bundled(&self, listed: &Path) -> Option<String> {
        let name = listed.to_str().filter(|name| bundled::source(name).is_some())?;
        self.on_disk(name).is_none().then(|| name.to_owned())
    }

    /// The path of an imported file, if it is below one of the include roots.
    pub(crate) fn on_disk(&self, name: &str) -> Option<PathBuf> {
        self.includes.iter().map(|include| include.join(name)).find(|path| path.is_file())
    }
}

impl FileResolver for Sources {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        let path = without_dots(path);
        let below_a_root = self.includes.iter().find_map(|include| {
            let below = path.strip_prefix(include).ok()?;
            let parts = below.components().map(|part| match part {
                Component::Normal(part) => part.to_str(),
                _ => None,
            });
            let parts: Vec<&str> = parts.collect::<Option<_>>()?;
            (!parts.is_empty()).then(|| parts.join("/"))
        });
        below_a_root.or_else(|| self.bundled(&path))
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if let Some(path) = self.on_disk(name) {
            // A file that is no text is left to protox to complain of.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let Some(parsed) = editions::parse(name, &path.display().to_string(), &text) else {
                return File::open(name, &path);
            };
            self.of_editions.borrow_mut().insert(name.to_owned());
            return parsed;
        }
        match bundled::source(name) {
            Some(source) => File::from_source(name, source),
            None => self.google.open_file(name),
        }
    }
}

/// `./proto/.` is `proto`.
fn without_dots(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}
