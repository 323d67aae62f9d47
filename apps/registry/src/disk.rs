//! What a node knew, on disk, for a start at which nobody else can tell.
//!
//! A file of facts as nodes tell them to each other, and its digest. What is read of it is taken as what a lost node had: kept
//! as it is, handed over as clients come back, and swept slowly when they do not. Persistent instances are checked again at
//! once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline_core::{Code, Context, Error, Result, WrapErr};
use bowline_rpc::codegen::buffa::Message as _;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde::{Deserialize, Serialize};

use crate::node::Shared;
use crate::peers::{api, read_fact, write_fact};
use crate::store::{Fact, Said};

/// What the file begins with: the format and its version.
const MAGIC: &[u8; 8] = b"bowline\x01";
/// How many facts are read from the store at a time: clients want it too.
const AT_A_TIME: usize = 256;
/// The age of the file is what is read of it by: it is written so many times within the partition window though nothing changes,
/// for renewals change nothing.
const PER_WINDOW: u32 = 4;
/// Writing more often than this is of no use to anybody.
const SHORTEST: Duration = Duration::from_millis(100);

/// Where and how often a node writes down what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The file, which only its owner may read. Its directory has to be there; beside it there is another one, `.new`, while it
    /// is written, and `.broken`, if what was found at a start was of no use.
    pub file: PathBuf,
    /// How often it is written, if anything has changed; and four times within the partition window in any case. What a crash
    /// takes back is what happened since. 10 s.
    #[serde(default = "ten_seconds", with = "bowline_config::duration")]
    pub every: Duration,
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

impl DiskConfig {
    /// # Errors
    /// `INVALID_ARGUMENT` with the setting and the mend.
    pub(crate) fn check(&self) -> Result<()> {
        if self.every.is_zero() {
            return Err(Error::invalid_argument("the registry's settings: `disk.every` is 0; use 10s"));
        }
        Ok(())
    }
}

impl Shared {
    /// Writes down what there is, again and again, and once more at the end.
    ///
    /// # Errors
    /// Why `cx` is done. What goes wrong with the disk is logged, and tried again.
    pub(crate) async fn write_down(self: &Arc<Self>, cx: &Context, disk: &DiskConfig) -> Result<()> {
        let oldest = (self.config.partition_window / PER_WINDOW).max(SHORTEST);
        // What is there, and when it was written.
        let mut written = None;
        loop {
            let rest = cx.run(tokio::time::sleep(disk.every.min(oldest))).await;
            let (changes, now) = (self.store().told(), self.now());
            let is_fresh = written.is_some_and(|(known, at)| {
                let rests = at + disk.every > now;
                at + oldest > now && (rests || known == changes)
            });
            // At the end in any case: its age counts from then.
            if (rest.is_err() || !is_fresh) && self.write_once(disk).await {
                written = Some((changes, now));
            }
            rest?;
        }
    }

    /// Writes down what there is now. Returns whether it did; what goes wrong is logged.
    pub(crate) async fn write_once(self: &Arc<Self>, disk: &DiskConfig) -> bool {
        if !self.writes.load(Ordering::Relaxed) {
            return false;
        }
        let (bytes, file) = (self.written(), disk.file.clone());
        match tokio::task::spawn_blocking(move || replace(&file, &bytes)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => {
                let (file, error) = (disk.file.display(), Error::from_std(error));
                tracing::error!(%file, %error, "what the node knows could not be written down");
            }
            Err(error) => tracing::error!(%error, "writing down what the node knows panicked"),
        }
        false
    }

    /// Puts a file that is of no use aside, so that writing does not replace it: somebody may still get something out of it.
    /// If it cannot be put aside, nothing is written in this life.
    pub(crate) fn put_aside(&self, disk: &DiskConfig) {
        let (file, aside) = (disk.file.display(), beside(&disk.file, ".broken"));
        match fs::rename(&disk.file, &aside) {
            Ok(()) => tracing::warn!(%file, kept = %aside.display(), "the file that is of no use is kept"),
            Err(error) => {
                self.writes.store(false, Ordering::Relaxed);
                let error = Error::from_std(error);
                tracing::error!(%file, %error, "the file that is of no use cannot be put aside; nothing is written \
                    down until the node starts again: move it, or let the node write to its directory");
            }
        }
    }

