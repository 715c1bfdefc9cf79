//! Damaged and malicious files: an error that says what is wrong, never a panic.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::Path};

use proptest::prelude::*;
use prost::Message;
use splitplace_onnx::{Error, Limits, Model, Package, import};
use tract_onnx::pb::ModelProto;

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models/testdata")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(testdata(name)).unwrap()
}

fn proto(name: &str) -> ModelProto {
    ModelProto::decode(&bytes(name)[..]).unwrap()
}

fn try_import(bytes: Vec<u8>) -> Result<(), Error> {
    let limits = Limits::default();
    let model = Model::from_bytes("hostile", bytes.into(), &limits)?;
    import(model, &limits).map(drop)
}

fn fails(proto: &ModelProto) -> String {
    try_import(proto.encode_to_vec()).unwrap_err().to_string()
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = bytes("several.onnx");
    for end in 0..whole.len() {
        let _ = try_import(whole[..end].to_vec());
    }
    assert!(try_import(Vec::new()).is_err());
    assert!(try_import(whole[..whole.len() / 2].to_vec()).is_err());
}

#[test]
fn the_message_names_node_and_reason() {
    let mut unknown = proto("several.onnx");
    let node = &mut unknown.graph.as_mut().unwrap().node[0];
    node.op_type = "Teleport".into();
    node.name = "the-odd-one".into();
    let said = fails(&unknown);
    assert!(
        said.contains("hostile") && said.contains("Teleport"),
        "{said}"
    );

    let mut cyclic = proto("several.onnx");
    let graph = cyclic.graph.as_mut().unwrap();
    let last = graph.output[1].name.clone();
    graph.node[0].input[0] = last;
    let said = fails(&cyclic);
    assert!(said.contains("cycle"), "{said}");

    let mut dangling = proto("several.onnx");
    dangling.graph.as_mut().unwrap().node[1].input[0] = "from-nowhere".into();
    let said = fails(&dangling);
    assert!(
        said.contains("from-nowhere") || said.contains("cannot be"),
        "{said}"
    );

    let mut empty = proto("several.onnx");
    empty.graph.as_mut().unwrap().output.clear();
    assert!(fails(&empty).contains("no output"));
}

#[test]
fn absurd_shapes_allocate_nothing() {
    let mut huge = proto("residual.onnx");
    huge.graph.as_mut().unwrap().initializer[0].dims = vec![1 << 40, 1 << 20];
    assert!(fails(&huge).contains("tensor"));
    let mut lying = proto("residual.onnx");
    lying.graph.as_mut().unwrap().initializer[0].dims = vec![1 << 20];
    assert!(fails(&lying).contains("bytes"));
    let mut negative = proto("residual.onnx");
    negative.graph.as_mut().unwrap().initializer[0].dims = vec![-4];
    fails(&negative);
}

#[test]
fn external_data_stays_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(folder.path().join("secret.bin"), vec![0; 1 << 16]).unwrap();
    let place = |location: &str| {
        let mut model = proto("external.onnx");
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            for entry in tensor
                .external_data
                .iter_mut()
                .filter(|e| e.key == "location")
            {
                entry.value = location.into();
            }
        }
        let path = inner.join("model.onnx");
        fs::write(&path, model.encode_to_vec()).unwrap();
        Model::open(&path, &Limits::default())
            .unwrap_err()
            .to_string()
    };
    assert!(place("../secret.bin").contains("leaves the model's folder"));
    assert!(place("/etc/hostname").contains("leaves the model's folder"));
    assert!(place("").contains("leaves the model's folder"));
    assert!(place("missing.bin").contains("missing.bin"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.bin", inner.join("link.bin")).unwrap();
        assert!(place("link.bin").contains("through a link"));
    }
    fs::write(inner.join("short.bin"), [0; 3]).unwrap();
    assert!(place("short.bin").contains("has 3 bytes"));
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let limits = Limits {
        model_bytes: 100,
        ..Limits::default()
    };
    assert!(Model::open(&testdata("residual.onnx"), &limits).is_err());
    assert!(Model::open(Path::new("/dev/zero"), &limits).is_err());
}

#[test]
fn a_package_is_what_its_manifest_says() {
    let limits = Limits::default();
    let source = testdata("../packages/simple");
    let manifest = fs::read_to_string(source.join("package.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = |text: &str, model: &[u8]| {
        fs::write(folder.path().join("package.toml"), text).unwrap();
        fs::write(folder.path().join("model.onnx"), model).unwrap();
        Package::open(folder.path(), &limits)
    };
    let model = fs::read(source.join("model.onnx")).unwrap();
    let package = open(&manifest, &model).unwrap();
    assert_eq!((package.name.as_str(), package.inputs.len()), ("simple", 2));
    let mut other = model.clone();
    other.push(0);
    let said = |text: &str, model: &[u8]| open(text, model).unwrap_err().to_string();
    assert!(said(&manifest, &other).contains("not the one that was measured"));
    assert!(said(&manifest.replace("model.onnx", "../x.onnx"), &model).contains("outside"));
    assert!(said(&manifest.replace("\"simple\"", "\"Sim ple\""), &model).contains("no name"));
    assert!(said(&manifest.replace("licence", "license"), &model).contains("license"));
    assert!(said(&manifest.replace("INT32", "INT33"), &model).contains("INT33"));
    assert!(said(&manifest.replace("whole", "half"), &model).contains("half"));
}

#[test]
fn a_bare_file_is_a_package_with_one_variant() {
    let package = Package::open(&testdata("external.onnx"), &Limits::default()).unwrap();
    assert_eq!(package.name, "external");
    assert_eq!(package.inputs[0].shape, [-1, 4, 8, 8]);
    assert_eq!(package.outputs[0].shape, [-1, 6]);
    // Its weights are inside now.
    assert!(
        Model::from_bytes(
            "x",
            package.variants[0].parts[0].content.clone(),
            &Limits::default()
        )
        .is_ok()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn flipped_bits_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6),
    ) {
        let mut damaged = bytes("several.onnx");
        for (place, bit) in flips {
            let place = place.index(damaged.len());
            damaged[place] ^= 1 << bit;
        }
        let _ = try_import(damaged);
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = try_import(noise);
    }
}
