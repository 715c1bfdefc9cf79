//! Networks to part, from files and packages: what can cross in which way, and every layer's time on this machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use splitplace_codec::Codec;
use splitplace_graph::{Cut, Element, OutletId};
use splitplace_onnx::{
    Imported, Limits, Model, Package, PictureLimits, Prepared, Preprocess, cut_layers, import,
    prepare,
    tables::{FINAL, VariantTable},
};
use splitplace_plan::{
    Way,
    partition::{Network, exits::Exit},
};

use super::clock::{self, Coding};

/// A network whose layers have been timed.
pub(in crate::command::lab) struct Source {
    /// Its name in tables.
    pub(in crate::command::lab) name: String,
    /// The model behind it.
    pub(in crate::command::lab) imported: Imported,
    /// Seconds of each layer of the graph on this machine, one core.
    pub(in crate::command::lab) seconds: Vec<f64>,
    /// Seconds of the whole in one piece.
    pub(in crate::command::lab) whole: f64,
    /// What was run to know that: layers of the graph, and seconds.
    pub(in crate::command::lab) segments: Vec<(BTreeSet<usize>, f64)>,
    /// Bytes of the picture's file and seconds to make the input of it, where clients may send one.
    pub(in crate::command::lab) picture: Option<(u64, f64)>,
    /// Exits with their names, the network's end last; empty without exits.
    pub(in crate::command::lab) exits: Vec<(String, Exit)>,
    /// The network's end: tensor and bytes.
    end: BTreeMap<usize, u64>,
    input: usize,
    ways: Vec<Vec<Way>>,
}

/// What is measured on.
#[derive(Clone, Copy, Debug)]
pub(in crate::command::lab) struct Settings {
    /// Most accuracy that a codec may cost.
    pub(in crate::command::lab) codec_cost: f64,
    /// Bytes of a picture where no package says.
    pub(in crate::command::lab) picture_bytes: u64,
}

