//! A package taken apart: every part as a graph and a chain of segments, cut on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, iter,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use splitplace_codec::Codec;
use splitplace_graph::{Boundary, Chain, OutletId};
use splitplace_onnx::{
    ExitRecord, Limits, Model,
    cut::{self, Fragment},
    import::{self, Imported},
    package::{Merge, Package, Part, Technique, Variant, VariantKind},
    tables::{Tables, VariantTable},
};
use splitplace_plan::{FragmentId, ModelName, predict::Features};
use splitplace_policy::exit::Records;

use super::{
    CatalogError, interface,
    leaving::{self, Leaving},
};
use crate::{
    face::TensorFacts,
    measured::{Atom, Measured, PartFacts},
};

/// What may be chosen about loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSettings {
    /// Most segments of a part that are told apart; neighbours are joined where the cut between them
    /// would carry most bytes.
    pub segments: usize,
    /// Bytes of fragments of one package that are kept once they were cut.
    pub kept_bytes: u64,
    /// Bounds on what is read.
    pub limits: Limits,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            segments: 24,
            kept_bytes: 256 << 20,
            limits: Limits::default(),
        }
    }
}

/// A package that can be planned and cut. Its files' content is not kept twice: what the package's
/// parts held is empty here.
pub struct Loaded {
    name: ModelName,
    package: Package,
    variants: Vec<LoadedVariant>,
    kept_bytes: u64,
    kept: Mutex<Kept>,
}

/// One way to run the network.
#[derive(Debug)]
pub struct LoadedVariant {
    /// Its name in the package.
    pub name: String,
    /// How it runs.
    pub kind: VariantKind,
    /// How branches become one answer.
    pub merge: Option<Merge>,
    /// Validated share of correct answers, when it was measured.
    pub accuracy: Option<f64>,
    /// How it was made smaller than the network that it stands for.
    pub technique: Option<Technique>,
    /// Its early exits along the network.
    pub exits: Vec<LoadedExit>,
    /// Validated share of correct answers when the exits answer at their thresholds.
    pub exits_accuracy: Option<f64>,
    /// One for a whole variant, one for each branch of a semantic one.
    pub parts: Vec<LoadedPart>,
}

/// A head on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedExit {
    /// Its name in the package.
    pub name: String,
    /// The tensor that it makes.
    pub output: String,
    /// Smallest confidence at which it answers.
    pub threshold: f32,
    /// Segments before the boundary right behind it.
    pub behind: usize,
    /// Expected share of requests that it answers.
    pub leave: f64,
}

impl LoadedExit {
    /// Whether any confidence is enough for it.
    #[must_use]
    pub fn may_answer(&self) -> bool {
        self.threshold <= 1.0
    }
}

/// One ONNX file.
pub struct LoadedPart {
    /// Its name in the package.
    pub file: String,
    /// For a branch: the classes that its scores belong to.
    pub classes: Vec<u32>,
    /// Its segments, for estimates.
    pub facts: PartFacts,
    chain: Chain,
    /// For each exit of the variant: segments before the boundary right behind it.
    behind_exits: Vec<usize>,
    /// What crosses each boundary; scores of exits do not.
    crossing: Vec<Crossed>,
    imported: Imported,
}

/// What crosses a boundary.
#[derive(Clone, Debug)]
struct Crossed {
    names: Vec<String>,
    /// Bytes of one sample, not coded.
    bytes: u64,
    /// Other codings that were measured.
    codings: Vec<Coding>,
}

/// What coding the tensors at a boundary was measured to mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coding {
    /// How.
    pub codec: Codec,
    /// Mean bytes of one sample.
    pub bytes: u64,
    /// Seconds to encode and to decode one sample, on a machine of this speed.
    pub encode: f64,
    /// See [`Coding::encode`].
    pub decode: f64,
    /// Multiply-accumulates a second of the machine that this was measured on.
    pub macs_per_second: f64,
    /// Share of correct answers that it costs.
    pub cost: f64,
}

