use bowline_discovery::{Publisher, State, Watcher};

use super::*;

const SEC: Duration = Duration::from_secs(1);

/// A registry that hashes by the length of a version, and a view of it.
struct Fixture {
    view: View,
    publisher: Publisher,
    watcher: Watcher,
    now: Instant,
}

fn entry(id: &str) -> wire::Entry {
    let instance = wire::Instance { id: id.into(), service: "s".into(), ..Default::default() };
    let hash = id.bytes().map(u64::from).sum();
    wire::Entry { instance: instance.into(), hash, ..Default::default() }
}

fn digest(ids: &[&str]) -> u64 {
    ids.iter().map(|id| entry(id).hash).sum()
}

fn message(epoch: u64, revision: u64, all: &[&str], event: Event) -> wire::WatchResponse {
    let empty = match all {
        [] => wire::Emptiness::EMPTINESS_UNKNOWN,
        _ => wire::Emptiness::EMPTINESS_UNSPECIFIED,
    };
    wire::WatchResponse {
        service: "s".into(),
        epoch,
        revision,
        digest: digest(all),
        empty: empty.into(),
        event: Some(event),
        ..Default::default()
    }
}

fn snapshot(epoch: u64, revision: u64, all: &[&str], removed: &[&str]) -> wire::WatchResponse {
    let removed = removed.iter().map(|id| wire::Removal { id: (*id).into(), ..Default::default() });
    let part = wire::SnapshotPart {
        first: true,
        entries: all.iter().map(|id| entry(id)).collect(),
        removed: removed.collect(),
        ..Default::default()
    };
    message(epoch, revision, all, Event::Snapshot(Box::new(part)))
}

fn synced(epoch: u64, revision: u64, all: &[&str], settling: bool) -> wire::WatchResponse {
    let synced = wire::Synced { settling, ..Default::default() };
    message(epoch, revision, all, Event::Synced(Box::new(synced)))
}

fn delta(revision: u64, up: &[&str], gone: &[&str], all: &[&str]) -> wire::WatchResponse {
    let removed = gone.iter().map(|id| wire::Removal { id: (*id).into(), ..Default::default() });
    let delta = wire::Delta {
        from_revision: revision - 1,
        upserted: up.iter().map(|id| entry(id)).collect(),
        removed: removed.collect(),
        ..Default::default()
    };
    message(1, revision, all, Event::Delta(Box::new(delta)))
}

impl Fixture {
    /// A view that knows `a` and `b` at revision 5 of epoch 1.
    fn knowing_two() -> Self {
        let (publisher, watcher) = Publisher::pair("s");
        let mut f = Self { view: View::new("", 30 * SEC), publisher, watcher, now: Instant::now() };
        f.list(1, 5, &["a", "b"], &[], false);
        f
    }

    fn take(&mut self, message: wire::WatchResponse) -> Result<bool> {
        let publish = self.view.apply(message, self.now)?;
        if publish {
            self.view.publish(&self.publisher);
        }
        Ok(publish)
    }

    fn list(&mut self, epoch: u64, revision: u64, all: &[&str], removed: &[&str], settling: bool) {
        assert!(!self.take(snapshot(epoch, revision, all, removed)).unwrap(), "half a list is not shown");
        assert!(self.take(synced(epoch, revision, all, settling)).unwrap());
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.view.tick(self.now) {
            self.view.publish(&self.publisher);
        }
    }

    fn seen(&self) -> (Vec<String>, bool) {
        let snapshot = self.watcher.current();
        let ids = snapshot.instances.iter().map(|i| i.id.to_string()).collect();
        (ids, snapshot.state.is_current())
    }
}

fn seen(ids: &[&str], is_current: bool) -> (Vec<String>, bool) {
    (ids.iter().map(ToString::to_string).collect(), is_current)
}

