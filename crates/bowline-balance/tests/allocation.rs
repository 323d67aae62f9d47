//! A pick allocates nothing, whatever it meets.

mod support;

use bowline_balance::{Ask, Index, IndexOptions, Request};
use bowline_core::{Clock, ManualClock, SeededRng, Tenant};
use support::{Node, nodes};

#[test]
fn a_pick_allocates_nothing() {
    let clock = ManualClock::new();
    let (tenant, rng) = (Tenant::new("blue").unwrap(), SeededRng::new(1));
    let mut all = nodes(200);
    all.extend((0..50).map(|i| Node::new(format!("dead-{i}")).dead().place("b", "two")));
    all.extend((0..50).map(|i| Node::new(format!("blue-{i}")).tenant("blue").weight(i * 10)));
    let index = Index::build(all, &IndexOptions::default(), None, clock.now());
    for node in &index[..20] {
        node.load.warm_up(clock.now());
    }
    let requests = [
        Request::base(),
        Request::of(&tenant),
        Request::of(&tenant).strictly(),
        Request::of(&tenant).with_redirects("users=@u-1,catalog=@node-3"),
        Request::of(&tenant).with_redirects("catalog=green"),
    ];
    with_each_picker!(|name, picker| {
        for request in &requests {
            for tried in [&[][..], &[0, 1, 2, 3, 210, 260]] {
                let picks = || {
                    for key in 0..200 {
                        let ask = Ask::new(clock.now(), &rng).without(tried).with_key(key);
                        assert!(index.pick(&picker, request, &ask).is_ok_and(|picked| picked.is_some()));
                    }
                };
                picks();
                let measured = allocation_counter::measure(picks);
                assert_eq!(measured.count_total, 0, "{name} {request:?} {tried:?}");
            }
        }
    });
    let counts_at_all = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counts_at_all.count_total, 1);
}