/// A fragment to be measured alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiled {
    /// For people: model/variant/part/segments.
    pub label: String,
    /// What to run.
    pub fragment: Arc<Fragment>,
}

/// Where a fragment lies in a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentPlace {
    /// The variant's name.
    pub variant: String,
    /// The part's file.
    pub part: String,
    /// Segments of the part.
    pub segments: Range<usize>,
}

type Key = (usize, usize, usize, usize);

/// Fragments cut before; the one not asked for for longest makes room.
#[derive(Debug, Default)]
struct Kept {
    ids: BTreeMap<Key, FragmentId>,
    fragments: BTreeMap<Key, (u64, Arc<Fragment>)>,
    bytes: u64,
    ticks: u64,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("name", &self.name)
            .field("version", &self.package.version)
            .field("variants", &self.variants)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LoadedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedPart")
            .field("file", &self.file)
            .field("segments", &self.segments())
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// Reads every part, compares it with the package's interface, and cuts each segment once to know
    /// its name. O(parts · segments · model bytes).
    ///
    /// # Errors
    /// [`CatalogError::Onnx`] for a part that is no sound model, [`CatalogError::Interface`] for one
    /// that is not what the package says.
    pub fn open(mut package: Package, settings: &LoadSettings) -> Result<Self, CatalogError> {
        let mut variants = Vec::with_capacity(package.variants.len());
        for variant in &package.variants {
            let mut parts = Vec::with_capacity(variant.parts.len());
            for part in &variant.parts {
                let label = format!("{}/{}", package.name, part.file);
                let model = Model::from_bytes(&label, part.content.clone(), &settings.limits)?;
                let imported = import::import(model, &settings.limits)?;
                interface::check(&package, variant, part, &imported.graph)?;
                parts.push(LoadedPart::new(part, variant, imported, settings));
            }
            let table = package.tables.as_ref().and_then(|tables| {
                let variant = tables.variant(&variant.name)?;
                Some((tables, variant))
            });
            if let Some((tables, table)) = table {
                for (number, part) in parts.iter_mut().enumerate() {
                    part.measured(number, tables, table);
                }
            }
            let reached = table.and_then(|(_, table)| leaving::leaving(variant, table));
            variants.push(LoadedVariant {
                name: variant.name.clone(),
                kind: variant.kind,
                merge: variant.merge,
                accuracy: variant.accuracy.as_ref().map(|accuracy| accuracy.top1),
                technique: variant.technique,
                exits: exits(variant, &parts, reached.as_ref()),
                exits_accuracy: reached.map(|leaving| leaving.top1),
                parts,
            });
        }
        for part in package
            .variants
            .iter_mut()
            .flat_map(|variant| &mut variant.parts)
        {
            part.content = Bytes::new();
        }
        let mut loaded = Self {
            name: ModelName::new(&package.name),
            package,
            variants,
            kept_bytes: settings.kept_bytes,
            kept: Mutex::default(),
        };
        loaded.name_segments()?;
        Ok(loaded)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &ModelName {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.package.version
    }

    /// What the manifest says; the parts' contents are empty.
    #[must_use]
    pub const fn package(&self) -> &Package {
        &self.package
    }

    /// The ways to run it, in the package's order.
    #[must_use]
    pub fn variants(&self) -> &[LoadedVariant] {
        &self.variants
    }

    /// The variant of that name.
    #[must_use]
    pub fn variant(&self, name: &str) -> Option<&LoadedVariant> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    /// What every exit of a variant said of every input that was measured, the network's end included; `None`
    /// when nothing was recorded.
    ///
    /// # Errors
    /// What is wrong with the record, in words.
    pub fn exit_records(&self, variant: &str) -> Result<Option<Records>, String> {
        let record = self
            .package
            .exit_record(variant)
            .map_err(|error| error.to_string())?;
        record.map(|record| records(&record)).transpose()
    }

    /// What is promised when the client says nothing.
    #[must_use]
    pub const fn default_sla(&self) -> Duration {
        self.package.default_sla
    }

    /// Inputs, in the package's order.
    #[must_use]
    pub fn inputs(&self) -> Vec<TensorFacts> {
        self.package.inputs.iter().map(interface::facts).collect()
    }

    /// Outputs, in the package's order.
    #[must_use]
    pub fn outputs(&self) -> Vec<TensorFacts> {
        self.package.outputs.iter().map(interface::facts).collect()
    }

    /// Free-form facts for people: variants, accuracies.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<String, String> {
        interface::properties(&self.package)
    }

