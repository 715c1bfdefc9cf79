//! The description of an emulated fleet: nodes as shares of this machine, links as rate and delay.
//!
//! ```toml
//! [[node]]
//! name = "attic"
//! speed = 0.25          # share of this machine's speed, above 0, at most 1
//! memory-mb = 64        # what fragments may take
//! cores = 1             # fragments computed at the same time
//!
//! [[link]]              # `*` is every node; a later entry beats an earlier one
//! from = "center"       # the orchestrator
//! to = "*"
//! rate-mbit = 100
//! delay-ms = 1.5        # one way
//! jitter-ms = 0.2       # standard deviation
//! one-way = false       # both directions unless said otherwise
//! ```

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use splitplace_fleet::{Link, Links, NodeId, Place};

/// An emulated fleet.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FleetFile {
    /// For people.
    pub description: String,
    /// The nodes.
    #[serde(rename = "node")]
    pub nodes: Vec<NodeEntry>,
    /// The links, later entries beating earlier ones.
    #[serde(rename = "link")]
    pub links: Vec<LinkEntry>,
}

/// One emulated node.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeEntry {
    /// Unique name.
    pub name: String,
    /// Share of this machine's speed.
    #[serde(default = "whole")]
    pub speed: f64,
    /// Megabytes (10^6 bytes) that fragments may take.
    pub memory_mb: f64,
    /// Fragments computed at the same time.
    #[serde(default = "one")]
    pub cores: u32,
}

/// Links of one kind.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkEntry {
    /// `center`, a node's name, or `*` for every node.
    pub from: String,
    /// Likewise.
    pub to: String,
    /// Megabits (10^6 bits) a second; unlimited when absent.
    #[serde(default)]
    pub rate_mbit: Option<f64>,
    /// Delay of an empty message, in milliseconds.
    #[serde(default)]
    pub delay_ms: f64,
    /// Standard deviation of the delay, in milliseconds.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Only from `from` to `to`.
    #[serde(default)]
    pub one_way: bool,
}

const fn whole() -> f64 {
    1.0
}

const fn one() -> u32 {
    1
}

/// The orchestrator's name in a fleet file.
const CENTER: &str = "center";
/// Any node.
const ANY: &str = "*";

/// Why a fleet file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetFileError {
    /// It cannot be read.
    #[error("cannot read fleet file {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no fleet file.
    #[error("fleet file {path}: {source}")]
    Parse {
        /// Which.
        path: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It says something that cannot be.
    #[error("fleet file {path}: {}", wrong.join("; "))]
    Wrong {
        /// Which.
        path: String,
        /// Every mistake.
        wrong: Vec<String>,
    },
}

