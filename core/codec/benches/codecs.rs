//! How long are activations in each codec, how fast do they get there and back on one core, and would
//! lz4 or zstd do better on the same numbers?
//!
//! Expected: quantising is a few instructions for 16 elements, rANS about ten cycles a symbol each way, so
//! around a gigabyte of f32 a second, where zstd's fastest level makes 0.4; and shorter than what zstd makes
//! of u8, which finds few matches in noise and is left with its own entropy coder.
//!
//! Speeds are of the thread's own time: other work on the machine makes it slower only through the caches.
//!
//! `SPLITPLACE_ACTIVATIONS=A-64x14x14.f32:B-24x56x56.f32` adds real ones: f32, little-endian, any number of
//! tensors one after the other, each of the shape that the file's name says.

use std::{fs, hint::black_box, path::Path, time::Duration};

use criterion::{Criterion, Throughput};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp1, StandardNormal};
use splitplace_codec::{Codec, Element, Limits, Spec, decode};

/// Tensors of one kind.
struct Case {
    name: String,
    shape: Vec<i64>,
    tensors: Vec<Vec<u8>>,
}

const TENSORS: u64 = 4;

fn case(name: &str, shape: &[i64], element: impl Fn(&mut ChaCha8Rng, f32) -> f32) -> Case {
    let inner: i64 = shape[2..].iter().product();
    let tensor = |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut channels = ChaCha8Rng::seed_from_u64(99);
        let mut bytes = Vec::new();
        for _ in 0..shape[1] {
            // Channels differ in scale, the same way in every tensor.
            let normal: f32 = StandardNormal.sample(&mut channels);
            let scale = (0.5 * normal).exp();
            for _ in 0..inner {
                bytes.extend(element(&mut rng, scale).to_le_bytes());
            }
        }
        bytes
    };
    Case {
        name: name.to_owned(),
        shape: shape.to_vec(),
        tensors: (0..TENSORS).map(tensor).collect(),
    }
}

fn cases() -> Vec<Case> {
    let sparse = |zeros: f64| {
        move |rng: &mut ChaCha8Rng, scale: f32| {
            let value: f32 = Exp1.sample(rng);
            if rng.random_bool(zeros) {
                0.0
            } else {
                scale * value
            }
        }
    };
    let gauss = |rng: &mut ChaCha8Rng, scale: f32| {
        let value: f32 = StandardNormal.sample(rng);
        scale * value
    };
    let mut cases = vec![
        case("30 % zeros", &[1, 64, 28, 28], sparse(0.3)),
        case("60 % zeros", &[1, 64, 28, 28], sparse(0.6)),
        case("85 % zeros", &[1, 64, 28, 28], sparse(0.85)),
        case("97 % zeros", &[1, 64, 28, 28], sparse(0.97)),
        case("bottleneck", &[1, 24, 56, 56], gauss),
        case("small, 60 % zeros", &[1, 64, 7, 7], sparse(0.6)),
    ];
    let files = std::env::var("SPLITPLACE_ACTIVATIONS").unwrap_or_default();
    cases.extend(files.split(':').filter(|path| !path.is_empty()).map(real));
    cases
}