    /// The fragment of these segments of a part, by the numbers of variant and part. Cut on the first
    /// call, O(model bytes); kept within the bound, and cut to the same bytes when it fell out.
    ///
    /// # Errors
    /// [`CatalogError::Onnx`] when there is nothing in it to run.
    ///
    /// # Panics
    /// When there is no such variant, part or segment.
    pub fn fragment(
        &self,
        variant: usize,
        part: usize,
        segments: Range<usize>,
    ) -> Result<Arc<Fragment>, CatalogError> {
        let key = (variant, part, segments.start, segments.end);
        if let Some(fragment) = self.kept.lock().get(&key) {
            return Ok(fragment);
        }
        let fragment = Arc::new(self.variants[variant].parts[part].cut(segments)?);
        self.kept.lock().put(key, &fragment, self.kept_bytes);
        Ok(fragment)
    }

    /// The name of that fragment, if it was ever cut. O(log fragments).
    #[must_use]
    pub fn fragment_id(
        &self,
        variant: usize,
        part: usize,
        segments: Range<usize>,
    ) -> Option<FragmentId> {
        let key = (variant, part, segments.start, segments.end);
        self.kept.lock().ids.get(&key).copied()
    }

    /// Every fragment of a part that was ever cut, with its segments. O(fragments).
    #[must_use]
    pub fn fragments_of(&self, variant: usize, part: usize) -> Vec<(Range<usize>, FragmentId)> {
        let kept = self.kept.lock();
        let ids = kept.ids.iter();
        ids.filter(|((of, within, ..), _)| (*of, *within) == (variant, part))
            .map(|(&(_, _, start, end), &id)| (start..end, id))
            .collect()
    }

    /// Where every fragment that was ever cut lies. O(fragments).
    pub fn places(&self) -> Vec<(FragmentId, FragmentPlace)> {
        let kept = self.kept.lock();
        let ids = kept.ids.iter();
        ids.map(|(&(variant, part, start, end), &id)| {
            let variant = &self.variants[variant];
            let place = FragmentPlace {
                variant: variant.name.clone(),
                part: variant.parts[part].file.clone(),
                segments: start..end,
            };
            (id, place)
        })
        .collect()
    }

    /// What every fragment that was ever cut does. O(fragments · segments).
    #[must_use]
    pub fn features(&self) -> Vec<(FragmentId, Features)> {
        let kept = self.kept.lock();
        let ids = kept.ids.iter();
        ids.map(|(&(variant, part, start, end), &id)| {
            let facts = &self.variants[variant].parts[part].facts;
            (id, facts.features(start..end))
        })
        .collect()
    }

    /// Every fragment that was ever cut.
    #[must_use]
    pub fn fragment_ids(&self) -> BTreeSet<FragmentId> {
        self.kept.lock().ids.values().copied().collect()
    }

    #[cfg(test)]
    pub(super) fn kept_count(&self) -> usize {
        self.kept.lock().fragments.len()
    }

