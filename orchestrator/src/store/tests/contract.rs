//! One suite, two stores.

use super::*;

const LIMITS: StoreLimits = StoreLimits {
    decisions: 5,
    measurements: 3,
    packages: 2,
    part_bytes: 100,
    cache_bytes: 1 << 20,
};

/// Runs every promise against both stores, and makes each a test.
macro_rules! promises {
    ($($promise:ident),+ $(,)?) => {
        mod memory_keeps {
            $(#[test] fn $promise() { super::$promise(&super::MemoryStore::new(super::LIMITS)); })+
        }
        mod sled_keeps {
            $(#[test] fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                super::$promise(&super::SledStore::open(folder.path(), super::LIMITS).unwrap());
            })+
        }
    };
}

promises!(
    an_empty_store_says_so,
    packages_come_back_with_their_contents,
    a_package_is_refused_whole,
    contents_live_as_long_as_a_package_names_them,
    the_wish_to_serve_is_kept,
    plans_only_go_forward,
    policies_are_kept_apart_and_exactly,
    numbers_are_never_handed_out_twice,
    measurements_replace_each_other_up_to_a_bound,
    decisions_are_a_ring,
);

fn an_empty_store_says_so(store: &dyn Store) {
    assert_eq!(store.packages().unwrap(), []);
    assert_eq!(store.package(&"m".into()).unwrap(), None);
    assert_eq!(store.content(&Digest::of(b"x")).unwrap(), None);
    assert_eq!(store.plan().unwrap(), None);
    assert_eq!(store.policy("ucb").unwrap(), None);
    assert_eq!(store.orders().unwrap(), None);
    assert_eq!(store.measurements().unwrap(), []);
    assert_eq!(store.decisions(10).unwrap(), []);
    assert!(!store.remove_package(&"m".into()).unwrap());
    assert!(!store.set_loaded(&"m".into(), true).unwrap());
    store.append_decisions(&[]).unwrap();
    store.put_measurements(&[]).unwrap();
    store
        .remove_measurements(&[(FragmentId([0; 32]), "a".into())])
        .unwrap();
}

fn packages_come_back_with_their_contents(store: &dyn Store) {
    let (b, contents) = package("b", &[b"one", b"two", b""]);
    store.put_package(&b, &contents).unwrap();
    let (a, contents) = package("a", &[b"three"]);
    store.put_package(&a, &contents).unwrap();
    assert_eq!(store.packages().unwrap(), [a, b.clone()]);
    assert_eq!(store.package(&"b".into()).unwrap().as_ref(), Some(&b));
    for content in [&b"one"[..], b"two", b""] {
        let found = store.content(&Digest::of(content)).unwrap().unwrap();
        assert_eq!(found, content);
    }
}

fn a_package_is_refused_whole(store: &dyn Store) {
    let (record, mut contents) = package("m", &[b"one", b"two"]);
    let two = Digest::of(b"two");
    contents.remove(&two);
    let refused = store.put_package(&record, &contents);
    assert!(
        matches!(&refused, Err(StoreError::MissingPart { digest, .. }) if *digest == two),
        "{refused:?}"
    );
    contents.insert(two, Bytes::from_static(b"three"));
    let refused = store.put_package(&record, &contents);
    assert!(
        matches!(refused, Err(StoreError::WrongDigest { .. })),
        "{refused:?}"
    );
    let (large, contents) = package("m", &[&[7; 101]]);
    let refused = store.put_package(&large, &contents);
    assert!(
        matches!(refused, Err(StoreError::Limit { limit: 100, .. })),
        "{refused:?}"
    );
    assert_eq!(store.packages().unwrap(), []);
    assert_eq!(store.content(&Digest::of(b"one")).unwrap(), None);
    for name in ["a", "b"] {
        let (record, contents) = package(name, &[b"x"]);
        store.put_package(&record, &contents).unwrap();
        store.put_package(&record, &contents).unwrap();
    }
    let (third, contents) = package("c", &[b"x"]);
    let refused = store.put_package(&third, &contents);
    assert!(
        matches!(refused, Err(StoreError::Limit { limit: 2, .. })),
        "{refused:?}"
    );
}

fn contents_live_as_long_as_a_package_names_them(store: &dyn Store) {
    let (a, contents) = package("a", &[b"shared", b"of a"]);
    store.put_package(&a, &contents).unwrap();
    // Already there: need not be given again.
    let (b, _) = package("b", &[b"shared"]);
    store.put_package(&b, &BTreeMap::new()).unwrap();
    assert!(store.remove_package(&"a".into()).unwrap());
    assert_eq!(store.content(&Digest::of(b"of a")).unwrap(), None);
    assert_eq!(
        store.content(&Digest::of(b"shared")).unwrap().unwrap(),
        &b"shared"[..]
    );
    let (b, contents) = package("b", &[b"new"]);
    store.put_package(&b, &contents).unwrap();
    assert_eq!(store.content(&Digest::of(b"shared")).unwrap(), None);
    assert_eq!(
        store.content(&Digest::of(b"new")).unwrap().unwrap(),
        &b"new"[..]
    );
}