    /// Everything that is known, in the file's form.
    fn written(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        bytes.extend(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        let all = self.store().fact_keys();
        for some in all.chunks(AT_A_TIME) {
            let now = self.now();
            let store = self.store();
            let facts: Vec<Fact> = some.iter().flat_map(|of| store.facts(of, now)).collect();
            drop(store);
            for fact in &facts {
                let (fact, _) = write_fact(fact);
                let encoded = fact.encode_to_vec();
                // One fact is bounded by the limits of instances.
                bytes.extend(u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes());
                bytes.extend(encoded);
            }
        }
        let sum = digest(&SHA256, &bytes);
        bytes.extend(sum.as_ref());
        bytes
    }

    /// Takes in what was written down. Returns how many facts there were; 0 if there is no file.
    ///
    /// # Errors
    /// If the file cannot be read or is none of a registry. Nothing was taken in then.
    pub(crate) fn read_back(&self, disk: &DiskConfig) -> Result<usize> {
        let name = || format!("`{}`", disk.file.display());
        let bytes = match fs::read(&disk.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::from_std(error).context(format!("reading {}", name()))),
        };
        let (age, facts) = read(&bytes).with_context(name)?;
        // Among others there is somebody who knows better about what may have gone meanwhile; and clients come back.
        let window = self.config.partition_window;
        let is_alone = self.own.owner.node == 0;
        let mut taken = 0;
        for mut fact in facts {
            let keep = match &mut fact.said {
                Said::Here(here) => {
                    here.age += age;
                    here.said += age;
                    age <= window || (is_alone && here.record.is_checked())
                }
                Said::Gone(_, since) => {
                    *since += age;
                    true
                }
                Said::Overridden { .. } => is_alone || age <= window,
            };
            if keep {
                taken += 1;
                self.change(|store, now| store.hear(fact, now));
            }
        }
        Ok(taken)
    }
}

/// A name next to a file's.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}

fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(file, ".new");
    // One that a crash left behind may be somebody else's to read.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // It names holders, and who knows one may end what it holds.
    #[cfg(unix)]
    options.mode(0o600);
    let mut writing = options.open(&new)?;
    writing.write_all(bytes)?;
    writing.sync_all()?;
    fs::rename(&new, file)?;
    // Until the directory is on disk, its old content is what a lost power supply leaves.
    match file.parent() {
        Some(directory) if cfg!(unix) => {
            let here = directory.as_os_str().is_empty();
            File::open(if here { Path::new(".") } else { directory })?.sync_all()
        }
        _ => Ok(()),
    }
}