    /// Cuts every segment and every whole part, so that their measurements can be found by name.
    fn name_segments(&mut self) -> Result<(), CatalogError> {
        for variant in 0..self.variants.len() {
            for part in 0..self.variants[variant].parts.len() {
                let count = self.variants[variant].parts[part].segments();
                for segment in 0..count {
                    let id = self.fragment(variant, part, segment..segment + 1)?.id;
                    let facts = &mut self.variants[variant].parts[part].facts;
                    facts.atoms[segment].fragment = Some(id);
                }
                let whole = self.fragment(variant, part, 0..count)?.id;
                self.variants[variant].parts[part].facts.whole = whole;
            }
        }
        Ok(())
    }
}

impl LoadedPart {
    fn new(part: &Part, variant: &Variant, imported: Imported, settings: &LoadSettings) -> Self {
        let graph = &imported.graph;
        let heads: Vec<OutletId> = variant
            .exits
            .iter()
            .filter_map(|exit| graph.find(&exit.output))
            .collect();
        let (chain, behind_exits) = graph.chain_with_exits(settings.segments, &heads);
        let atoms = chain.segments.iter().map(|segment| Atom {
            fragment: None,
            features: Features::of(graph, segment.layers.clone()),
            parameter_bytes: segment.parameter_bytes,
            activation_bytes: segment.activation_bytes,
        });
        let crossed = |boundary: &Boundary| {
            let outlets = boundary.outlets.iter().chain(&boundary.carried);
            let outlets = outlets.filter(|id| !heads.contains(id));
            let outlets: Vec<_> = outlets.map(|&id| graph.outlet(id)).collect();
            Crossed {
                names: outlets.iter().map(|outlet| outlet.name.clone()).collect(),
                bytes: outlets
                    .iter()
                    .fold(0, |sum, outlet| sum.saturating_add(outlet.bytes)),
                codings: Vec::new(),
            }
        };
        Self {
            facts: PartFacts {
                atoms: atoms.collect(),
                whole: FragmentId([0; 32]),
            },
            crossing: chain.boundaries.iter().map(crossed).collect(),
            file: part.file.clone(),
            classes: part.classes.clone(),
            behind_exits,
            chain,
            imported,
        }
    }

    /// Number of segments, at least 1.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.chain.len()
    }

    /// Names of the tensors that cross the boundary after `segments` segments: 0 for the inputs, all
    /// of them for the outputs.
    ///
    /// # Panics
    /// Beyond the last boundary.
    #[must_use]
    pub fn crossing(&self, segments: usize) -> &[String] {
        &self.crossing[segments].names
    }

    /// Bytes of one sample that cross the boundary after `segments` segments.
    ///
    /// # Panics
    /// Beyond the last boundary.
    #[must_use]
    pub fn crossing_bytes(&self, segments: usize) -> u64 {
        self.crossing[segments].bytes
    }

    /// Codings that were measured there, beside none.
    ///
    /// # Panics
    /// Beyond the last boundary.
    #[must_use]
    pub fn codings(&self, segments: usize) -> &[Coding] {
        &self.crossing[segments].codings
    }

    /// Takes over what was measured of codings at its boundaries.
    fn measured(&mut self, number: usize, tables: &Tables, table: &VariantTable) {
        let boundaries = self.chain.boundaries.iter().zip(&mut self.crossing);
        for (boundary, crossed) in boundaries {
            let Some(cut) = table.cut(number, boundary.position) else {
                continue;
            };
            let codings = cut.codecs.iter().filter_map(|measured| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "checked to be a number of bytes"
                )]
                Some(Coding {
                    // A codec that this version does not know is one that it does not use.
                    codec: measured
                        .name
                        .parse()
                        .ok()
                        .filter(|codec| *codec != Codec::RAW)?,
                    bytes: measured.bytes.ceil() as u64,
                    encode: measured.encode,
                    decode: measured.decode,
                    macs_per_second: tables.machine.macs_per_second,
                    cost: cut.top1 - measured.top1,
                })
            });
            crossed.codings = codings.collect();
        }
    }

    fn cut(&self, segments: Range<usize>) -> Result<Fragment, CatalogError> {
        let count = self.segments();
        // A fragment's bytes must depend on nothing but its segments, or its name would change with
        // the plan that it is part of: its place is counted in segments, and the whole is one of one.
        let (index, of) = if segments == (0..count) {
            (0, 1)
        } else {
            (segments.start, count)
        };
        let layers = self.chain.layers(segments).collect();
        Ok(cut::cut_layers(&self.imported, &layers, index, of)?)
    }
}

