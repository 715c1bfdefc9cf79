//! A real API server with its etcd, where this machine has them.
//!
//! They are looked for as `SPLITPLACE_KUBE_APISERVER` and `SPLITPLACE_ETCD`, in `KUBEBUILDER_ASSETS`, and on the
//! path. Everything that they write is in a folder of the test's, everything that they listen on is loopback.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use rcgen::KeyPair;

use crate::process::Process;

/// Token of a user who may do everything.
pub const ADMIN: &str = "token-of-the-admin";

/// Where the two programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    apiserver: PathBuf,
    etcd: PathBuf,
}

impl Programs {
    /// The programs of this machine, or which one it lacks.
    ///
    /// # Errors
    /// The sentence for whoever reads that a test was skipped.
    pub fn find() -> Result<Self, String> {
        let find = |name: &str, variable: &str| {
            let named = env::var_os(variable).map(PathBuf::from);
            let assets =
                env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(name));
            let path = env::var_os("PATH").unwrap_or_default();
            let on_path: Vec<PathBuf> = env::split_paths(&path)
                .map(|folder| folder.join(name))
                .collect();
            let mut all = named.into_iter().chain(assets).chain(on_path);
            all.find(|path| path.is_file()).ok_or_else(|| {
                format!("no {name}: name it in {variable}, or its folder in KUBEBUILDER_ASSETS")
            })
        };
        Ok(Self {
            apiserver: find("kube-apiserver", "SPLITPLACE_KUBE_APISERVER")?,
            etcd: find("etcd", "SPLITPLACE_ETCD")?,
        })
    }
}

/// A running API server. Dropping it kills both.
#[derive(Debug)]
pub struct ApiServer {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    etcd_port: u16,
    _etcd: Process,
    server: Option<Process>,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl ApiServer {
    /// Starts both with everything in `folder`. Besides the admin there are `users`: token, name, group.
    /// It may take some seconds to answer.
    ///
    /// # Errors
    /// When one of them cannot be started.
    pub fn start(programs: Programs, folder: &Path, users: &[(&str, &str, &str)]) -> Result<Self> {
        let (port, etcd_port, peer_port) = (free_port()?, free_port()?, free_port()?);
        let key = KeyPair::generate()?;
        fs::write(folder.join("accounts.key"), key.serialize_pem())?;
        fs::write(folder.join("accounts.pub"), key.public_key_pem())?;
        let mut tokens = format!("{ADMIN},admin,admin,\"system:masters\"\n");
        for (token, name, group) in users {
            tokens.push_str(&format!("{token},{name},{name},\"{group}\"\n"));
        }
        fs::write(folder.join("tokens.csv"), tokens)?;
        let (client, peer) = (
            format!("http://127.0.0.1:{etcd_port}"),
            format!("http://127.0.0.1:{peer_port}"),
        );
        let etcd = Process::start(
            Command::new(&programs.etcd)
                .arg("--data-dir")
                .arg(folder.join("etcd"))
                .args([
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                ])
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args(["--initial-cluster", &format!("default={peer}")]),
        )?;
        let mut started = Self {
            programs,
            folder: folder.to_owned(),
            port,
            etcd_port,
            _etcd: etcd,
            server: None,
        };
        started.run()?;
        Ok(started)
    }

    /// Kills the server as a power cut does; etcd keeps what was acknowledged.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().context("it does not run")?.kill_9()
    }

    /// Starts the server, on the address that it had before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&mut self) -> Result<()> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let server = Process::start(
            Command::new(&self.programs.apiserver)
                .arg(format!(
                    "--etcd-servers=http://127.0.0.1:{}",
                    self.etcd_port
                ))
                .arg(format!("--secure-port={}", self.port))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                .arg(format!("--cert-dir={}", file("certificates")))
                .arg(format!(
                    "--service-account-key-file={}",
                    file("accounts.pub")
                ))
                .arg(format!(
                    "--service-account-signing-key-file={}",
                    file("accounts.key")
                ))
                .args([
                    "--service-account-issuer=https://splitplace.test",
                    "--authorization-mode=RBAC",
                ])
                .arg(format!("--token-auth-file={}", file("tokens.csv")))
                // No controller makes accounts' tokens here.
                .args([
                    "--disable-admission-plugins=ServiceAccount",
                    "--service-cluster-ip-range=10.0.0.0/24",
                ]),
        )?;
        self.server = Some(server);
        Ok(())
    }

    /// How it is reached by whoever has this token.
    #[must_use]
    pub fn kubeconfig(&self, namespace: &str, token: &str) -> String {
        let server = format!("https://127.0.0.1:{}", self.port);
        crate::cluster::kubeconfig_of(&server, namespace, &serde_json::json!({"token": token}))
    }
}
