//! Small sound packages, written to disk by the tests themselves.
//!
//! The few messages of the ONNX schema that these models need are declared here by their field
//! numbers, so that no engine has to be named.

use std::{fs, path::Path};

use prost::Message;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::store::Digest;

#[derive(Clone, PartialEq, Message)]
struct ModelFile {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphMessage {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Weights>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Weights {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    parameter: Option<String>,
}

const FLOAT: i32 = 1;

fn value(name: &str, dims: &[i64]) -> Value {
    let batch = Dimension {
        value: None,
        parameter: Some("batch".into()),
    };
    let fixed = dims.iter().map(|&dim| Dimension {
        value: Some(dim),
        parameter: None,
    });
    let shape = Shape {
        dim: [batch].into_iter().chain(fixed).collect(),
    };
    let tensor = Tensor {
        elem_type: FLOAT,
        shape: Some(shape),
    };
    Value {
        name: name.to_owned(),
        kind: Some(Kind {
            tensor: Some(tensor),
        }),
    }
}

fn weights(name: &str, dims: &[i64], rng: &mut ChaCha8Rng) -> Weights {
    let count = dims.iter().product::<i64>();
    let values = (0..count).flat_map(|_| rng.random_range(-0.1..0.1f32).to_le_bytes());
    Weights {
        dims: dims.to_vec(),
        data_type: FLOAT,
        name: name.to_owned(),
        raw_data: values.collect(),
    }
}

fn ints(name: &str, ints: &[i64]) -> Attribute {
    Attribute {
        name: name.to_owned(),
        ints: ints.to_vec(),
        kind: 7,
    }
}

fn node(kind: &str, name: &str, input: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    Node {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: name.to_owned(),
        op_type: kind.to_owned(),
        attribute,
    }
}

/// A network of no layers yet, from `image` of 1 × 8 × 8 to `scores` of `classes`.
fn from_image_to_scores(classes: i64) -> GraphMessage {
    GraphMessage {
        name: "network".into(),
        input: vec![value("image", &[1, 8, 8])],
        output: vec![value("scores", &[classes])],
        ..GraphMessage::default()
    }
}

/// The file of a network whose last layer of `channels` is `from`: a matrix product makes the scores of it.
fn finished(
    mut graph: GraphMessage,
    (from, channels): (&str, i64),
    classes: i64,
    rng: &mut ChaCha8Rng,
) -> Vec<u8> {
    graph
        .node
        .push(node("Flatten", "flatten", &[from], "flat", vec![]));
    let dims = [channels * 64, classes];
    graph.initializer.push(weights("matrix", &dims, rng));
    let product = node("MatMul", "product", &["flat", "matrix"], "scores", vec![]);
    graph.node.push(product);
    let file = ModelFile {
        ir_version: 8,
        opset_import: vec![Opset { version: 17 }],
        graph: Some(graph),
    };
    file.encode_to_vec()
}

/// `image` of 1 × 8 × 8, a 3 × 3 convolution with a rectifier for each of `channels`, and a matrix
/// product to `scores` of `classes`.
pub(crate) fn network(channels: &[i64], classes: i64, seed: u64) -> Vec<u8> {
    network_with_exits(channels, classes, seed, &[])
}

/// The same, with an early exit behind each of the stages named: `exit1`, `exit2`.
pub(crate) fn network_with_exits(
    channels: &[i64],
    classes: i64,
    seed: u64,
    exits: &[usize],
) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut graph = from_image_to_scores(classes);
    let (mut from, mut width) = ("image".to_owned(), 1);
    for (stage, &channels) in channels.iter().enumerate() {
        let kernel = format!("kernel{stage}");
        let (conv, relu) = (format!("conv{stage}"), format!("relu{stage}"));
        let dims = [channels, width, 3, 3];
        graph.initializer.push(weights(&kernel, &dims, &mut rng));
        let attributes = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4])];
        let taken = [from.as_str(), &kernel];
        graph
            .node
            .push(node("Conv", &conv, &taken, &conv, attributes));
        graph
            .node
            .push(node("Relu", &relu, &[&conv], &relu, vec![]));
        (from, width) = (relu, channels);
        if let Some(number) = exits.iter().position(|&exit| exit == stage) {
            let exit = format!("exit{}", number + 1);
            let (flat, matrix) = (format!("{exit}-flat"), format!("{exit}-matrix"));
            let dims = [width * 64, classes];
            graph.initializer.push(weights(&matrix, &dims, &mut rng));
            let flatten = node("Flatten", &flat, &[&from], &flat, vec![]);
            let product = node("MatMul", &exit, &[&flat, &matrix], &exit, vec![]);
            graph.node.extend([flatten, product]);
            graph.output.push(value(&exit, &[classes]));
        }
    }
    finished(graph, (&from, width), classes, &mut rng)
}