#[test]
fn changes_are_applied_in_their_order() {
    let mut f = Fixture::knowing_two();
    f.take(delta(6, &["c"], &["a"], &["b", "c"])).unwrap();
    assert_eq!(f.seen(), seen(&["b", "c"], true));
}

#[test]
fn a_gap_a_wrong_digest_and_half_a_list_ask_for_the_whole_list_and_keep_what_is_shown() {
    let broken = [
        delta(7, &["c"], &[], &["a", "b", "c"]),
        delta(6, &["c"], &[], &["a", "b", "d"]),
        synced(1, 9, &["a"], false),
        synced(2, 5, &["a", "b"], false),
        message(1, 6, &["a"], Event::Snapshot(Box::default())),
    ];
    for message in broken {
        let mut f = Fixture::knowing_two();
        f.take(message).unwrap_err();
        assert_eq!(f.seen(), seen(&["a", "b"], true));
        let subscription = f.view.subscription("s");
        let resumes_at_what_it_knows = (subscription.epoch, subscription.revision) == (1, 5);
        // Half a list changes nothing of what is known before it.
        assert!(subscription.revision == u64::MAX || resumes_at_what_it_knows);
        f.list(1, 9, &["a", "c"], &[], false);
        assert_eq!(f.seen(), seen(&["a", "c"], true));
    }
}

#[test]
fn a_list_of_the_same_life_is_taken_at_its_word() {
    let mut f = Fixture::knowing_two();
    f.list(1, 9, &["b"], &[], false);
    assert_eq!(f.seen(), seen(&["b"], true));
}

#[test]
fn a_list_of_a_new_life_takes_nobody_away_before_the_grace_is_over() {
    let mut f = Fixture::knowing_two();
    f.list(2, 1, &[], &[], true);
    assert_eq!(f.seen(), seen(&["a", "b"], false));
    f.pass(29 * SEC);
    assert_eq!(f.seen(), seen(&["a", "b"], false));
    f.list(2, 2, &["b"], &[], true);
    assert_eq!(f.seen(), seen(&["a", "b"], false));
    f.pass(SEC);
    assert_eq!(f.seen(), seen(&["b"], true));
}

#[test]
fn who_comes_back_or_is_said_to_have_gone_is_not_missing() {
    let mut f = Fixture::knowing_two();
    f.list(2, 1, &["b"], &["a"], true);
    assert_eq!(f.seen(), seen(&["b"], true));
    assert_eq!(f.view.timer(), None);
}

#[test]
fn while_some_are_missing_the_time_since_when_the_list_is_stale_stays() {
    let mut f = Fixture::knowing_two();
    f.publisher.fail(&Error::unavailable("gone"));
    let State::Stale { since } = f.watcher.current().state else { panic!() };
    f.list(2, 1, &[], &[], true);
    assert_eq!(f.watcher.current().state, State::Stale { since });
}

#[test]
fn that_a_new_registry_knows_nobody_is_believed_after_the_grace() {
    let mut f = Fixture::knowing_two();
    (f.publisher, f.watcher) = Publisher::pair("s");
    f.view = View::new("", 30 * SEC);
    f.list(1, 0, &[], &[], true);
    assert_eq!(f.watcher.current().state, State::Pending);
    f.pass(30 * SEC);
    assert_eq!(f.watcher.current().state, State::Empty(Emptiness::Unknown));
}

#[test]
fn an_instance_that_cannot_be_used_is_left_out_and_the_rest_stays_in_step() {
    let mut f = Fixture::knowing_two();
    let mut message = delta(6, &["c"], &[], &["a", "b", "c"]);
    if let Some(Event::Delta(delta)) = &mut message.event {
        delta.upserted[0].instance.get_or_insert_default().endpoints = vec!["quic://new:1".into()];
    }
    f.take(message).unwrap();
    assert_eq!(f.seen(), seen(&["a", "b"], true));
    f.take(delta(7, &[], &["c"], &["a", "b"])).unwrap();
}
