//! `splitplace certs`: an authority and certificates, into a folder or into a cluster's secrets.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use splitplace_k8s::cluster::{self, Cluster};

use crate::certificates::{self, Signed};

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Into a folder, for machines without a cluster.
    Dir(Dir),
    /// Into secrets of a cluster; the chart's hook calls this.
    Cluster(Box<InCluster>),
}

#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The folder; an authority that is in it is used again.
    folder: PathBuf,
    /// Name or address under which the orchestrator is reached; can be given many times.
    #[arg(long = "orchestrator-host", value_name = "HOST", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    orchestrator: Vec<String>,
    /// Name or address under which workers are reached; can be given many times.
    #[arg(long = "worker-host", value_name = "HOST", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    worker: Vec<String>,
    /// Days that certificates hold.
    #[arg(long, default_value_t = 730, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,
}

#[derive(Debug, Args)]
pub(crate) struct InCluster {
    /// Namespace of the secrets.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Secret of the authority; made when it is not there.
    #[arg(long, value_name = "SECRET")]
    authority: String,
    /// Secret of the orchestrator.
    #[arg(long, value_name = "SECRET")]
    orchestrator: String,
    /// Its names and addresses.
    #[arg(long = "orchestrator-host", value_name = "HOST", required = true)]
    orchestrator_hosts: Vec<String>,
    /// Secret of the workers.
    #[arg(long, value_name = "SECRET")]
    worker: String,
    /// Their names and addresses.
    #[arg(long = "worker-host", value_name = "HOST", required = true)]
    worker_hosts: Vec<String>,
    /// Days that certificates hold; those with less than a third left are made anew.
    #[arg(long, default_value_t = 730, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,
}

pub(crate) async fn run(command: Certs) -> Result<ExitCode> {
    match command {
        Certs::Dir(args) => into_folder(&args),
        Certs::Cluster(args) => into_cluster(*args).await,
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

fn into_folder(args: &Dir) -> Result<ExitCode> {
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make {}", args.folder.display()))?;
    let read = |file: &str| std::fs::read_to_string(args.folder.join(file)).ok();
    let authority = match (read("ca.crt"), read("ca.key")) {
        (Some(cert), Some(key)) => Signed { cert, key },
        _ => certificates::authority("SplitPlace fleet", now())?,
    };
    let write = |file: &str, text: &str, mode: u32| {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let path = args.folder.join(file);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        options
            .open(&path)
            .and_then(|mut open| open.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    write("ca.crt", &authority.cert, 0o644)?;
    write("ca.key", &authority.key, 0o600)?;
    for (name, hosts) in [
        ("orchestrator", &args.orchestrator),
        ("worker", &args.worker),
    ] {
        let signed = certificates::sign(&authority, name, hosts, args.days, now())?;
        write(&format!("{name}.crt"), &signed.cert, 0o644)?;
        write(&format!("{name}.key"), &signed.key, 0o600)?;
    }
    println!(
        "wrote ca, orchestrator and worker to {}; ca.key belongs on no node: keep it for later certificates",
        args.folder.display()
    );
    Ok(ExitCode::SUCCESS)
}

async fn into_cluster(args: InCluster) -> Result<ExitCode> {
    let client = cluster::connect().await?;
    let cluster = Cluster::new(client, &args.namespace, "certificates");
    let text = |secret: &mut BTreeMap<String, Vec<u8>>, key: &str| {
        secret
            .remove(key)
            .and_then(|bytes| String::from_utf8(bytes).ok())
    };
    let mut is_new = false;
    let found = cluster.secret(&args.authority).await?;
    let authority =
        match found.map(|mut found| (text(&mut found, "tls.crt"), text(&mut found, "tls.key"))) {
            Some((Some(cert), Some(key))) => Signed { cert, key },
            Some(_) => anyhow::bail!(
                "the secret {} has no tls.crt and tls.key; delete it, and a new authority is made",
                args.authority
            ),
            None => {
                is_new = true;
                let made = certificates::authority(&args.authority, now())?;
                cluster
                    .set_secret(&args.authority, data(&made, &made.cert))
                    .await?;
                println!("made the authority {}", args.authority);
                made
            }
        };
    for (secret, hosts) in [
        (&args.orchestrator, &args.orchestrator_hosts),
        (&args.worker, &args.worker_hosts),
    ] {
        let why = match cluster.secret(secret).await? {
            None => Some("it is not there".to_owned()),
            Some(_) if is_new => Some("the authority is new".to_owned()),
            Some(found) => {
                match certificates::read(found.get("tls.crt").map_or(&[], Vec::as_slice)) {
                    Ok(facts) => certificates::stale(&facts, hosts, now()),
                    Err(error) => Some(error.to_string()),
                }
            }
        };
        match why {
            None => println!("{secret} is good"),
            Some(why) => {
                let signed = certificates::sign(&authority, secret, hosts, args.days, now())?;
                cluster
                    .set_secret(secret, data(&signed, &authority.cert))
                    .await?;
                println!("made {secret}: {why}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn data(signed: &Signed, authority: &str) -> BTreeMap<String, Vec<u8>> {
    [
        ("ca.crt", authority),
        ("tls.crt", &signed.cert),
        ("tls.key", &signed.key),
    ]
    .into_iter()
    .map(|(key, text)| (key.to_owned(), text.as_bytes().to_vec()))
    .collect()
}
