//! Folders listed and loaded, packages taken apart and kept, and everything that can be wrong.

pub(crate) mod sample;

use std::time::Duration;

use splitplace_fleet::{Node, NodeState};
use splitplace_onnx::{Costs, package::VariantKind};
use splitplace_proto::data::DType;

use super::*;
use crate::{
    measured::{Measured, MeasuredSettings, Ran, ServiceTime},
    store::{MemoryStore, StoreLimits},
};

const CHANNELS: [i64; 4] = [4, 8, 8, 4];

struct Repository {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Repository {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            store: Arc::new(MemoryStore::new(StoreLimits::default())),
        }
    }

    fn catalog(&self) -> Catalog {
        let folders = vec![self.folder.path().to_owned()];
        Catalog::new(folders, Arc::clone(&self.store), LoadSettings::default())
    }
}

/// The sample package, loaded with these settings.
pub(crate) fn sample(settings: &LoadSettings, channels: &[i64]) -> Loaded {
    named("sample", settings, channels)
}

pub(crate) fn named(name: &str, settings: &LoadSettings, channels: &[i64]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    sample::write_package(folder.path(), name, channels);
    let package = Package::open(&folder.path().join(name), &settings.limits).unwrap();
    Loaded::open(package, settings).unwrap()
}

pub(crate) fn rich() -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    sample::write_rich_package(folder.path());
    let settings = LoadSettings::default();
    let package = Package::open(&folder.path().join("rich"), &settings.limits).unwrap();
    Loaded::open(package, &settings).unwrap()
}

fn reason(result: Result<Loaded, CatalogError>) -> String {
    result.expect_err("it should be refused").to_string()
}

#[test]
fn folders_and_store_are_listed_together() {
    let repository = Repository::new();
    let folder = repository.folder.path();
    sample::write_package(folder, "sample", &CHANNELS);
    fs::write(folder.join("Bare Model.onnx"), sample::network(&[2], 3, 1)).unwrap();
    fs::create_dir(folder.join("broken")).unwrap();
    fs::write(folder.join("broken/package.toml"), "format = ").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(folder.join("notes.txt"), "not a model").unwrap();
    let catalog = repository.catalog();
    catalog.load(&"sample".into()).unwrap();
    let listed = catalog.list().unwrap();
    let names: Vec<_> = listed.iter().map(|listing| listing.name.as_str()).collect();
    assert_eq!(names, ["bare-model", "broken", "sample"]);
    assert!(
        listed[1]
            .problem
            .as_ref()
            .is_some_and(|told| told.contains("package.toml"))
    );
    let sample = &listed[2];
    assert!(sample.is_stored && sample.is_wanted && sample.problem.is_none());
    assert_eq!(sample.version.as_deref(), Some("3"));
    fs::remove_dir_all(folder.join("sample")).unwrap();
    catalog.unload(&"sample".into()).unwrap();
    let listed = catalog.list().unwrap();
    assert_eq!(listed[2].folder, None);
    assert!(listed[2].is_stored && !listed[2].is_wanted);
}

#[test]
fn what_was_loaded_comes_back_from_the_store_alone() {
    let repository = Repository::new();
    let folder = repository.folder.path();
    sample::write_package(folder, "sample", &CHANNELS);
    fs::write(folder.join("bare.onnx"), sample::network(&CHANNELS, 3, 1)).unwrap();
    let catalog = repository.catalog();
    let names: [ModelName; 2] = ["bare".into(), "sample".into()];
    let before: Vec<_> = names
        .iter()
        .map(|name| catalog.load(name).unwrap())
        .collect();
    assert_eq!(catalog.wanted().unwrap(), names);
    let elsewhere = Catalog::new(
        vec![],
        Arc::clone(&repository.store),
        LoadSettings::default(),
    );
    for (name, before) in names.iter().zip(&before) {
        let after = elsewhere.restore(name).unwrap();
        assert_eq!(after.inputs(), before.inputs());
        assert_eq!(after.outputs(), before.outputs());
        assert_eq!(after.properties(), before.properties());
        assert_eq!(after.default_sla(), before.default_sla());
        assert_eq!(after.fragment_ids(), before.fragment_ids());
        elsewhere.unload(name).unwrap();
        assert_eq!(elsewhere.load(name).unwrap().version(), before.version());
    }
    assert_eq!(elsewhere.wanted().unwrap(), names);
}

#[test]
fn names_that_nobody_has_are_unknown_even_if_they_are_paths() {
    let repository = Repository::new();
    sample::write_package(repository.folder.path(), "sample", &CHANNELS);
    for name in ["other", "", "../sample", "sample/base.onnx", "/etc/passwd"] {
        let name = ModelName::new(name);
        let catalog = repository.catalog();
        assert!(matches!(
            catalog.load(&name),
            Err(CatalogError::Unknown { .. })
        ));
        assert!(matches!(
            catalog.restore(&name),
            Err(CatalogError::Unknown { .. })
        ));
        assert!(matches!(
            catalog.unload(&name),
            Err(CatalogError::Unknown { .. })
        ));
    }
    repository.catalog().unload(&"sample".into()).unwrap();
}