/// The exits of a variant, with what is expected of them.
/// A package's record as exit controllers take it.
///
/// # Errors
/// When it has more exits than they can deal with.
pub fn records(record: &ExitRecord) -> Result<Records, String> {
    let mut records = Records::new(record.exits()).map_err(|error| error.to_string())?;
    for sample in 0..record.samples() {
        let exits = (0..record.exits()).map(|exit| record.get(sample, exit));
        records.push(&exits.collect::<Vec<_>>());
    }
    Ok(records)
}

fn exits(variant: &Variant, parts: &[LoadedPart], leaving: Option<&Leaving>) -> Vec<LoadedExit> {
    let [part] = parts else {
        return Vec::new();
    };
    let exits = variant.exits.iter().zip(&part.behind_exits).enumerate();
    exits
        .map(|(number, (exit, &behind))| LoadedExit {
            name: exit.name.clone(),
            output: exit.output.clone(),
            threshold: exit.threshold,
            behind,
            leave: leaving.map_or(0.0, |leaving| leaving.leave[number]),
        })
        .collect()
}

impl Kept {
    fn get(&mut self, key: &Key) -> Option<Arc<Fragment>> {
        self.ticks += 1;
        let (asked, fragment) = self.fragments.get_mut(key)?;
        *asked = self.ticks;
        Some(Arc::clone(fragment))
    }

    fn put(&mut self, key: Key, fragment: &Arc<Fragment>, limit: u64) {
        self.ticks += 1;
        self.ids.insert(key, fragment.id);
        let entry = (self.ticks, Arc::clone(fragment));
        if self.fragments.insert(key, entry).is_none() {
            self.bytes += fragment.onnx.len() as u64;
        }
        while self.bytes > limit && self.fragments.len() > 1 {
            let oldest = self.fragments.iter().min_by_key(|(_, (asked, _))| *asked);
            let Some((&key, _)) = oldest else {
                return;
            };
            if let Some((_, gone)) = self.fragments.remove(&key) {
                self.bytes -= gone.onnx.len() as u64;
            }
        }
    }
}

/// What to run once to estimate every fragment of the package: each segment alone, and each part
/// whole, unless `measured` knows it.
///
/// # Errors
/// [`CatalogError::Onnx`] when a fragment that fell out of memory cannot be cut again.
pub fn profile_plan(loaded: &Loaded, measured: &Measured) -> Result<Vec<Profiled>, CatalogError> {
    let mut plan: Vec<Profiled> = Vec::new();
    for (number, variant) in loaded.variants().iter().enumerate() {
        for (place, part) in variant.parts.iter().enumerate() {
            let count = part.segments();
            let alone = (0..count).map(|segment| segment..segment + 1);
            for segments in alone.chain(iter::once(0..count)) {
                let id = loaded.fragment_id(number, place, segments.clone());
                let is_known = id.is_some_and(|id| {
                    measured.knows(&id) || plan.iter().any(|planned| planned.fragment.id == id)
                });
                if is_known {
                    continue;
                }
                plan.push(Profiled {
                    label: format!(
                        "{}/{}/{}/{}-{}",
                        loaded.name(),
                        variant.name,
                        part.file,
                        segments.start,
                        segments.end
                    ),
                    fragment: loaded.fragment(number, place, segments)?,
                });
            }
        }
    }
    Ok(plan)
}
