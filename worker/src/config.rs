//! What may be chosen about a worker.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Everything that may be chosen about a worker.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Its name, unique in the fleet; the machine's name when empty.
    pub node: String,
    /// The orchestrator's address for workers, `host:port`.
    pub orchestrator: String,
    /// Where frames are received; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where peers reach `listen`, when that is not the address it listens on.
    pub public: Option<String>,
    /// Cores that fragments may use; 0 for as many as the machine and its control group allow.
    pub cores: u32,
    /// Bytes that fragments may take; 0 for what the machine and its control group allow.
    pub memory_bytes: u64,
    /// Folder for fragments that were fetched; none keeps them in memory only.
    pub cache: Option<PathBuf>,
    /// Bytes that the folder may take.
    pub cache_bytes: u64,
    /// Labels told to the orchestrator.
    pub labels: BTreeMap<String, String>,
    /// Share of this machine's speed, for emulated nodes: computing is stretched by its inverse.
    pub speed_share: f64,
    /// Say that the node is emulated, whatever its speed: its memory or its links are.
    pub emulated: bool,
    /// Frames that may wait for one peer.
    pub peer_queue: usize,
    /// Largest frame, in bytes.
    pub max_frame_bytes: usize,
    /// Largest fragment, in bytes.
    pub max_fragment_bytes: u64,
    /// Runs of a fragment when it is loaded, to measure it.
    pub warm_runs: u32,
    /// When asked to stop: time to finish what it has, in milliseconds.
    pub grace_ms: u64,
    /// Longest pause between two tries to reach the orchestrator, in milliseconds.
    pub reconnect_ms: u64,
    /// Certificates; without them only loopback addresses are allowed.
    pub tls: Option<Tls>,
    /// Allow addresses beyond loopback without certificates.
    pub insecure: bool,
}

/// Certificate files, in PEM.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// Authority of the fleet.
    pub ca: PathBuf,
    /// This worker's certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            orchestrator: "127.0.0.1:8003".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            public: None,
            cores: 0,
            memory_bytes: 0,
            cache: None,
            cache_bytes: 4 << 30,
            labels: BTreeMap::new(),
            speed_share: 1.0,
            emulated: false,
            peer_queue: 1024,
            max_frame_bytes: 64 << 20,
            max_fragment_bytes: 2 << 30,
            warm_runs: 5,
            grace_ms: 5000,
            reconnect_ms: 1000,
            tls: None,
            insecure: false,
        }
    }
}

impl Config {
    /// Every mistake, in words for the person who wrote it; none when it can be used.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(self.speed_share > 0.0 && self.speed_share <= 1.0) {
            wrong.push(format!(
                "speed-share = {} must lie above 0 and not above 1: a node cannot be emulated \
                 faster than the machine",
                self.speed_share
            ));
        }
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.insecure {
            wrong.push(format!(
                "listen = {} is reachable from other machines without certificates; set tls.ca, \
                 tls.cert and tls.key, or insecure = true if the network is trusted",
                self.listen
            ));
        }
        if self.orchestrator.is_empty() {
            wrong.push("orchestrator must name the orchestrator's host:port".into());
        }
        if self.peer_queue == 0 || self.max_frame_bytes == 0 {
            wrong.push("peer-queue and max-frame-bytes must be at least 1".into());
        }
        wrong
    }

    /// Whether the node is slower or smaller than the machine that it runs on, or its links are.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.emulated || self.speed_share < 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        assert!(Config::default().check().is_empty());
        let wrong = Config {
            speed_share: 1.5,
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            ..Config::default()
        };
        assert_eq!(wrong.check().len(), 2);
    }
}