/// The same input and output, with a contracting half of `levels` convolutions and an expanding one that adds to each
/// level what its mirror made: so many tensors cross in the middle.
pub(crate) fn network_with_skips(levels: usize, classes: i64, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut graph = from_image_to_scores(classes);
    let channels = 4;
    let mut convolve = |graph: &mut GraphMessage, from: &str, width: i64, to: &str| {
        let kernel = format!("{to}-kernel");
        let dims = [channels, width, 3, 3];
        graph.initializer.push(weights(&kernel, &dims, &mut rng));
        let attributes = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4])];
        graph
            .node
            .push(node("Conv", to, &[from, &kernel], to, attributes));
    };
    let mut from = ("image".to_owned(), 1);
    for level in 0..levels {
        let down = format!("down{level}");
        convolve(&mut graph, &from.0, from.1, &down);
        from = (down, channels);
    }
    for level in (0..levels - 1).rev() {
        let (up, sum) = (format!("up{level}"), format!("sum{level}"));
        convolve(&mut graph, &from.0, from.1, &up);
        let skipped = format!("down{level}");
        graph
            .node
            .push(node("Add", &sum, &[&up, &skipped], &sum, vec![]));
        from = (sum, channels);
    }
    finished(graph, (&from.0, channels), classes, &mut rng)
}

/// A part's table in the manifest.
fn part(file: &str, content: &[u8], classes: &str) -> String {
    let hash = Digest::of(content);
    format!("[[variant.part]]\nfile = \"{file}\"\nsha256 = \"{hash}\"\n{classes}\n")
}

/// Writes a package `name` into `folder`: `base` with these channels, and `semantic` with two
/// branches of half of them over the even and the odd classes of ten.
pub(crate) fn write_package(folder: &Path, name: &str, channels: &[i64]) {
    let place = folder.join(name);
    fs::create_dir_all(&place).unwrap();
    let half: Vec<i64> = channels.iter().map(|channels| channels / 2).collect();
    let base = network(channels, 10, 1);
    let branches = [network(&half, 5, 2), network(&half, 5, 3)];
    let manifest = format!(
        r#"
format = 1
[package]
name = "{name}"
version = "3"
description = "for tests"
licence = "Apache-2.0"
default_sla_ms = 60
[[input]]
name = "image"
datatype = "FP32"
shape = [-1, 1, 8, 8]
[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 10]
labels = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
[[variant]]
name = "base"
kind = "whole"
{}
[variant.accuracy]
top1 = 0.93
samples = 10000
dataset = "made up"
[[variant]]
name = "semantic"
kind = "semantic"
merge = "log-odds"
missing_score = -4.0
{}{}
[variant.accuracy]
top1 = 0.91
samples = 10000
dataset = "made up"
"#,
        part("base.onnx", &base, ""),
        part("semantic-0.onnx", &branches[0], "classes = [0, 2, 4, 6, 8]"),
        part("semantic-1.onnx", &branches[1], "classes = [1, 3, 5, 7, 9]"),
    );
    fs::write(place.join("base.onnx"), base).unwrap();
    for (number, branch) in branches.into_iter().enumerate() {
        fs::write(place.join(format!("semantic-{number}.onnx")), branch).unwrap();
    }
    fs::write(place.join("package.toml"), manifest).unwrap();
}