impl Source {
    /// From an ONNX file, or from the first whole variant of a package's folder.
    pub(in crate::command::lab) fn open(path: &Path, settings: Settings) -> anyhow::Result<Self> {
        let limits = Limits::default();
        if !path.is_dir() {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy());
            let name = stem.map_or_else(String::new, std::borrow::Cow::into_owned);
            let model = Model::open(path, &limits)?;
            return Self::new(name, model, None, &[], Some(&usual()), settings);
        }
        let package = Package::open(path, &limits)?;
        let variant = package.variants.iter().find(|one| one.parts.len() == 1);
        let variant = variant
            .with_context(|| format!("{} has no variant in one piece to part", path.display()))?;
        let part = &variant.parts[0];
        let model = Model::from_bytes(&part.file, part.content.clone(), &limits)?;
        let tables = package.tables.as_ref();
        let table = tables.and_then(|tables| tables.variant(&variant.name));
        let exits: Vec<(String, String)> = variant
            .exits
            .iter()
            .map(|exit| (exit.name.clone(), exit.output.clone()))
            .collect();
        let preprocess = package.preprocess.as_ref();
        Self::new(
            package.name.clone(),
            model,
            table,
            &exits,
            preprocess,
            settings,
        )
    }

    fn new(
        name: String,
        model: Model,
        table: Option<&VariantTable>,
        heads: &[(String, String)],
        preprocess: Option<&Preprocess>,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let imported = import(model, &Limits::default())?;
        let graph = &imported.graph;
        let [input] = graph.inputs() else {
            bail!(
                "{name} has {} inputs; a network with one can be parted here",
                graph.inputs().len()
            );
        };
        let is_head = |id: &OutletId| {
            let outlet = graph.outlet(*id);
            heads.iter().any(|(_, output)| *output == outlet.name)
        };
        let ends = graph.outputs().iter().copied().filter(|id| !is_head(id));
        let end: BTreeMap<usize, u64> = ends.map(|id| (id.0, graph.outlet(id).bytes)).collect();
        let shape = &graph.outlet(*input).shape;
        let preprocess = preprocess.filter(|one| one.size(shape).is_ok());
        let picture = match preprocess {
            Some(preprocess) => {
                let said =
                    table.and_then(|table| table.cut(0, 0)?.codec("picture").map(|c| c.bytes));
                let bytes = said.map_or(settings.picture_bytes, whole);
                Some((bytes, decode_seconds(preprocess, shape)?))
            }
            None => None,
        };
        let mut source = Self {
            seconds: vec![0.0; graph.layers().len()],
            whole: 0.0,
            segments: Vec::new(),
            ways: ways(&imported, table, settings)?,
            exits: exits(&imported, table, heads, &end),
            input: input.0,
            name,
            picture,
            end,
            imported,
        };
        source.time()?;
        Ok(source)
    }

    /// The network with its end as its only answer, and the numbers of its layers in the graph; `None` for the
    /// picture. `slower` says of each node how many times as slow as this machine it is.
    pub(in crate::command::lab) fn network(
        &self,
        slower: &[f64],
    ) -> anyhow::Result<(Network, Vec<Option<usize>>)> {
        self.network_of(slower, &self.seconds)
    }

    /// The same with other seconds of the graph's layers.
    pub(in crate::command::lab) fn network_of(
        &self,
        slower: &[f64],
        seconds: &[f64],
    ) -> anyhow::Result<(Network, Vec<Option<usize>>)> {
        let needed = self.full_of(slower, seconds)?.up_to(&self.end)?;
        let shift = usize::from(self.picture.is_some());
        let layers = needed.layers.into_iter();
        let layers = layers.map(|layer| layer.checked_sub(shift));
        Ok((needed.network, layers.collect()))
    }

    /// The network with all its exits, and the numbers of its layers in the graph.
    pub(in crate::command::lab) fn full(
        &self,
        slower: &[f64],
    ) -> anyhow::Result<(Network, Vec<Option<usize>>)> {
        let network = self.full_of(slower, &self.seconds)?;
        let shift = usize::from(self.picture.is_some());
        let layers = (0..network.layers().len()).map(|layer| layer.checked_sub(shift));
        Ok((network, layers.collect()))
    }

    fn full_of(&self, slower: &[f64], seconds: &[f64]) -> anyhow::Result<Network> {
        let on_each = |seconds: f64| slower.iter().map(|times| seconds * times).collect();
        let network = Network::of(
            &self.imported.graph,
            slower.to_vec(),
            |layer| on_each(seconds[layer]),
            |outlet| self.ways[outlet].clone(),
        )?;
        Ok(match self.picture {
            Some((bytes, seconds)) => network.with_picture(self.input, bytes, on_each(seconds))?,
            None => network,
        })
    }

    /// Times the segments between neighbouring cuts of the trunk; within one, layers share its time by their work.
    fn time(&mut self) -> anyhow::Result<()> {
        let (network, layers) = self.network(&[1.0, 1.0])?;
        let graph = &self.imported.graph;
        let all: BTreeSet<usize> = layers.iter().copied().flatten().collect();
        let total = self.run(&all)?;
        let mut seconds = vec![0.0; graph.layers().len()];
        let trunk = network.trunk();
        let bar = crate::command::twin::bar(&self.name, trunk.len() as u64);
        for pair in trunk.windows(2) {
            bar.inc(1);
            let set: BTreeSet<usize> = layers[pair[0]..pair[1]].iter().copied().flatten().collect();
            if set.is_empty() {
                continue;
            }
            let took = self.run(&set)?;
            // A roofline of some speed, for shares only.
            let work = |layer: usize| {
                let layer = &graph.layers()[layer];
                layer.macs as f64 / 1e10 + layer.activation_bytes as f64 / 4e9 + 1e-6
            };
            let sum: f64 = set.iter().map(|&layer| work(layer)).sum();
            for &layer in &set {
                seconds[layer] = took * work(layer) / sum;
            }
            self.segments.push((set, took));
        }
        bar.finish_and_clear();
        self.segments.push((all.clone(), total));
        // What a cut costs in itself, and what the engine does across it, is in the sum once for each segment.
        let sum: f64 = seconds.iter().sum();
        ensure!(sum > 0.0, "{} takes no time", self.name);
        self.seconds = seconds.into_iter().map(|one| one * total / sum).collect();
        self.whole = total;
        // Heads of exits beside the trunk.
        let rest = (0..graph.layers().len()).filter(|layer| !all.contains(layer));
        let speed = total / graph.macs(0..graph.layers().len()).max(1) as f64;
        for layer in rest {
            self.seconds[layer] = graph.layers()[layer].macs as f64 * speed;
        }
        Ok(())
    }

    /// Runs longer segments too: the trunk in two, four and eight parts.
    pub(in crate::command::lab) fn lengthen(&mut self) -> anyhow::Result<()> {
        let (network, layers) = self.network(&[1.0, 1.0])?;
        let trunk = network.trunk();
        for parts in [2, 4, 8] {
            for part in 0..parts {
                let at = |part: usize| trunk[part * (trunk.len() - 1) / parts];
                let set: BTreeSet<usize> = layers[at(part)..at(part + 1)]
                    .iter()
                    .copied()
                    .flatten()
                    .collect();
                if set.is_empty() || self.segments.iter().any(|(known, _)| *known == set) {
                    continue;
                }
                let took = self.run(&set)?;
                self.segments.push((set, took));
            }
        }
        Ok(())
    }

    /// Seconds of a fragment of these layers.
    fn run(&self, set: &BTreeSet<usize>) -> anyhow::Result<f64> {
        clock::seconds(&self.prepared(set)?)
    }

    /// A fragment of these layers, ready to run.
    pub(super) fn prepared(&self, set: &BTreeSet<usize>) -> anyhow::Result<Prepared> {
        let fragment = cut_layers(&self.imported, set, 0, 1)?;
        Ok(prepare(&self.name, fragment.onnx, &Limits::default())?)
    }

    /// How many times as much this machine does with 1, 2, … `most` of its cores, each of them running the whole
    /// network; and how many of these were measured: [`clock::curve`].
    pub(super) fn speed_up(&self, most: usize) -> anyhow::Result<(Vec<f64>, usize)> {
        let (_, layers) = self.network(&[1.0, 1.0])?;
        let whole = self.prepared(&layers.into_iter().flatten().collect())?;
        clock::curve(&whole, most)
    }

    /// Multiply-accumulates of some layers of the graph.
    pub(super) fn macs(&self, layers: impl Iterator<Item = usize>) -> f64 {
        let graph = self.imported.graph.layers();
        // From a positive zero, which is what the sum of nothing is not.
        layers.fold(0.0, |sum, layer| sum + graph[layer].macs as f64)
    }
}