type Turn = Box<dyn Fn(&Spec<'_>, &[u8]) -> Vec<u8>>;

/// As many tensors as are in a file, 64 at most.
fn real(path: &str) -> Case {
    let name = Path::new(path)
        .file_stem()
        .and_then(|name| name.to_str())
        .expect("a file");
    let (name, shape) = name.rsplit_once('-').expect("NAME-CxHxW.f32");
    let dims = shape.split('x').map(|dim| dim.parse().expect("a number"));
    let shape: Vec<i64> = [1].into_iter().chain(dims).collect();
    let bytes = 4 * usize::try_from(shape.iter().product::<i64>()).expect("a shape");
    let file = fs::read(path).expect("a file of activations");
    Case {
        name: name.to_owned(),
        shape,
        tensors: file
            .chunks_exact(bytes)
            .take(64)
            .map(<[u8]>::to_vec)
            .collect(),
    }
}

/// One way of packing a tensor, and back.
struct Way {
    name: String,
    pack: Turn,
    unpack: Turn,
}

fn ours(name: &str) -> Way {
    let codec: Codec = name.parse().expect("a codec");
    Way {
        name: name.to_owned(),
        pack: Box::new(move |spec, bytes| {
            let mut out = Vec::new();
            codec.encode(spec, bytes, &mut out).expect("a tensor");
            out
        }),
        unpack: Box::new(|spec, bytes| decode(bytes, spec, Limits::default()).expect("encoded")),
    }
}

fn shuffle(bytes: &[u8]) -> Vec<u8> {
    let elements = bytes.as_chunks::<4>().0;
    let plane = |at: usize| elements.iter().map(move |element| element[at]);
    (0..4).flat_map(plane).collect()
}

fn unshuffle(bytes: &[u8]) -> Vec<u8> {
    let mut elements = vec![[0; 4]; bytes.len() / 4];
    for (at, plane) in bytes.chunks_exact(elements.len()).enumerate() {
        elements
            .iter_mut()
            .zip(plane)
            .for_each(|(element, byte)| element[at] = *byte);
    }
    elements.into_flattened()
}

/// What lz4 or zstd makes of the bytes of one of our codecs without entropy coding, or of shuffled ones.
fn theirs(form: &str, is_zstd: bool) -> Way {
    let is_shuffled = form == "shuffled";
    let Way { pack, unpack, .. } = ours(if is_shuffled { "raw" } else { form });
    Way {
        name: format!("{form}+{}", if is_zstd { "zstd" } else { "lz4" }),
        pack: Box::new(move |spec, bytes| {
            let bytes = if is_shuffled {
                shuffle(bytes)
            } else {
                pack(spec, bytes)
            };
            match is_zstd {
                true => zstd::bulk::compress(&bytes, 1).expect("memory"),
                false => lz4_flex::block::compress_prepend_size(&bytes),
            }
        }),
        unpack: Box::new(move |spec, bytes| {
            let bytes = match is_zstd {
                true => zstd::bulk::decompress(bytes, spec.bytes().expect("a shape") + 64),
                false => {
                    lz4_flex::block::decompress_size_prepended(bytes).map_err(std::io::Error::other)
                }
            };
            let bytes = bytes.expect("compressed");
            if is_shuffled {
                unshuffle(&bytes)
            } else {
                unpack(spec, &bytes)
            }
        }),
    }
}

fn ways() -> Vec<Way> {
    let mut ways: Vec<Way> = [
        "raw",
        "raw-rans",
        "raw-zrans",
        "f16",
        "f16-rans",
        "f16-zrans",
        "f16-zstd",
        "u8",
        "u8-rans",
        "u8-zrans",
        "u8-crans",
        "u8-zstd",
        "u8c-rans",
        "u8c-zrans",
        "u8c-crans",
        "u6-rans",
        "u6-zrans",
        "u4",
        "u4-rans",
        "u4-zrans",
        "u4-crans",
        "u4-zstd",
        "u4c-rans",
    ]
    .map(ours)
    .into();
    // Zstandard on other forms is a codec of ours.
    ways.extend(["raw", "shuffled"].map(|form| theirs(form, true)));
    ways.extend(["raw", "shuffled", "f16", "u8", "u4"].map(|form| theirs(form, false)));
    ways
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What this thread has computed so far: waiting for others to get off the core is no part of it.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("not negative")
}

/// Median bytes of f32 per second over the samples that criterion takes.
fn speed(c: &mut Criterion, case: &Case, way: &str, what: &str, run: impl Fn(usize)) -> f64 {
    let bytes = case.tensors[0].len() as f64;
    let mut samples = Vec::new();
    let mut group = c.benchmark_group(&case.name);
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(format!("{way} {what}"), |b| {
        b.iter_custom(|rounds| {
            let begin = cpu_time();
            (0..rounds).for_each(|round| run(round as usize % case.tensors.len()));
            let elapsed = cpu_time().saturating_sub(begin);
            samples.push(bytes * rounds as f64 / elapsed.as_secs_f64());
            elapsed
        });
    });
    group.finish();
    median(samples)
}

fn main() {
    let mut c = Criterion::default()
        .sample_size(11)
        .nresamples(1000)
        .warm_up_time(Duration::from_millis(20))
        .measurement_time(Duration::from_millis(80))
        .without_plots()
        .configure_from_args();
    let mut tables = Vec::new();
    for case in cases() {
        let spec = Spec {
            element: Element::F32,
            shape: &case.shape,
        };
        let bytes = case.tensors[0].len();
        tables.push(format!(
            "\n{}, shape {:?}, {bytes} bytes\n\n| codec | bytes | smaller by | encode MB/s | decode MB/s |\n\
             |---|--:|--:|--:|--:|",
            case.name, case.shape,
        ));
        for way in ways() {
            let packed: Vec<Vec<u8>> = case
                .tensors
                .iter()
                .map(|tensor| (way.pack)(&spec, tensor))
                .collect();
            let size = packed.iter().map(Vec::len).sum::<usize>() as f64 / packed.len() as f64;
            let encode = speed(&mut c, &case, &way.name, "encode", |at| {
                black_box((way.pack)(&spec, black_box(&case.tensors[at])));
            });
            let decode = speed(&mut c, &case, &way.name, "decode", |at| {
                black_box((way.unpack)(&spec, black_box(&packed[at])));
            });
            tables.push(format!(
                "| {} | {size:.0} | {:.2} | {:.0} | {:.0} |",
                way.name,
                bytes as f64 / size,
                encode / 1e6,
                decode / 1e6,
            ));
        }
    }
    c.final_summary();
    println!("Medians; MB/s of f32 on one core.");
    tables.iter().for_each(|line| println!("{line}"));
}
