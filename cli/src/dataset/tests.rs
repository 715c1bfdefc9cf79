//! Data sets on disk: folders, archives, lists, and what is refused.

use std::{fs, path::Path};

use splitplace_graph::Element;
use splitplace_onnx::package::{Channels, Layout, Resize};

use super::*;

fn png(grey: u8) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    let colour = image::ExtendedColorType::L8;
    image::ImageEncoder::write_image(encoder, &[grey; 4], 2, 2, colour).expect("four pixels");
    file.into_inner()
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, bytes).expect("written");
}

fn classes() -> Vec<String> {
    ["T-shirt/top", "Ankle boot"].map(String::from).to_vec()
}

#[test]
fn a_folder_for_each_class_and_the_test_part_of_it() {
    let root = tempfile::tempdir().expect("a folder");
    write(root.path(), "train/ankle_boot/a.png", &png(1));
    write(root.path(), "test/ankle_boot/b.png", &png(2));
    write(root.path(), "test/t-shirt-top/c.PNG", &png(3));
    write(root.path(), "test/t-shirt-top/notes.txt", b"no picture");
    let set = DataSet::open(root.path(), &classes(), None).expect("sound");
    assert_eq!((set.len(), set.label(0), set.label(1)), (2, 1, 0));
    assert!(set.name.ends_with("-test"), "{}", set.name);
    // Without names of classes, folders count in order.
    let set = DataSet::open(root.path(), &[], None).expect("sound");
    assert_eq!((set.label(0), set.label(1)), (0, 1));

    write(root.path(), "test/sandal/d.png", &png(4));
    let error = DataSet::open(root.path(), &classes(), None).expect_err("no such class");
    assert!(error.to_string().contains("'sandal'"), "{error}");
}

#[test]
fn an_archive_is_like_its_folder_and_never_unpacked() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("set.tar");
    let mut tar = tar::Builder::new(fs::File::create(&path).expect("made"));
    for (name, grey) in [
        ("test/1/b.png", 9),
        ("test/0/a.png", 7),
        ("train/0/c.png", 5),
    ] {
        let bytes = png(grey);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..])
            .expect("room");
    }
    tar.into_inner().expect("whole");
    let set = DataSet::open(&path, &classes(), None).expect("sound");
    assert_eq!((set.len(), set.label(0), set.label(1)), (2, 0, 1));
    let preprocess = Preprocess {
        input: "x".into(),
        resize: Resize::Stretch,
        channels: Channels::Grey,
        layout: Layout::Nchw,
        mean: vec![1.0],
        std: vec![2.0],
    };
    let input = TensorSpec {
        name: "x".into(),
        element: Element::F32,
        shape: vec![-1, 1, 2, 2],
        labels: Vec::new(),
    };
    let values = set.values(0, &input, Some(&preprocess)).expect("sound");
    assert_eq!(&values[..4], 3.0_f32.to_le_bytes());
    let error = set.values(0, &input, None).expect_err("it is encoded");
    assert!(error.to_string().contains("[preprocess]"), "{error}");

    let whole = fs::read(&path).expect("there");
    fs::write(&path, &whole[..700]).expect("written");
    assert!(DataSet::open(&path, &classes(), None).is_err());
    let xz = root.path().join("set.tar.xz");
    fs::write(&xz, b"no archive").expect("written");
    assert!(DataSet::open(&xz, &classes(), None).is_err());
}

#[test]
fn a_list_says_the_classes_of_loose_pictures() {
    let root = tempfile::tempdir().expect("a folder");
    write(root.path(), "a.png", &png(1));
    write(root.path(), "b.png", &png(2));
    let list = root.path().join("list.txt");
    fs::write(&list, "# name class\na.png 1\nb.png T-shirt/top\n").expect("written");
    let set = DataSet::open(root.path(), &classes(), Some(&list)).expect("sound");
    assert_eq!((set.label(0), set.label(1)), (1, 0));
    fs::write(&list, "a.png 1\n").expect("written");
    let error = DataSet::open(root.path(), &classes(), Some(&list)).expect_err("b is missing");
    assert!(error.to_string().contains("b.png"), "{error}");
    fs::write(&list, "a.png 7\nb.png 0\n").expect("written");
    assert!(DataSet::open(root.path(), &classes(), Some(&list)).is_err());
    assert!(DataSet::open(root.path(), &classes(), None).is_err());
    // A name that two classes have needs the number.
    let cranes = ["crane", "heron", "crane"].map(String::from);
    fs::write(&list, "a.png 2\nb.png heron\n").expect("written");
    let set = DataSet::open(root.path(), &cranes, Some(&list)).expect("sound");
    assert_eq!((set.label(0), set.label(1)), (2, 1));
    fs::write(&list, "a.png crane\nb.png heron\n").expect("written");
    assert!(DataSet::open(root.path(), &cranes, Some(&list)).is_err());
}

#[test]
fn kept_pictures_are_spread_over_all() {
    let root = tempfile::tempdir().expect("a folder");
    for number in 0..8 {
        write(
            root.path(),
            &format!("{}/{number}.png", number / 4),
            &png(number),
        );
    }
    let mut set = DataSet::open(root.path(), &classes(), None).expect("sound");
    set.keep(4);
    let labels: Vec<u32> = (0..set.len()).map(|at| set.label(at)).collect();
    assert_eq!(labels, [0, 0, 1, 1]);
}
