//! One machine: kernel, cores, memory, control groups, clock, ports, names, certificates.

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

use tokio::net::TcpListener;

use super::Finding;
use crate::{certificates, command::certs::now, output};

/// Oldest kernel whose control groups and sockets are known to do: that of Debian 11 and Ubuntu 20.04.
const KERNEL: (u32, u32) = (5, 4);
/// Less memory leaves nothing for fragments.
const MEMORY: u64 = 256 << 20;

/// Everything about this machine.
pub(crate) async fn look(ports: &[u16], names: &[String], certs: Option<&PathBuf>) -> Vec<Finding> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut findings = vec![kernel(&release)];
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    findings.push(Finding::good(
        "cores",
        format!("{cores}, as many as this process may use"),
    ));
    findings.push(memory(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
    ));
    findings.push(groups(Path::new("/sys/fs/cgroup")));
    findings.push(clock(Path::new("/"), now()));
    for port in ports {
        let address = SocketAddr::from(([0, 0, 0, 0], *port));
        findings.push(match TcpListener::bind(address).await {
            Ok(_) => Finding::good("port", format!("{port} is free")),
            Err(error) => Finding::doubt(
                "port",
                format!("{port}: {error}"),
                format!("`ss -ltnp 'sport = :{port}'` says who has it; when it is SplitPlace, all is well"),
            ),
        });
    }
    for name in names {
        findings.push(resolve(name));
    }
    if let Some(folder) = certs {
        for file in ["ca.crt", "orchestrator.crt", "worker.crt", "tls.crt"] {
            if let Ok(pem) = fs::read(folder.join(file)) {
                findings.push(certificate(file, &pem, now()));
            }
        }
    }
    findings
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    if version < KERNEL {
        let mend = format!(
            "use {}.{} or newer: older ones count memory and CPU differently",
            KERNEL.0, KERNEL.1
        );
        return Finding::bad("kernel", release, mend);
    }
    Finding::good("kernel", release)
}

fn memory(meminfo: &str) -> Finding {
    let kilobytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    };
    let (Some(all), Some(free)) = (kilobytes("MemTotal:"), kilobytes("MemAvailable:")) else {
        return Finding::doubt("memory", "not known", "is /proc mounted?");
    };
    let (all, free) = (all * 1024, free * 1024);
    let seen = format!(
        "{} of {} available",
        output::bytes(free),
        output::bytes(all)
    );
    if free < MEMORY {
        let mend = format!(
            "free some: a worker wants at least {}",
            output::bytes(MEMORY)
        );
        return Finding::bad("memory", seen, mend);
    }
    Finding::good("memory", seen)
}

fn groups(root: &Path) -> Finding {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|one| one == name);
    if has("cpu") && has("memory") {
        return Finding::good("control groups", "version 2, with cpu and memory");
    }
    if root.join("memory/memory.limit_in_bytes").is_file()
        && root.join("cpu/cpu.cfs_quota_us").is_file()
    {
        return Finding::doubt(
            "control groups",
            "version 1, with cpu and memory",
            "works, but Kubernetes is giving version 1 up: boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    Finding::bad(
        "control groups",
        "no limits for cpu and memory",
        "k3s needs them; on a Raspberry Pi add cgroup_enable=memory cgroup_memory=1 to the kernel's \
         command line in cmdline.txt",
    )
}

/// Seconds since the epoch when this was written: a clock before it is wrong.
const WRITTEN: i64 = 1_764_000_000;

fn clock(root: &Path, now: i64) -> Finding {
    if now < WRITTEN {
        let mend = "set the clock, then have it kept (timedatectl set-ntp true): certificates would not be valid yet";
        return Finding::bad("clock", "it is in the past", mend);
    }
    let is_kept = [
        "run/systemd/timesync/synchronized",
        "run/chrony/chronyd.pid",
        "run/chronyd.pid",
        "run/ntpd.pid",
    ];
    if is_kept.iter().any(|file| root.join(file).exists()) {
        return Finding::good("clock", "kept by the network");
    }
    Finding::doubt(
        "clock",
        "nobody is seen to keep it",
        "timedatectl set-ntp true; certificates and the times of hops need clocks that agree",
    )
}

