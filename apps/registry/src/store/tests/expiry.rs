//! Who goes for being late, and who does not.

use super::*;

fn group(f: &mut Fixture, count: usize) -> Vec<u64> {
    (0..count).map(|n| f.up("s", &format!("i{n}")).lease).collect()
}

/// Time passes, in which these renew as they should.
fn live(f: &mut Fixture, seconds: u32, leases: &[u64]) -> usize {
    let mut expired = 0;
    for _ in 0..seconds {
        expired += f.pass(SEC);
        for lease in leases {
            f.store.renew(*lease, f.now);
        }
    }
    expired
}

#[test]
fn one_dead_of_three_goes_in_time() {
    let mut f = Fixture::new();
    let leases = group(&mut f, 3);
    assert_eq!(live(&mut f, 11, &leases[1..]), 1);
    assert_eq!(f.ids("s"), ["i1", "i2"]);
    assert!(f.store.protected().is_empty());
}

#[test]
fn of_many_that_are_late_together_none_goes_until_as_many_are_on_time_as_before() {
    let mut f = Fixture::new();
    let mut leases = group(&mut f, 20);
    // 3 of 20 are 15 %; 4 are more.
    assert_eq!(live(&mut f, 60, &leases[4..]), 0);
    let protected = f.store.protected();
    assert_eq!((protected[0].expected, protected[0].overdue), (20, 4));
    // One of them comes back, by the lease that has run out long ago.
    assert_eq!(f.store.renew(leases[0], f.now), Some(10 * SEC));
    assert_eq!(live(&mut f, 5, &[leases[0], leases[4]]), 3, "17 of 20 are on time");
    assert_eq!((f.ids("s").len(), f.store.protected().len()), (17, 0));
    // Those who come in place of the dead count as well.
    leases = f.ids("s").iter().map(|id| f.up("s", id).lease).collect();
    assert_eq!(live(&mut f, 30, &leases[5..]), 0);
    leases.drain(..5);
    leases.extend(["new-1", "new-2", "new-3"].map(|id| f.up("s", id).lease));
    assert_eq!(live(&mut f, 5, &leases), 5);
}

#[test]
fn other_zones_and_other_services_are_no_reason_to_keep_anybody() {
    let mut f = Fixture::new();
    group(&mut f, 10);
    let instance = Instance { id: "x".into(), zone: "z9".into(), ..Default::default() };
    let record = Arc::new(Record::new(instance, &crate::Limits::default()).unwrap());
    f.register(Registering { record, ..asked("s", "x", "1") }).unwrap();
    f.up("t", "a");
    assert_eq!(f.pass(10 * SEC), 2);
    assert_eq!((f.ids("s").len(), f.ids("t").len()), (10, 0));
}

#[test]
fn an_operator_ends_a_protection_and_whoever_is_overdue_goes() {
    let mut f = Fixture::new();
    let leases = group(&mut f, 4);
    live(&mut f, 20, &leases[2..]);
    assert_eq!(f.store.end_protection(&key("s"), "z9", f.now), 0);
    assert_eq!(f.store.end_protection(&key("s"), "", f.now), 2);
    assert_eq!((f.ids("s"), f.store.protected()), (vec!["i2".to_owned(), "i3".to_owned()], vec![]));
    assert!(f.store.renew(leases[0], f.now).is_none());
}

#[test]
fn nobody_is_late_for_the_time_in_which_the_node_stood_still() {
    let mut f = Fixture::new();
    let lease = f.up("s", "a").lease;
    f.now += 60 * SEC;
    f.store.paused(60 * SEC, f.now);
    assert_eq!(f.pass(9 * SEC), 0);
    assert!(f.store.renew(lease, f.now).is_some());
    assert_eq!(f.pass(10 * SEC), 1);
}

#[test]
fn who_came_in_place_of_the_dead_before_they_were_missed_is_no_reason_to_keep_them() {
    let mut f = Fixture::new();
    let mut leases = group(&mut f, 3);
    f.pass(SEC);
    f.store.renew(leases[0], f.now);
    // Two die, and two others come at once.
    leases.truncate(1);
    leases.extend(["new-1", "new-2"].map(|id| f.up("s", id).lease));
    assert_eq!(live(&mut f, 12, &leases), 2);
    assert_eq!((f.ids("s").len(), f.store.protected()), (3, vec![]));
}

#[test]
fn standing_still_is_noticed_by_nobody_having_looked() {
    let mut f = Fixture::new();
    f.up("s", "a");
    f.pass(SEC);
    assert_eq!(f.store.awake(f.now + SEC / 2), None);
    f.now += 60 * SEC;
    assert!(f.store.awake(f.now).is_some_and(|gap| gap > 59 * SEC));
    assert_eq!((f.pass(8 * SEC), f.pass(3 * SEC)), (0, 1));
}

#[test]
fn who_is_used_to_renew_late_is_on_time() {
    let mut f = Fixture::new();
    let leases = group(&mut f, 6);
    // Every 6 s of 10 s, one after the other; and the last one dies.
    let mut expired = 0;
    for second in 0..60 {
        expired += f.pass(SEC);
        let alive = if second < 30 { &leases[..] } else { &leases[..5] };
        for (n, lease) in alive.iter().enumerate().filter(|(n, _)| second % 6 == *n) {
            assert!(f.store.renew(*lease, f.now).is_some(), "{n} after {second} s");
        }
    }
    assert_eq!((expired, f.store.protected()), (1, vec![]));
}

#[test]
fn who_is_used_to_renew_late_is_late_all_the_same_when_all_fall_silent() {
    let mut f = Fixture::new();
    let leases = group(&mut f, 6);
    for _ in 0..4 {
        f.pass(6 * SEC);
        leases.iter().for_each(|lease| _ = f.store.renew(*lease, f.now));
    }
    assert_eq!(f.pass(20 * SEC), 0);
    assert_eq!(f.store.protected().len(), 1);
}