/// Writes a package `rich`: `base` of four stages with exits behind the first two, measured together with
/// codecs at every cut, and a `student`. Of all requests 40 % are expected to leave at the first exit
/// and 30 % at the second.
pub(crate) fn write_rich_package(folder: &Path) {
    let place = folder.join("rich");
    fs::create_dir_all(&place).unwrap();
    let base = network_with_exits(&[8, 16, 16, 8], 10, 5, &[0, 1]);
    let student = network(&[4, 4], 10, 6);
    let manifest = format!(
        r#"
format = 1
[package]
name = "rich"
version = "1"
description = "for tests"
licence = "Apache-2.0"
default_sla_ms = 60
[[input]]
name = "image"
datatype = "FP32"
shape = [-1, 1, 8, 8]
[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 10]
[preprocess]
input = "image"
resize = "stretch"
channels = "grey"
layout = "nchw"
mean = [0.0]
std = [1.0]
[[variant]]
name = "base"
kind = "whole"
{}
[[variant.exit]]
name = "first"
output = "exit1"
threshold = 0.8
[[variant.exit]]
name = "second"
output = "exit2"
threshold = 0.9
[variant.accuracy]
top1 = 0.93
samples = 10000
dataset = "made up"
[[variant]]
name = "student"
kind = "whole"
technique = "student"
{}
[variant.accuracy]
top1 = 0.90
samples = 10000
dataset = "made up"
"#,
        part("base.onnx", &base, ""),
        part("student.onnx", &student, ""),
    );
    fs::write(place.join("base.onnx"), &base).unwrap();
    fs::write(place.join("student.onnx"), &student).unwrap();
    fs::write(place.join("package.toml"), manifest).unwrap();
    // Behind the rectifier of each stage: layers in canonical order, heads before the trunk.
    let cuts = [
        (2u64, "relu0", 8),
        (4, "relu0", 8),
        (6, "relu1", 16),
        (8, "relu1", 16),
    ];
    let cuts = cuts.map(|(position, tensor, channels)| {
        let raw = channels * 64 * 4;
        format!(
            r#"
[[variant.cut]]
position = {position}
tensors = ["{tensor}"]
raw_bytes = {raw}
macs_before = 1
samples = 1000
top1 = 0.93
[[variant.cut.codec]]
name = "u8-rans"
bytes = {}.0
bytes_p95 = {raw}
top1 = 0.9295
encode = 1e-5
decode = 1e-5
[[variant.cut.codec]]
name = "u4-rans"
bytes = {}.0
bytes_p95 = {raw}
top1 = 0.80
encode = 1e-5
decode = 1e-5
"#,
            raw / 8,
            raw / 20
        )
    });
    let head = |name: &str, output: &str, next: &str| {
        format!(
            r#"
[[variant.exit]]
name = "{name}"
output = "{output}"
macs = 100
head_macs = 10
latency = {{ mean = 1e-4, p95 = 2e-4 }}
top1 = 0.8
edges = [0.5]
share = [0.5, 0.5]
correct = [0.7, 0.9]
{next}
"#
        )
    };
    let next = "next = [[0.5, 0.5], [0.5, 0.5]]";
    let measured = format!(
        r#"
format = 1
[data]
name = "made up"
sha256 = "{}"
samples = 10000
[machine]
engine = "none"
cores = 1
macs_per_second = 1e9
[[variant]]
name = "base"
files = {{ "base.onnx" = "{}" }}
top1 = 0.93
macs = 1000
parameter_bytes = 1000
file_bytes = {}
memory_bytes = 1000
latency = {{ mean = 1e-4, p95 = 2e-4 }}
[variant.thresholds]
tolerance = 0.005
[variant.thresholds.common]
thresholds = [0.8, 0.8]
top1 = 0.92
macs_share = 0.6
leave = [0.4, 0.3, 0.3]
held_out_top1 = 0.92
held_out_macs_share = 0.6
[variant.thresholds.each]
thresholds = [0.8, 0.9]
top1 = 0.926
macs_share = 0.6
leave = [0.4, 0.3, 0.3]
held_out_top1 = 0.92
held_out_macs_share = 0.6
{}{}{}{}
"#,
        Digest::of(b"pictures"),
        Digest::of(&base),
        base.len(),
        head("first", "exit1", next),
        head("second", "exit2", next),
        head("final", "scores", ""),
        cuts.concat(),
    );
    fs::write(place.join("measured.toml"), measured).unwrap();
}
