//! How much memory and how many cores a node really has: what the control group allows, if there is
//! one, and what the machine has otherwise.

use std::{fs, path::Path};

/// A capacity and where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes.
    pub bytes: u64,
    /// For people.
    pub source: String,
}

/// Memory that fragments may take: the least of configuration, control group and machine.
#[must_use]
pub fn memory(configured: u64) -> Capacity {
    let group = group_limit(Path::new("/sys/fs/cgroup"), &own_groups());
    choose(configured, group, machine_memory())
}

fn choose(configured: u64, group: Option<Capacity>, machine: u64) -> Capacity {
    let mut best = Capacity {
        bytes: machine,
        source: "the machine's memory".into(),
    };
    if let Some(group) = group
        && group.bytes < best.bytes
    {
        best = group;
    }
    if 0 < configured && configured < best.bytes {
        best = Capacity {
            bytes: configured,
            source: "the configuration".into(),
        };
    }
    best
}

fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(u64::MAX, |kilobytes| kilobytes.saturating_mul(1024))
}

/// Lines of `/proc/self/cgroup`: `0::/path` for version 2, `n:memory:/path` for version 1.
fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The tightest limit from the own group up to the root, version 2 first, then version 1.
fn group_limit(root: &Path, groups: &str) -> Option<Capacity> {
    let path = |controller: Option<&str>| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_it = match controller {
                None => names.is_empty(),
                Some(name) => names.split(',').any(|one| one == name),
            };
            is_it.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let version2 = path(None).and_then(|path| tightest(root, &path, "memory.max"));
    let version1 = path(Some("memory"))
        .and_then(|path| tightest(&root.join("memory"), &path, "memory.limit_in_bytes"));
    version2.or(version1)
}

fn tightest(root: &Path, path: &str, file: &str) -> Option<Capacity> {
    // A path as seen from outside a container is not there inside: then the mount itself is the group.
    let mut folder = root.join(path);
    let mut best: Option<Capacity> = None;
    loop {
        let place = folder.join(file);
        if let Ok(text) = fs::read_to_string(&place)
            && let Ok(bytes) = text.trim().parse::<u64>()
            // Version 1 says "no limit" with a number close to the largest.
            && bytes < 1 << 60
            && best.as_ref().is_none_or(|best| bytes < best.bytes)
        {
            best = Some(Capacity {
                bytes,
                source: format!("the control group's {file}"),
            });
        }
        if folder == root || !folder.pop() {
            return best;
        }
    }
}

/// Cores that may be used: the configuration, else what the system grants this process.
#[must_use]
pub fn cores(configured: u32) -> u32 {
    if 0 < configured {
        return configured;
    }
    // Counts affinity and the control group's quota.
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_of_the_limits_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "5000\n").unwrap();
        let found = group_limit(root.path(), "0::/a/b\n").unwrap();
        assert_eq!(found.bytes, 5000);
        assert_eq!(choose(0, Some(found.clone()), 9000).bytes, 5000);
        assert_eq!(choose(100, Some(found), 9000).source, "the configuration");
        assert_eq!(choose(0, None, 9000).bytes, 9000);
    }

    #[test]
    fn version_1_is_read_where_there_is_no_version_2() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("memory/x");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.limit_in_bytes"), "100000000\n").unwrap();
        let huge = root.path().join("memory/memory.limit_in_bytes");
        fs::write(huge, "9223372036854771712\n").unwrap();
        let found = group_limit(root.path(), "4:cpu,memory:/x\n0::/\n").unwrap();
        assert_eq!(found.bytes, 100_000_000);
    }
}