impl FleetFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`FleetFileError`].
    pub fn read(path: &Path) -> Result<Self, FleetFileError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| FleetFileError::Read {
            path: name.clone(),
            source,
        })?;
        Self::parse(&name, &text)
    }

    /// Reads and checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// [`FleetFileError`], never `Read`.
    pub fn parse(name: &str, text: &str) -> Result<Self, FleetFileError> {
        let file: Self = toml::from_str(text).map_err(|source| FleetFileError::Parse {
            path: name.to_owned(),
            source: Box::new(source),
        })?;
        let wrong = file.check();
        if wrong.is_empty() {
            return Ok(file);
        }
        Err(FleetFileError::Wrong {
            path: name.to_owned(),
            wrong,
        })
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        if self.nodes.is_empty() {
            wrong.push("it has no [[node]]".to_owned());
        }
        for node in &self.nodes {
            let name = &node.name;
            if [CENTER, ANY, ""].contains(&name.as_str()) {
                wrong.push(format!("a node cannot be named {name:?}"));
            }
            if !names.insert(name.as_str()) {
                wrong.push(format!("two nodes are named {name:?}"));
            }
            if !(node.speed > 0.0 && node.speed <= 1.0) {
                wrong.push(format!(
                    "node {name}: speed = {} must lie above 0 and not above 1",
                    node.speed
                ));
            }
            if !(node.memory_mb > 0.0 && node.memory_mb < 1e9) {
                wrong.push(format!(
                    "node {name}: memory-mb = {} must be above 0",
                    node.memory_mb
                ));
            }
            if node.cores == 0 || node.cores > 1024 {
                wrong.push(format!(
                    "node {name}: cores = {} must lie in 1 to 1024",
                    node.cores
                ));
            }
        }
        for link in &self.links {
            let LinkEntry { from, to, .. } = link;
            for end in [from, to] {
                if ![CENTER, ANY].contains(&end.as_str()) && !names.contains(end.as_str()) {
                    wrong.push(format!(
                        "link from {from} to {to}: no node is named {end:?}"
                    ));
                }
            }
            if link
                .rate_mbit
                .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
            {
                wrong.push(format!(
                    "link from {from} to {to}: rate-mbit must be above 0"
                ));
            }
            for (field, value) in [("delay-ms", link.delay_ms), ("jitter-ms", link.jitter_ms)] {
                if !(0.0..=600_000.0).contains(&value) {
                    wrong.push(format!(
                        "link from {from} to {to}: {field} = {value} must lie in 0 to 600000"
                    ));
                }
            }
        }
        wrong
    }

    /// Every directed link. Those that the file does not name are the machine's own.
    #[must_use]
    pub fn links(&self) -> Links {
        let mut links = Links::default();
        let places = |end: &str| match end {
            CENTER => vec![Place::Center],
            ANY => self.nodes.iter().map(|node| place(&node.name)).collect(),
            name => vec![place(name)],
        };
        for entry in &self.links {
            let millis = |ms: f64| Duration::from_secs_f64(ms / 1e3);
            let link = Link {
                rate_bytes_per_second: entry
                    .rate_mbit
                    .map_or(f64::INFINITY, |rate| rate * 1e6 / 8.0),
                delay: millis(entry.delay_ms),
                jitter: millis(entry.jitter_ms),
            };
            for from in places(&entry.from) {
                for to in places(&entry.to) {
                    if from == to {
                        continue;
                    }
                    if !entry.one_way {
                        links.set(to.clone(), from.clone(), link);
                    }
                    links.set(from.clone(), to, link);
                }
            }
        }
        links
    }

    /// Speed that all nodes together want, in machines of one core.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.nodes
            .iter()
            .map(|node| node.speed * f64::from(node.cores))
            .sum()
    }
}

fn place(node: &str) -> Place {
    Place::Node(NodeId::new(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_links_beat_earlier_ones() {
        let text = r#"
            [[node]]
            name = "a"
            memory-mb = 10
            [[node]]
            name = "b"
            speed = 0.5
            memory-mb = 10
            [[link]]
            from = "*"
            to = "*"
            rate-mbit = 80
            delay-ms = 1
            [[link]]
            from = "a"
            to = "b"
            delay-ms = 7
            one-way = true
        "#;
        let file = FleetFile::parse("test", text).expect("a fleet");
        let links = file.links();
        let (a, b) = (place("a"), place("b"));
        assert_eq!(links.get(&a, &b).delay, Duration::from_millis(7));
        assert_eq!(links.get(&b, &a).delay, Duration::from_millis(1));
        assert_eq!(links.get(&b, &a).rate_bytes_per_second, 1e7);
        assert_eq!(links.get(&Place::Center, &a), Link::LOCAL);
        assert_eq!(file.speed(), 1.5);
    }

    #[test]
    fn every_mistake_is_named() {
        let text = r#"
            [[node]]
            name = "center"
            memory-mb = 10
            speed = 2
            [[link]]
            from = "x"
            to = "*"
            rate-mbit = 0
            delay-ms = -1
        "#;
        let error = FleetFile::parse("test", text)
            .expect_err("wrong")
            .to_string();
        for part in [
            "named \"center\"",
            "speed = 2",
            "named \"x\"",
            "rate-mbit",
            "delay-ms",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = FleetFile::parse("test", "[[node]]\nname = 1").expect_err("wrong");
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn the_shipped_fleets_can_be_used() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fleets");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            FleetFile::read(&path).expect("a fleet");
            count += 1;
        }
        assert!(count > 0);
    }
}
