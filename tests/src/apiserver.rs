//! A real API server with its etcd, where this machine has them: the whole one, or the part of it that serves custom
//! resources (`apiextensions-apiserver`, which Kubernetes also keeps as a program of its own).
//!
//! They are looked for as `SPLITPLACE_KUBE_APISERVER`, `SPLITPLACE_APIEXTENSIONS_APISERVER` and `SPLITPLACE_ETCD`, in
//! `KUBEBUILDER_ASSETS`, and on the path. Everything that they write is in a folder of the test's, everything that they
//! listen on is loopback.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};

use crate::process::Process;

/// Token of a user who may do everything.
pub const ADMIN: &str = "token-of-the-admin";

/// How much of an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Custom resources and their definitions. It asks another server who may do what; here everybody with a
    /// certificate may do everything.
    CustomResources,
}

/// Where the two programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    extent: Extent,
    server: PathBuf,
    etcd: PathBuf,
}

impl Programs {
    /// The programs of this machine, or which one it lacks.
    ///
    /// # Errors
    /// The sentence for whoever reads that a test was skipped.
    pub fn find(extent: Extent) -> Result<Self, String> {
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
        let server = match extent {
            Extent::Whole => find("kube-apiserver", "SPLITPLACE_KUBE_APISERVER"),
            Extent::CustomResources => find(
                "apiextensions-apiserver",
                "SPLITPLACE_APIEXTENSIONS_APISERVER",
            ),
        };
        Ok(Self {
            extent,
            server: server?,
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

/// Leads to nobody.
const NOBODY: &str = "nobody.kubeconfig";

/// What a whole server asks who somebody is.
fn write_tokens(folder: &Path, users: &[(&str, &str, &str)]) -> Result<()> {
    let key = KeyPair::generate()?;
    fs::write(folder.join("accounts.key"), key.serialize_pem())?;
    fs::write(folder.join("accounts.pub"), key.public_key_pem())?;
    let mut tokens = format!("{ADMIN},admin,admin,\"system:masters\"\n");
    for (token, name, group) in users {
        tokens.push_str(&format!("{token},{name},{name},\"{group}\"\n"));
    }
    Ok(fs::write(folder.join("tokens.csv"), tokens)?)
}

/// An authority of clients and one client of it, in the group that may do everything.
fn write_certificates(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new([])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(
        folder.join("clients.crt"),
        authority.self_signed(&key)?.pem(),
    )?;
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate()?;
    let mut client = CertificateParams::new([])?;
    let name = &mut client.distinguished_name;
    name.push(DnType::CommonName, "admin");
    name.push(DnType::OrganizationName, "system:masters");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    fs::write(
        folder.join("client.crt"),
        client.signed_by(&key, &issuer)?.pem(),
    )?;
    fs::write(folder.join("client.key"), key.serialize_pem())?;
    let nobody = crate::cluster::kubeconfig_of("https://127.0.0.1:1", "default", &json!({}));
    Ok(fs::write(folder.join(NOBODY), nobody)?)
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
        match programs.extent {
            Extent::Whole => write_tokens(folder, users)?,
            Extent::CustomResources => write_certificates(folder)?,
        }
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
        let options = match self.programs.extent {
            Extent::Whole => vec![
                "--advertise-address=127.0.0.1".to_owned(),
                format!("--service-account-key-file={}", file("accounts.pub")),
                format!("--service-account-signing-key-file={}", file("accounts.key")),
                "--service-account-issuer=https://splitplace.test".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                format!("--token-auth-file={}", file("tokens.csv")),
                // No controller makes accounts' tokens here.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            ],
            Extent::CustomResources => vec![
                format!("--client-ca-file={}", file("clients.crt")),
                "--authentication-skip-lookup".to_owned(),
                format!("--kubeconfig={}", file(NOBODY)),
                format!("--authentication-kubeconfig={}", file(NOBODY)),
                format!("--authorization-kubeconfig={}", file(NOBODY)),
                // They would wait for what the rest of the server tells of namespaces and policies.
                "--disable-admission-plugins=NamespaceLifecycle,MutatingAdmissionPolicy,MutatingAdmissionWebhook,\
                 ValidatingAdmissionPolicy,ValidatingAdmissionWebhook"
                    .to_owned(),
            ],
        };
        let server = Process::start(
            Command::new(&self.programs.server)
                .arg(format!(
                    "--etcd-servers=http://127.0.0.1:{}",
                    self.etcd_port
                ))
                .arg(format!("--secure-port={}", self.port))
                .arg("--bind-address=127.0.0.1")
                .arg(format!("--cert-dir={}", file("certificates")))
                .args(options),
        )?;
        self.server = Some(server);
        Ok(())
    }

    /// How it is reached by whoever has this token; the part for custom resources by anybody.
    #[must_use]
    pub fn kubeconfig(&self, namespace: &str, token: &str) -> String {
        let server = format!("https://127.0.0.1:{}", self.port);
        let user: Value = match self.programs.extent {
            Extent::Whole => json!({"token": token}),
            Extent::CustomResources => json!({
                "client-certificate": self.folder.join("client.crt"),
                "client-key": self.folder.join("client.key"),
            }),
        };
        crate::cluster::kubeconfig_of(&server, namespace, &user)
    }
}
