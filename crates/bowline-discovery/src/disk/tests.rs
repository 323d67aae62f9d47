use bowline_core::{Context, Instance, ManualClock};

use super::*;
use crate::{Emptiness, Memory, Registrar};

fn cx() -> Context {
    Context::background().with_timeout(Duration::from_secs(20))
}

fn a() -> Instance {
    Instance::new("s", "a")
}

fn open(inner: &Memory, directory: &tempfile::TempDir, clock: &Arc<ManualClock>) -> DiskSnapshots {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    DiskSnapshots::open_with(Arc::new(inner.clone()), directory.path(), DiskOptions::default(), clock)
        .unwrap()
}

/// Waits until the file of `s` holds as many instances as given.
async fn on_disk(discovery: &DiskSnapshots, count: usize) {
    let written = async {
        while discovery.store.read("s").is_none_or(|(instances, _)| instances.len() != count) {
            tokio::task::yield_now().await;
        }
    };
    cx().run(written).await.unwrap();
}

async fn until(watcher: &mut Watcher, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let found = async {
        while !wanted(&watcher.current()) {
            watcher.changed().await;
        }
        watcher.current()
    };
    cx().run(found).await.unwrap()
}

#[tokio::test]
async fn a_process_starts_from_disk_while_the_registry_is_down_and_follows_it_once_it_is_back() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    let memory = Memory::new();
    let _registration = memory.register(&cx(), a()).await.unwrap();
    let first = open(&memory, &directory, &clock);
    let watcher = first.watch("s");
    watcher.ready(&cx()).await.unwrap();
    on_disk(&first, 1).await;
    drop((watcher, first));

    clock.advance(Duration::from_secs(90));
    let empty = Memory::new();
    empty.set_reachable(false);
    let second = open(&empty, &directory, &clock);
    let mut watcher = second.watch("s");
    let snapshot = watcher.ready(&cx()).await.unwrap();
    assert_eq!(snapshot.state, State::Disk { age: Duration::from_secs(90) });
    assert_eq!(*snapshot.instances[0], a());

    empty.set_reachable(true);
    let _registrations = (
        empty.register(&cx(), a()).await.unwrap(),
        empty.register(&cx(), Instance::new("s", "b")).await.unwrap(),
    );
    until(&mut watcher, |s| s.state == State::Live && s.instances.len() == 2).await;
    on_disk(&second, 2).await;
}

#[tokio::test]
async fn a_definite_empty_is_passed_on_and_the_file_stays() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    let memory = Memory::new();
    let registration = memory.register(&cx(), a()).await.unwrap();
    let discovery = open(&memory, &directory, &clock);
    let mut watcher = discovery.watch("s");
    on_disk(&discovery, 1).await;
    registration.deregister(&cx()).await.unwrap();
    until(&mut watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
    on_disk(&discovery, 1).await;
}

#[tokio::test]
async fn a_corrupt_file_is_set_aside_and_the_registry_is_asked() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    std::fs::write(directory.path().join("s.json"), "{\"version\":1,").unwrap();
    let memory = Memory::new();
    let _registration = memory.register(&cx(), a()).await.unwrap();
    let discovery = open(&memory, &directory, &clock);
    let snapshot = discovery.watch("s").ready(&cx()).await.unwrap();
    assert_eq!(snapshot.state, State::Live);
    assert!(directory.path().join("s.json.corrupt").exists());
}

#[tokio::test]
async fn a_file_that_is_too_old_is_not_served() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    let memory = Memory::new();
    let discovery = open(&memory, &directory, &clock);
    discovery.store.write(&Snapshot::live("s", [a()])).unwrap();
    clock.advance(DiskOptions::default().max_age + Duration::from_secs(1));
    memory.set_reachable(false);
    let cx = Context::background().with_timeout(Duration::from_millis(200));
    assert!(discovery.watch("s").ready(&cx).await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn many_changes_in_a_row_end_with_the_newest_on_disk() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    let memory = Memory::new();
    let discovery = open(&memory, &directory, &clock);
    let _watcher = discovery.watch("s");
    let mut registrations = Vec::new();
    for n in 0..50 {
        registrations.push(memory.register(&cx(), Instance::new("s", n.to_string())).await.unwrap());
        tokio::task::yield_now().await;
    }
    on_disk(&discovery, 50).await;
}
