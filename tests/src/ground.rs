//! Ground for processes to stand on: a network namespace for each node, links of a given rate, and
//! limits on CPU and memory, where the machine allows it.
//!
//! The machine may be a container without the right to any of this. [`Ground::lay`] says what is missing;
//! a test then says SKIPPED, where it can be seen, and the rest of the suite covers what it can without.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

/// Limits of one node.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Share of one core.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Megabits a second of its link.
    pub mbit: u32,
}

/// Namespaces and control groups of one test, taken away when dropped.
#[derive(Debug)]
pub struct Ground {
    name: String,
    subnet: u8,
    nodes: Vec<String>,
    groups: Vec<PathBuf>,
}

impl Ground {
    /// Lays the ground: a namespace in the middle with a bridge, where the orchestrator stands.
    ///
    /// # Errors
    /// What the machine does not allow.
    pub fn lay(subnet: u8) -> Result<Self> {
        let name = format!("sp{}x{subnet}", std::process::id());
        run("ip", &["netns", "add", &name]).context("no network namespaces")?;
        // From here on dropping cleans up.
        let ground = Self {
            name,
            subnet,
            nodes: Vec::new(),
            groups: Vec::new(),
        };
        let center = ground.center();
        ground.inside(&center, &["ip", "link", "set", "lo", "up"])?;
        ground.inside(&center, &["ip", "link", "add", "br0", "type", "bridge"])?;
        let address = format!("{}/24", ground.center_address());
        ground.inside(&center, &["ip", "addr", "add", &address, "dev", "br0"])?;
        ground.inside(&center, &["ip", "link", "set", "br0", "up"])?;
        Ok(ground)
    }

    /// The namespace in the middle.
    #[must_use]
    pub fn center(&self) -> String {
        self.name.clone()
    }

    /// Address of the middle.
    #[must_use]
    pub fn center_address(&self) -> String {
        format!("10.77.{}.1", self.subnet)
    }

    /// Adds a node with its link and limits; gives its namespace and address.
    ///
    /// # Errors
    /// What the machine does not allow.
    pub fn node(&mut self, limits: Limits) -> Result<(String, String)> {
        let number = self.nodes.len() + 1;
        let node = format!("{}n{number}", self.name);
        run("ip", &["netns", "add", &node])?;
        self.nodes.push(node.clone());
        let (near, far) = (format!("v{number}"), "eth0");
        let center = self.center();
        self.inside(
            &center,
            &[
                "ip", "link", "add", &near, "type", "veth", "peer", "name", far, "netns", &node,
            ],
        )?;
        self.inside(
            &center,
            &["ip", "link", "set", &near, "master", "br0", "up"],
        )?;
        let address = format!("10.77.{}.{}", self.subnet, number + 1);
        self.inside(&node, &["ip", "link", "set", "lo", "up"])?;
        self.inside(
            &node,
            &["ip", "addr", "add", &format!("{address}/24"), "dev", far],
        )?;
        self.inside(&node, &["ip", "link", "set", far, "up"])?;
        let rate = format!("{}mbit", limits.mbit);
        let shape = |device: &str| {
            [
                "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", &rate, "burst", "64kb",
                "latency", "400ms",
            ]
            .map(ToOwned::to_owned)
        };
        for (namespace, device) in [(&center, near.as_str()), (&node, far)] {
            let command = shape(device);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            self.inside(namespace, &command)?;
        }
        self.limit(&node, limits)?;
        Ok((node, address))
    }

    /// Takes a node's link down, or up again.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn link(&self, number: usize, is_up: bool) -> Result<()> {
        let state = if is_up { "up" } else { "down" };
        self.inside(
            &self.center(),
            &["ip", "link", "set", &format!("v{number}"), state],
        )
    }

    /// A command that runs in a namespace and, for a node, within its limits.
    #[must_use]
    pub fn command(&self, namespace: &str, program: &str) -> Command {
        let groups = self
            .groups
            .iter()
            .filter(|group| group.ends_with(namespace));
        let joins: String = groups
            .map(|group| format!("echo $$ > {}/cgroup.procs && ", group.display()))
            .collect();
        // `ip netns exec` would hide the control groups behind a fresh /sys.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/var/run/netns/{namespace}"))
            .args(["sh", "-c"]);
        command
            .arg(format!("{joins}exec \"$0\" \"$@\""))
            .arg(program);
        command
    }

    fn inside(&self, namespace: &str, command: &[&str]) -> Result<()> {
        let mut all = vec!["netns", "exec", namespace];
        all.extend(command);
        run("ip", &all)
    }

    /// Control groups, version 2 where it is there, else version 1.
    fn limit(&mut self, node: &str, limits: Limits) -> Result<()> {
        const PERIOD: u32 = 100_000;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a period"
        )]
        let quota = (limits.cpu * f64::from(PERIOD)) as u32;
        let root = PathBuf::from("/sys/fs/cgroup");
        if root.join("cgroup.controllers").exists() {
            let group = root.join(node);
            self.make(group.clone())?;
            write(group.join("cpu.max"), &format!("{quota} {PERIOD}"))?;
            return write(group.join("memory.max"), &limits.memory.to_string());
        }
        let (cpu, memory) = (root.join("cpu").join(node), root.join("memory").join(node));
        self.make(cpu.clone())?;
        self.make(memory.clone())?;
        write(cpu.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
        write(cpu.join("cpu.cfs_quota_us"), &quota.to_string())?;
        write(
            memory.join("memory.limit_in_bytes"),
            &limits.memory.to_string(),
        )
    }

    fn make(&mut self, group: PathBuf) -> Result<()> {
        fs::create_dir(&group).with_context(|| format!("cannot make group {}", group.display()))?;
        self.groups.push(group);
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for namespace in self.nodes.iter().chain([&self.name]) {
            let _ = run("ip", &["netns", "del", namespace]);
        }
        for group in &self.groups {
            // Processes in it have been killed before; the kernel may take a moment to notice.
            let gone = || fs::remove_dir(group).is_ok() || !group.exists();
            let _ = crate::process::until("an empty control group", || gone().then_some(()));
        }
    }
}

fn write(path: PathBuf, text: &str) -> Result<()> {
    fs::write(&path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} is not there"))?;
    ensure!(!arguments.is_empty(), "nothing to do");
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )
}