fn the_wish_to_serve_is_kept(store: &dyn Store) {
    let (record, contents) = package("m", &[b"x"]);
    store.put_package(&record, &contents).unwrap();
    for loaded in [true, true, false] {
        assert!(store.set_loaded(&"m".into(), loaded).unwrap());
        assert_eq!(store.package(&"m".into()).unwrap().unwrap().loaded, loaded);
    }
}

fn plans_only_go_forward(store: &dyn Store) {
    store.put_plan(&plan(2)).unwrap();
    store.put_plan(&plan(2)).unwrap();
    let mut other = plan(2);
    other.explanation.clear();
    for stale in [plan(1), other] {
        let refused = store.put_plan(&stale);
        assert!(
            matches!(&refused, Err(StoreError::Stale { kept: Generation(2), offered })
                if *offered == stale.generation),
            "{refused:?}"
        );
    }
    store.put_plan(&plan(7)).unwrap();
    assert_eq!(store.plan().unwrap(), Some(plan(7)));
}

fn policies_are_kept_apart_and_exactly(store: &dyn Store) {
    let values = [
        0.1 + 0.2,
        f64::MIN_POSITIVE / 2.0,
        0.0,
        -1.5,
        f64::INFINITY,
        1e300,
    ];
    let ucb: BTreeMap<String, f64> = values
        .iter()
        .enumerate()
        .map(|(number, value)| (format!("value.{number}"), *value))
        .collect();
    store.put_policy("ucb", &ucb).unwrap();
    store.put_policy("ucb/2", &BTreeMap::new()).unwrap();
    let kept = store.policy("ucb").unwrap().unwrap();
    assert_eq!(
        kept.values()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>(),
        ucb.values()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    );
    assert_eq!(store.policy("ucb/2").unwrap(), Some(BTreeMap::new()));
    // Whole: a value that is not named any more is gone.
    store.put_policy("ucb", &BTreeMap::new()).unwrap();
    assert_eq!(store.policy("ucb").unwrap(), Some(BTreeMap::new()));
    // Likewise what operators want.
    for orders in ["{\"drained\":[\"é\"]}", "{}"] {
        store.put_orders(orders).unwrap();
        assert_eq!(store.orders().unwrap().as_deref(), Some(orders));
    }
}

fn numbers_are_never_handed_out_twice(store: &dyn Store) {
    assert_eq!(store.reserve(Counter::Request, 1_000).unwrap(), 1..1_001);
    assert_eq!(store.reserve(Counter::Request, 1).unwrap(), 1_001..1_002);
    assert_eq!(store.reserve(Counter::Request, 0).unwrap(), 1_002..1_002);
    assert_eq!(store.reserve(Counter::Generation, 1).unwrap(), 1..2);
    let refused = store.reserve(Counter::Request, u64::MAX - 5);
    assert!(
        matches!(refused, Err(StoreError::Limit { .. })),
        "{refused:?}"
    );
    assert_eq!(store.reserve(Counter::Request, 1).unwrap(), 1_002..1_003);
}

fn measurements_replace_each_other_up_to_a_bound(store: &dyn Store) {
    let (one, two, three) = (
        measurement(1, "a"),
        measurement(1, "b"),
        measurement(2, "a"),
    );
    store
        .put_measurements(&[three.clone(), one.clone()])
        .unwrap();
    let newer = MeasurementRecord {
        mean_seconds: 0.5,
        ..one
    };
    store
        .put_measurements(&[newer.clone(), two.clone(), newer.clone()])
        .unwrap();
    let all = [newer, two, three];
    assert_eq!(store.measurements().unwrap(), all);
    let refused = store.put_measurements(&[measurement(1, "a"), measurement(3, "a")]);
    assert!(
        matches!(refused, Err(StoreError::Limit { limit: 3, .. })),
        "{refused:?}"
    );
    assert_eq!(store.measurements().unwrap(), all);
    let key = (FragmentId([1; 32]), "a".into());
    store.remove_measurements(&[key.clone(), key]).unwrap();
    assert_eq!(store.measurements().unwrap(), all[1..]);
    store.put_measurements(&[measurement(3, "a")]).unwrap();
}

fn decisions_are_a_ring(store: &dyn Store) {
    let made: Vec<_> = (0..12).map(decision).collect();
    store.append_decisions(&made[..1]).unwrap();
    store.append_decisions(&made[1..4]).unwrap();
    assert_eq!(store.decisions(2).unwrap(), made[2..4]);
    store.append_decisions(&made[4..6]).unwrap();
    assert_eq!(store.decisions(100).unwrap(), made[1..6]);
    store.append_decisions(&made).unwrap();
    assert_eq!(store.decisions(100).unwrap(), made[7..]);
    assert_eq!(store.decisions(0).unwrap(), []);
}