#[test]
fn two_entries_of_one_name_and_missing_folders_are_reported() {
    let repository = Repository::new();
    let folder = repository.folder.path();
    sample::write_package(folder, "sample", &CHANNELS);
    fs::rename(folder.join("sample"), folder.join("other")).unwrap();
    sample::write_package(folder, "sample", &CHANNELS);
    let listed = repository.catalog().list().unwrap();
    assert!(listed.len() == 1 && listed[0].also.is_some(), "{listed:?}");
    let found = repository.catalog().load(&"sample".into());
    assert!(
        matches!(found, Err(CatalogError::Ambiguous { .. })),
        "{found:?}"
    );
    let nowhere = Catalog::new(
        vec![folder.join("nowhere")],
        Arc::clone(&repository.store),
        LoadSettings::default(),
    );
    let found = nowhere.list();
    assert!(
        matches!(found, Err(CatalogError::Folder { .. })),
        "{found:?}"
    );
}

#[test]
fn a_package_that_does_not_load_is_not_kept() {
    let repository = Repository::new();
    let folder = repository.folder.path();
    sample::write_package(folder, "sample", &CHANNELS);
    fs::write(folder.join("sample/base.onnx"), b"something else").unwrap();
    let told = reason(repository.catalog().load(&"sample".into()));
    assert!(told.contains("base.onnx"), "{told}");
    assert_eq!(repository.store.packages().unwrap(), []);
}

#[test]
fn parts_must_take_and_give_what_the_package_says() {
    for (from, to, named) in [
        ("shape = [-1, 1, 8, 8]", "shape = [-1, 1, 9, 8]", "'image'"),
        ("name = \"image\"", "name = \"picture\"", "'image'"),
        ("name = \"scores\"", "name = \"answers\"", "'answers'"),
        ("shape = [-1, 10]", "shape = [10, 1]", "class"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        sample::write_package(folder.path(), "sample", &CHANNELS);
        let place = folder.path().join("sample/package.toml");
        let manifest = fs::read_to_string(&place).unwrap().replace(from, to);
        fs::write(&place, manifest).unwrap();
        let settings = LoadSettings::default();
        let opened = Package::open(&folder.path().join("sample"), &settings.limits);
        let opened = opened.map_err(CatalogError::from);
        let told = reason(opened.and_then(|package| Loaded::open(package, &settings)));
        assert!(told.contains(named), "{from} -> {to}: {told}");
    }
}

#[test]
fn a_package_is_taken_apart() {
    let loaded = sample(&LoadSettings::default(), &CHANNELS);
    assert_eq!((loaded.name().as_str(), loaded.version()), ("sample", "3"));
    assert_eq!(loaded.default_sla(), Duration::from_millis(60));
    let (input, output) = (&loaded.inputs()[0], &loaded.outputs()[0]);
    assert_eq!(
        (input.dtype, &input.shape[..]),
        (DType::Fp32, &[-1, 1, 8, 8][..])
    );
    assert_eq!((output.name.as_str(), output.labels.len()), ("scores", 10));
    assert_eq!(
        loaded.properties()["variant.semantic.kind"],
        "semantic, 2 branches"
    );
    let [base, semantic] = loaded.variants() else {
        panic!("two variants were written");
    };
    assert_eq!((base.kind, base.accuracy), (VariantKind::Whole, Some(0.93)));
    assert_eq!(semantic.parts.len(), 2);
    assert!(semantic.merge.is_some());
    assert_eq!(semantic.parts[1].classes, [1, 3, 5, 7, 9]);
    let part = &base.parts[0];
    // Two layers for each stage, flattening, and the product.
    assert_eq!(part.segments(), 2 * CHANNELS.len() + 2);
    assert_eq!(part.crossing(0), ["image"]);
    assert_eq!(part.crossing(part.segments()), ["scores"]);
    assert_eq!(part.crossing_bytes(0), 64 * 4);
    assert_eq!(part.crossing_bytes(part.segments()), 10 * 4);
    // A convolution of 3 × 3 from 4 to 8 channels on 8 × 8 places.
    assert_close(
        part.facts.atoms[2].features.gmac() * 1e9,
        64.0 * 9.0 * 4.0 * 8.0,
    );
    assert_eq!(part.facts.atoms[2].parameter_bytes, 9 * 4 * 8 * 4);
    assert!(loaded.package().variants[0].parts[0].content.is_empty());
}

fn assert_close(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() <= 1e-9 * wanted,
        "{found} is not {wanted}"
    );
}

