//! One JSON file per service in one directory.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline_core::{Clock, Error, Instance, Result, WrapErr};
use serde::{Deserialize, Serialize};

use super::DiskOptions;
use crate::Snapshot;

/// The form of the file. Another one is not read.
const VERSION: u32 = 1;
/// File systems allow 255 bytes; the endings need some.
const MAX_FILE_NAME: usize = 200;
const ENDING: &str = ".json";
/// A temporary file older than this belongs to a process that died.
const ABANDONED: Duration = Duration::from_secs(600);

/// What a file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<I> {
    version: u32,
    service: String,
    /// Wall-clock time, milliseconds since 1970.
    written_at_ms: u64,
    instances: I,
}

/// Reads and writes the files. Blocking throughout.
pub(super) struct Store {
    directory: PathBuf,
    options: DiskOptions,
    clock: Arc<dyn Clock>,
}

impl Store {
    pub(super) fn open(directory: PathBuf, options: DiskOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| {
            format!("making the directory for snapshots, {}; is its parent writable?", directory.display())
        })?;
        let store = Self { directory, options, clock };
        store.remove_abandoned();
        Ok(store)
    }

    /// The list kept for `service` and its age. A file that cannot be read is set aside.
    pub(super) fn read(&self, service: &str) -> Option<(Vec<Instance>, Duration)> {
        let path = self.path(service).ok()?;
        match self.parse(service, &path) {
            Ok(record) => {
                let written = UNIX_EPOCH + Duration::from_millis(record.written_at_ms);
                // A clock that was set back makes the file younger, never the process fail.
                let age = self.clock.wall().duration_since(written).unwrap_or_default();
                if age > self.options.max_age {
                    tracing::info!(service, ?age, "the snapshot on disk is too old to be served");
                    return None;
                }
                Some((record.instances, age))
            }
            Err(error) if is_missing(&error) => None,
            Err(error) => {
                let aside = path.with_extension("json.corrupt");
                tracing::warn!(service, %error, aside = %aside.display(), "the snapshot on disk is unusable and set aside");
                if let Err(error) = fs::rename(&path, &aside) {
                    tracing::warn!(service, %error, "setting it aside failed too");
                }
                None
            }
        }
    }

    fn parse(&self, service: &str, path: &Path) -> Result<Record<Vec<Instance>>> {
        let limit = self.options.max_file_bytes;
        let mut bytes = Vec::new();
        let file = File::open(path).context("opening it")?;
        let size = file.take(limit.saturating_add(1)).read_to_end(&mut bytes).context("reading it")?;
        if size as u64 > limit {
            return Err(Error::resource_exhausted(format!("it is larger than {limit} bytes")));
        }
        let record: Record<Vec<Instance>> = serde_json::from_slice(&bytes).context("parsing it")?;
        if record.version != VERSION {
            return Err(Error::invalid_argument(format!("its version is {}, not {VERSION}", record.version)));
        }
        if record.service != service {
            return Err(Error::invalid_argument(format!("it is about `{}`", record.service)));
        }
        Ok(record)
    }

    /// Replaces the file of a service: temporary file, sync, rename, sync of the directory. A crash leaves the old file or
    /// the new one.
    pub(super) fn write(&self, snapshot: &Snapshot) -> Result<()> {
        let path = self.path(&snapshot.service)?;
        let now = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            version: VERSION,
            service: snapshot.service.to_string(),
            written_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            instances: &snapshot.instances,
        };
        let bytes = serde_json::to_vec(&record).context("rendering the list")?;
        let limit = self.options.max_file_bytes;
        if bytes.len() as u64 > limit {
            return Err(Error::resource_exhausted(format!(
                "the list takes {} bytes and {limit} are allowed; raise DiskOptions::max_file_bytes",
                bytes.len()
            )));
        }
        if !path.exists() {
            self.make_room();
        }
        // Two processes that share the directory against the rules must not share a temporary file too.
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written =
            replace(&temporary, &path, &bytes).and_then(|()| File::open(&self.directory)?.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.with_context(|| format!("writing {}", path.display()))
    }

    /// Removes the files written longest ago until one more fits.
    fn make_room(&self) {
        let mut files: Vec<_> = self.files(ENDING).collect();
        let keep = self.options.max_services.saturating_sub(1);
        if files.len() <= keep {
            return;
        }
        files.sort();
        for (_, path) in &files[..files.len() - keep] {
            let _ = fs::remove_file(path);
        }
    }

    fn remove_abandoned(&self) {
        for (modified, path) in self.files(".tmp") {
            if modified.elapsed().is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The files with this ending and when each was written.
    fn files<'a>(&self, ending: &'a str) -> impl Iterator<Item = (SystemTime, PathBuf)> + use<'a> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let ours = entry.file_name().to_str().is_some_and(|name| name.ends_with(ending));
            Some((entry.metadata().ok()?.modified().ok()?, entry.path())).filter(|_| ours)
        })
    }

    fn path(&self, service: &str) -> Result<PathBuf> {
        let mut name = file_name(service);
        if name.len() > MAX_FILE_NAME {
            return Err(Error::invalid_argument("the service's name is too long for a file's"));
        }
        name.push_str(ENDING);
        Ok(self.directory.join(name))
    }
}

/// Whether there is no such file.
fn is_missing(error: &Error) -> bool {
    error.find::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The service's name with everything but lower-case letters, digits, `-` and inner dots as `%XX`: one name per service,
/// also where case does not count, and no path.
fn file_name(service: &str) -> String {
    let mut name = String::with_capacity(service.len());
    for byte in service.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("directory", &self.directory).field("options", &self.options).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::SystemClock;
    use proptest::prelude::*;

    fn store(directory: &Path, options: DiskOptions) -> Store {
        Store::open(directory.into(), options, Arc::new(SystemClock)).unwrap()
    }

    #[test]
    fn the_oldest_file_gives_way_when_there_are_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), DiskOptions { max_services: 2, ..DiskOptions::default() });
        for (age, service) in [(30, "a"), (20, "b"), (10, "c")] {
            store.write(&Snapshot::live(service, [Instance::new(service, "1")])).unwrap();
            let file = File::options().append(true).open(store.path(service).unwrap()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(["a", "b", "c"].map(|s| store.read(s).is_some()), [false, true, true]);
    }

    #[test]
    fn a_list_that_is_too_large_is_refused_and_leaves_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), DiskOptions { max_file_bytes: 400, ..DiskOptions::default() });
        store.write(&Snapshot::live("s", [Instance::new("s", "1")])).unwrap();
        let many = (0..10).map(|n| Instance::new("s", n.to_string()));
        assert!(store.write(&Snapshot::live("s", many)).is_err());
        assert_eq!(store.read("s").unwrap().0.len(), 1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    proptest! {
        #[test]
        fn every_service_has_a_file_of_its_own_inside_the_directory(a in ".{1,8}", b in ".{1,8}") {
            let name = file_name(&a);
            prop_assert!(!name.contains(['/', '.', '\\']) && !name.is_empty());
            prop_assert_eq!(name.to_lowercase() == file_name(&b).to_lowercase(), a == b);
        }

        #[test]
        fn any_bytes_are_read_as_a_list_or_set_aside(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let directory = tempfile::tempdir().unwrap();
            let store = store(directory.path(), DiskOptions::default());
            let path = store.path("s").unwrap();
            fs::write(&path, bytes).unwrap();
            prop_assert!(store.read("s").is_none());
            prop_assert!(!path.exists() && path.with_extension("json.corrupt").exists());
        }
    }
}