/// Whether a name leads anywhere.
pub(crate) fn resolve(name: &str) -> Finding {
    let with_port = if name.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:0")
    };
    match with_port.to_socket_addrs() {
        Ok(mut found) => match found.next() {
            Some(address) => Finding::good("name", format!("{name} is {}", address.ip())),
            None => Finding::bad(
                "name",
                format!("{name} has no address"),
                "ask whoever keeps the DNS",
            ),
        },
        Err(error) => Finding::bad(
            "name",
            format!("{name}: {error}"),
            "is it spelled right? In a cluster: kubectl -n kube-system get pods -l k8s-app=kube-dns",
        ),
    }
}

/// A certificate, by when it ends.
pub(crate) fn certificate(name: &str, pem: &[u8], now: i64) -> Finding {
    let facts = match certificates::read(pem) {
        Ok(facts) => facts,
        Err(error) => {
            return Finding::bad(
                "certificate",
                format!("{name}: {error:#}"),
                "delete it and make a new one: splitplace certs",
            );
        }
    };
    let days = (facts.end - now) / (24 * 3600);
    let seen = format!(
        "{name} holds for {days} more days, for {}",
        facts.hosts.join(", ")
    );
    let renew = "helm upgrade makes a new one, then restart the pods; without a cluster: splitplace certs dir";
    if now < facts.begin {
        return Finding::bad(
            "certificate",
            format!("{name} is not valid yet"),
            "set the clock",
        );
    }
    match days {
        ..0 => Finding::bad(
            "certificate",
            format!("{name} ended {} days ago", -days),
            renew,
        ),
        0..30 => Finding::doubt("certificate", seen, renew),
        _ => Finding::good("certificate", seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn kernels_are_compared_as_numbers() {
        assert_eq!(kernel("5.10.0-28-arm64").level, Level::Good);
        assert_eq!(kernel("6.1.21-v8+").level, Level::Good);
        assert_eq!(kernel("4.19.0").level, Level::Bad);
        assert_eq!(kernel("nonsense").level, Level::Bad);
    }

    #[test]
    fn little_memory_is_bad() {
        let of = |kb: u64| memory(&format!("MemTotal: 1000000 kB\nMemAvailable: {kb} kB\n")).level;
        assert_eq!((of(900_000), of(100_000)), (Level::Good, Level::Bad));
        assert_eq!(memory("").level, Level::Doubt);
    }

    #[test]
    fn a_raspberry_without_the_memory_group_is_told_what_to_do() {
        let root = tempfile::tempdir().expect("folder");
        let find = || groups(root.path());
        assert!(find().mend.contains("cmdline.txt"));
        fs::write(
            root.path().join("cgroup.controllers"),
            "cpuset cpu io memory pids\n",
        )
        .expect("write");
        assert_eq!(find().level, Level::Good);
    }

    #[test]
    fn certificates_are_judged_by_their_end() {
        let day = 24 * 3600;
        let authority = certificates::authority("a", WRITTEN).expect("authority");
        let signed =
            certificates::sign(&authority, "n", &["h".into()], 90, WRITTEN).expect("signed");
        let at = |days: i64| certificate("n", signed.cert.as_bytes(), WRITTEN + days * day).level;
        assert_eq!(
            (at(1), at(75), at(120)),
            (Level::Good, Level::Doubt, Level::Bad)
        );
        assert_eq!(at(-30), Level::Bad);
        assert_eq!(certificate("n", b"", 0).level, Level::Bad);
        assert_eq!(clock(Path::new("/nowhere"), 0).level, Level::Bad);
    }
}