#[test]
fn coarse_segments_keep_the_cheap_boundaries() {
    let settings = LoadSettings {
        segments: 3,
        ..LoadSettings::default()
    };
    let fine = sample(&LoadSettings::default(), &CHANNELS);
    let coarse = sample(&settings, &CHANNELS);
    let [fine, coarse] = [&fine, &coarse].map(|loaded| &loaded.variants()[0].parts[0]);
    assert_eq!(coarse.segments(), 3);
    let mut all: Vec<u64> = (1..fine.segments())
        .map(|at| fine.crossing_bytes(at))
        .collect();
    all.sort_unstable();
    let mut kept: Vec<u64> = (1..3).map(|at| coarse.crossing_bytes(at)).collect();
    kept.sort_unstable();
    assert_eq!(kept, all[..2]);
    let gmac = |part: &LoadedPart| part.facts.features(0..part.segments()).gmac();
    assert_close(gmac(fine), gmac(coarse));
}

#[test]
fn fragments_fit_together_and_keep_their_names() {
    let loaded = sample(&LoadSettings::default(), &CHANNELS);
    let part = &loaded.variants()[0].parts[0];
    let count = part.segments();
    for cut in 1..count {
        let (front, back) = (
            loaded.fragment(0, 0, 0..cut).unwrap(),
            loaded.fragment(0, 0, cut..count).unwrap(),
        );
        let given: Vec<_> = front.outputs.iter().map(|port| port.name.clone()).collect();
        assert_eq!(given, part.crossing(cut));
        assert_eq!(front.outputs, back.inputs);
        assert_eq!(loaded.fragment_id(0, 0, 0..cut), Some(front.id));
        assert_eq!(front.id.0, Digest::of(&front.onnx).0);
    }
    // The same package cut elsewhere, with hardly any memory for what was cut.
    let settings = LoadSettings {
        kept_bytes: 1,
        ..LoadSettings::default()
    };
    let again = sample(&settings, &CHANNELS);
    for segments in [0..count, 2..5, 0..count] {
        assert_eq!(
            again.fragment(0, 0, segments.clone()).unwrap(),
            loaded.fragment(0, 0, segments).unwrap()
        );
    }
    assert_eq!(again.kept_count(), 1);
}

#[test]
fn what_is_not_yet_measured_is_to_be_profiled() {
    let loaded = sample(&LoadSettings::default(), &CHANNELS);
    let mut measured = Measured::new(MeasuredSettings::default(), Costs::shipped().unwrap());
    let plan = profile_plan(&loaded, &measured).unwrap();
    let segments: usize = loaded
        .variants()
        .iter()
        .flat_map(|variant| &variant.parts)
        .map(|part| part.segments() + 1)
        .sum();
    // The branches' rectifiers are of equal shape and have no weights; everything else differs.
    let ids: std::collections::BTreeSet<_> = plan.iter().map(|p| p.fragment.id).collect();
    assert_eq!(ids.len(), plan.len());
    assert!(
        plan.len() <= segments && segments - 10 < plan.len(),
        "{} of {segments}",
        plan.len()
    );
    assert_eq!(plan[0].label, "sample/base/base.onnx/0-1");
    let node = Node {
        id: "a".into(),
        state: NodeState::Alive,
        cores: 1,
        macs_per_second: 1e9,
        memory_bytes: 1 << 30,
        labels: BTreeMap::new(),
        emulated: false,
    };
    for profiled in &plan[1..] {
        let service = ServiceTime::new(5, 1e-3, 0.0);
        measured.observe(&node, profiled.fragment.id, Ran::Alone, service, Some(1));
    }
    assert_eq!(profile_plan(&loaded, &measured).unwrap(), plan[..1]);
}

/// Graphs of every shape: residual, dense and inception blocks, attention, several inputs and outputs,
/// external data. Tensors that pass by a fragment are carried by the frame.
#[test]
fn chains_of_the_test_models_hold_together() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/testdata");
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(StoreLimits::default()));
    let catalog = Catalog::new(vec![folder], store, LoadSettings::default());
    let listed = catalog.list().unwrap();
    assert!(listed.len() >= 8, "{listed:?}");
    let mut longest = 0;
    for listing in listed {
        let loaded = catalog.load(&listing.name).unwrap();
        assert_eq!(
            catalog.restore(&listing.name).unwrap().fragment_ids(),
            loaded.fragment_ids()
        );
        let part = &loaded.variants()[0].parts[0];
        longest = longest.max(part.segments());
        assert!(part.segments() <= LoadSettings::default().segments);
        for segment in 0..part.segments() {
            let fragment = loaded.fragment(0, 0, segment..segment + 1).unwrap();
            let arrives = part.crossing(segment);
            for port in &fragment.inputs {
                assert!(
                    arrives.contains(&port.name),
                    "{}: {}",
                    listing.name,
                    port.name
                );
            }
            for name in part.crossing(segment + 1) {
                let is_made = fragment.outputs.iter().any(|port| port.name == *name);
                assert!(
                    is_made || arrives.contains(name),
                    "{}: {name}",
                    listing.name
                );
            }
        }
        let outputs: Vec<_> = loaded
            .outputs()
            .into_iter()
            .map(|facts| facts.name)
            .collect();
        assert_eq!(part.crossing(part.segments()), outputs);
    }
    assert!(longest > 4, "{longest}");
}
