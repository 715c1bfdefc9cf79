//! The values that a store keeps, in the words of the domain.

use std::{fmt, time::Duration};

use sha2::{Digest as _, Sha256};
use splitplace_fleet::NodeId;
use splitplace_plan::{FragmentId, Generation, ModelName};

/// The SHA-256 of some content, which is also its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes `content`. O(length).
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// The digest whose bytes these are, when there are 32 of them.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The digest written in 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    /// All 64 hexadecimal digits, lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256 {self}")
    }
}

/// A package as it is kept: its manifest, and the hashes of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRecord {
    /// The model's name.
    pub name: ModelName,
    /// The package's version.
    pub version: String,
    /// The manifest's text, as it was read.
    pub manifest: String,
    /// What was measured, as it was read; empty when nothing was.
    pub tables: String,
    /// The files that the manifest and the tables name.
    pub parts: Vec<PartRecord>,
    /// Whether the operator wants it served.
    pub loaded: bool,
    /// What the operator asks for beyond that, as it was asked; empty when nothing.
    pub wishes: String,
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    /// Name within the package.
    pub file: String,
    /// Its content.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// Numbers that never repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Of plans.
    Generation,
    /// Of requests.
    Request,
}

impl Counter {
    /// Its name on disk.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Request => "request",
        }
    }
}

/// What a fragment took on a node.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurementRecord {
    /// What ran.
    pub fragment: FragmentId,
    /// Where.
    pub node: NodeId,
    /// Multiply-accumulates a second that the node stated when this was measured.
    pub macs_per_second: f64,
    /// Runs for requests that still count.
    pub weight: f64,
    /// Mean service time of one sample in them, in seconds.
    pub mean_seconds: f64,
    /// Variance of the service time, in seconds squared.
    pub variance_seconds2: f64,
    /// Runs for measurement that still count.
    pub alone_weight: f64,
    /// Mean service time of one sample in them, in seconds.
    pub alone_seconds: f64,
    /// Bytes that the fragment took, when it was told.
    pub memory_bytes: Option<u64>,
}

/// One request that ended, and the decision behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRecord {
    /// The request's number.
    pub request: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The model asked for.
    pub model: ModelName,
    /// The arm that was taken; empty when none was.
    pub arm: String,
    /// The policy's word for the context.
    pub context: String,
    /// Why the arm was taken.
    pub reason: String,
    /// Probability with which it was taken.
    pub propensity: f64,
    /// The plan.
    pub generation: Generation,
    /// What was promised.
    pub sla: Duration,
    /// What was predicted.
    pub predicted: Duration,
    /// From arrival to answer; `None` when there was none.
    pub response: Option<Duration>,
    /// How it ended, in a word.
    pub ending: String,
}