/// How ImageNet's networks take pictures.
fn usual() -> Preprocess {
    let text = "input = \"image\"\nresize = \"fit-crop\"\nchannels = \"rgb\"\nlayout = \"nchw\"\n\
                mean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n";
    Preprocess::from_text(text).expect("it is written right above")
}

/// Seconds to decode and fit a made-up photograph: of the usual 500 × 375 for large inputs, of their own size for
/// small ones.
fn decode_seconds(preprocess: &Preprocess, shape: &[u64]) -> anyhow::Result<f64> {
    let (height, width) = preprocess.size(shape).map_err(anyhow::Error::msg)?;
    let (width, height) = if height.min(width) < 100 {
        (width, height)
    } else {
        (500, 375)
    };
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        let wave = |k: u32| ((x * k) as f32 / 40.0).sin() + (y as f32 / 30.0).cos();
        // Some grain: what makes photographs large.
        let grain = x
            .wrapping_mul(2_654_435_761)
            .wrapping_add(y.wrapping_mul(40_503))
            >> 13
            & 31;
        let value = |k: u32| (90.0 + 45.0 * wave(k) + grain as f32).clamp(0.0, 255.0) as u8;
        image::Rgb([value(1), value(2), value(3)])
    });
    let mut file = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90);
    picture
        .write_with_encoder(encoder)
        .context("no picture to measure with")?;
    let limits = PictureLimits::default();
    clock::median(|| Ok(preprocess.apply(&file, shape, &limits).map(drop)?))
}

fn exits(
    imported: &Imported,
    table: Option<&VariantTable>,
    heads: &[(String, String)],
    end: &BTreeMap<usize, u64>,
) -> Vec<(String, Exit)> {
    let Some(table) = table.filter(|table| !table.exits.is_empty()) else {
        return Vec::new();
    };
    let accuracy = |name: &str| {
        let exit = table.exits.iter().find(|exit| exit.name == name);
        exit.map(|exit| exit.top1)
    };
    let graph = &imported.graph;
    let mut exits = Vec::new();
    for (name, output) in heads {
        if let (Some(id), Some(accuracy)) = (graph.find(output), accuracy(name)) {
            let answers = BTreeMap::from([(id.0, graph.outlet(id).bytes)]);
            exits.push((name.clone(), Exit { accuracy, answers }));
        }
    }
    if let Some(accuracy) = accuracy(FINAL) {
        let answers = end.clone();
        exits.push((FINAL.to_owned(), Exit { accuracy, answers }));
    }
    exits
}

/// How each outlet may cross: as it is; where a package has measured a codec at it, in every codec that costs little
/// accuracy, with the bytes measured there; elsewhere as f16 and as plain u8, whose sizes are known without data.
fn ways(
    imported: &Imported,
    table: Option<&VariantTable>,
    settings: Settings,
) -> anyhow::Result<Vec<Vec<Way>>> {
    let mut coding = Coding::default();
    let mut all = Vec::new();
    for (number, outlet) in imported.graph.outlets().iter().enumerate() {
        let alone = Cut {
            before: Vec::new(),
            outlets: vec![OutletId(number)],
            carried: Vec::new(),
        };
        if !imported.is_runnable(&alone) {
            all.push(Vec::new());
            continue;
        }
        let mut ways = vec![Way {
            codec: Codec::RAW,
            bytes: outlet.bytes,
            encode: 0.0,
            decode: 0.0,
        }];
        let is_it = |tensors: &[String]| tensors.iter().eq([&outlet.name]);
        let cut = table.and_then(|table| table.cuts.iter().find(|cut| is_it(&cut.tensors)));
        let mut coded: Vec<(Codec, u64)> = Vec::new();
        if let Some(cut) = cut {
            for one in &cut.codecs {
                let is_good = cut.top1 - one.top1 <= settings.codec_cost;
                if let Some(codec) = one.name.parse().ok().filter(|codec| *codec != Codec::RAW)
                    && is_good
                {
                    coded.push((codec, whole(one.bytes)));
                }
            }
        } else if table.is_none() && outlet.element == Element::F32 {
            for (name, part) in [("f16", 2), ("u8", 4)] {
                coded.push((name.parse()?, outlet.bytes / part + 16));
            }
        }
        for (codec, bytes) in coded {
            let (encode, decode) = coding.seconds(codec, outlet.bytes)?;
            ways.push(Way {
                codec,
                bytes,
                encode,
                decode,
            });
        }
        all.push(ways);
    }
    Ok(all)
}

fn whole(bytes: f64) -> u64 {
    bytes.max(0.0).ceil() as u64
}