/// How long ago a file was written, and what is in it.
fn read(bytes: &[u8]) -> Result<(Duration, Vec<Fact>)> {
    let malformed = |what: &str| {
        Error::new(Code::DataLoss, format!("the registry's file {what}, so nothing is taken from it"))
    };
    let (content, _) = bytes
        .split_last_chunk::<SHA256_OUTPUT_LEN>()
        .filter(|(content, sum)| digest(&SHA256, content).as_ref() == *sum)
        .ok_or_else(|| malformed("is not whole"))?;
    let rest = content.strip_prefix(MAGIC).ok_or_else(|| malformed("is of another version"))?;
    let (millis, mut rest) = rest.split_first_chunk::<8>().ok_or_else(|| malformed("is cut off"))?;
    let written = UNIX_EPOCH + Duration::from_millis(u64::from_be_bytes(*millis));
    let mut facts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (fact, after) = after
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(|| malformed("is cut off"))?;
        let fact =
            api::Fact::decode_from_slice(fact).map_err(|e| malformed("is malformed").with_source(e))?;
        facts.push(read_fact(fact)?);
        rest = after;
    }
    // A clock that went back makes it new.
    Ok((SystemTime::now().duration_since(written).unwrap_or_default(), facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FactKey, Kind, Record, Registering, ServiceKey};
    use crate::{Config, Limits, Node};
    use bowline_registry_bowline::api::bowline::registry::v1::Instance;

    fn disk() -> (tempfile::TempDir, DiskConfig) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registry.facts");
        (directory, DiskConfig { file, every: ten_seconds() })
    }

    fn register(node: &Node, id: &str) {
        let instance = Instance { id: id.into(), service: "s".into(), ..Default::default() };
        let asked = Registering {
            key: ServiceKey::new("", "", "s").unwrap(),
            record: Arc::new(Record::new(instance, &Limits::default()).unwrap()),
            ttl: None,
            holder: "h".into(),
            sequence: 1,
            only_if_free: false,
        };
        node.shared().change(|store, now| store.register(asked, now)).unwrap();
    }

    #[test]
    fn what_is_written_down_is_there_again_and_what_was_taken_out_is_not() {
        let (_directory, disk) = disk();
        let before = Node::new(Config::default()).unwrap();
        assert_eq!(before.shared().read_back(&disk).unwrap(), 0, "there is no file yet");
        register(&before, "a");
        register(&before, "b");
        let key = ServiceKey::new("", "", "s").unwrap();
        before.shared().change(|store, now| store.deregister(&key, "b", "h", now));
        replace(&disk.file, &before.shared().written()).unwrap();

        let after = Node::new(Config::default()).unwrap();
        assert_eq!(after.shared().read_back(&disk).unwrap(), 2);
        let stats = after.stats();
        assert_eq!((stats.instances, stats.orphans, stats.leases), (1, 1, 0), "as those of a lost node");
        let of = FactKey { key, id: "b".into(), kind: Kind::Instance };
        assert_eq!(after.shared().store().facts(&of, after.shared().now()).len(), 1, "that it went is known");
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused() {
        let (_directory, disk) = disk();
        let node = Node::new(Config::default()).unwrap();
        register(&node, "a");
        let whole = node.shared().written();
        let mut changed = whole.clone();
        changed[20] ^= 1;
        for broken in
            [&whole[..whole.len() - 1], &changed, b"", b"something else altogether, and long enough"]
        {
            fs::write(&disk.file, broken).unwrap();
            let error = node.shared().read_back(&disk).unwrap_err();
            assert!(error.message().contains("nothing is taken from it"), "{error}");
        }
    }

    fn holding(disk: &DiskConfig, window: Duration) -> Node {
        let disk = Some(disk.clone());
        Node::new(Config { disk, partition_window: window, ..Config::default() }).unwrap()
    }

    #[allow(clippy::disallowed_methods, reason = "the test's own time stands still")]
    fn let_wall_time_pass() {
        std::thread::sleep(Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_quiet_for_longer_than_the_window_is_there_after_a_crash_and_after_an_orderly_end() {
        let (_directory, disk) = disk();
        let node = holding(&disk, Duration::from_secs(40));
        register(&node, "a");
        let written = || fs::read(&disk.file).unwrap()[8..16].to_vec();
        let (cx, canceller) = Context::background().with_cancel();
        let shared = node.shared();
        let mut running = std::pin::pin!(shared.write_down(&cx, &disk));
        let mut told = Vec::new();
        for _ in 0..3 {
            let_wall_time_pass();
            assert!(tokio::time::timeout(Duration::from_secs(21), running.as_mut()).await.is_err());
            told.push(written());
        }
        assert!(told[0] != told[1] && told[1] != told[2], "nothing has changed, and it is written anew");
        // And at the end, whatever was written just before.
        let_wall_time_pass();
        canceller.cancel();
        running.await.unwrap_err();
        assert_ne!(written(), told[2]);
    }

    #[test]
    fn a_file_of_no_use_is_put_aside_and_never_replaced() {
        let (directory, disk) = disk();
        fs::write(&disk.file, b"of another version").unwrap();
        let node = holding(&disk, Duration::from_secs(300));
        node.restore();
        let aside = directory.path().join("registry.facts.broken");
        assert_eq!(fs::read(&aside).unwrap(), b"of another version");
        assert!(!disk.file.exists() && node.shared().writes.load(Ordering::Relaxed));
        // Where it cannot be put aside it stays, and nothing is written over it.
        fs::write(&disk.file, b"of another version").unwrap();
        fs::remove_file(&aside).unwrap();
        fs::create_dir(&aside).unwrap();
        let node = holding(&disk, Duration::from_secs(300));
        node.restore();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(!runtime.block_on(node.shared().write_once(&disk)));
        assert_eq!(fs::read(&disk.file).unwrap(), b"of another version");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, disk) = disk();
        // What a crash of an earlier version left.
        fs::write(beside(&disk.file, ".new"), b"x").unwrap();
        replace(&disk.file, b"some").unwrap();
        replace(&disk.file, b"more").unwrap();
        assert_eq!(fs::metadata(&disk.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&disk.file).unwrap(), b"more");
    }
}
