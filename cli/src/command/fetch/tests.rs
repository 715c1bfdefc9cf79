//! Packages from folders, URLs and registries of this process.

use std::fs;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::download::{
    QUICK,
    credentials::basic,
    digest,
    served::{Reply, Served},
};

/// An archive.
pub(super) fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn of(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

const MANIFEST: &str = "[package]\nname = \"net\"\n";

fn package() -> Bytes {
    tar(&[
        ("net/package.toml", MANIFEST.as_bytes()),
        ("net/a.onnx", &[5; 3000]),
    ])
    .into()
}

fn fetch(into: &Path) -> Fetch {
    Fetch {
        name: "net".into(),
        into: into.to_owned(),
        path: None,
        url: None,
        oci: None,
        digest: None,
        plain_http: true,
        ca: None,
        registry_config: Vec::new(),
    }
}

async fn refused(args: &Fetch) -> String {
    format!("{:#}", bring(args, QUICK).await.unwrap_err())
}

fn is_whole(into: &Path) -> bool {
    let names = fs::read_dir(into)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.collect::<Vec<_>>() == ["net"]
        && fs::read(into.join("net/a.onnx")).unwrap() == [5; 3000]
        && fs::read_to_string(into.join("net/package.toml")).unwrap() == MANIFEST
}

#[tokio::test]
async fn a_package_comes_whole_and_under_its_own_name() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    crate::shipped::write_packages(from.path(), Some("simple")).unwrap();
    let fetch = |name: &str| Fetch {
        name: name.into(),
        path: Some(from.path().join("simple")),
        ..fetch(into.path())
    };
    bring(&fetch("simple"), QUICK).await.unwrap();
    bring(&fetch("simple"), QUICK).await.unwrap();
    assert!(into.path().join("simple/package.toml").is_file());
    assert!(refused(&fetch("other")).await.contains("spec.model"));
    for name in ["../x", "", ".", "a/b", "/a"] {
        assert!(
            refused(&fetch(name)).await.contains("no model's name"),
            "{name}"
        );
    }
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_at_a_url_becomes_a_package_and_a_changed_one_replaces_nothing() {
    let whole = package();
    let server = Served::http(move |_, asked| Reply::file(&whole, asked)).await;
    let into = tempfile::tempdir().unwrap();
    let args = Fetch {
        url: Some(format!("http://{}/net.tar", server.address)),
        digest: Some(of(&package())),
        ..fetch(into.path())
    };
    bring(&args, QUICK).await.unwrap();
    assert!(is_whole(into.path()));
    let other = Fetch {
        digest: Some(of(b"other")),
        ..args
    };
    assert!(refused(&other).await.contains("nothing was kept"));
    assert!(is_whole(into.path()));
}

/// A registry that wants tokens, gives layers away elsewhere, and is asked for one artifact.
struct Registry {
    server: Served,
    _blobs: Served,
    manifest: String,
    index: String,
}

/// What may be different.
#[derive(Clone, Copy, Default)]
struct How {
    files: bool,
    changed: bool,
    basic: bool,
    short: bool,
}

impl Registry {
    async fn start(how: How) -> Self {
        let layer = |bytes: &[u8], title: &str| {
            let size = if how.short {
                bytes.len() - 1
            } else {
                bytes.len()
            };
            json!({"mediaType": "application/octet-stream", "digest": of(bytes), "size": size,
                "annotations": {"org.opencontainers.image.title": title}})
        };
        let blobs: Vec<Bytes> = if how.files {
            vec![MANIFEST.into(), Bytes::from(vec![5; 3000])]
        } else {
            vec![package()]
        };
        let titles = if how.files {
            vec!["package.toml", "a.onnx"]
        } else {
            vec!["net.tar"]
        };
        let layers: Vec<Value> = blobs
            .iter()
            .zip(titles)
            .map(|(blob, title)| layer(blob, title))
            .collect();
        let manifest = json!({"schemaVersion": 2, "layers": layers}).to_string();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": kind, "digest": of(manifest.as_bytes()), "size": manifest.len()}]});
        let index = index.to_string();
        let (of_manifest, of_index) = (of(manifest.as_bytes()), of(index.as_bytes()));
        let stored = Served::http(move |path, asked| {
            let found = blobs.iter().find(|blob| path.ends_with(&of(blob)));
            let blob = found.expect("a blob").clone();
            // The last byte is another.
            let blob = if how.changed {
                [&blob[..blob.len() - 1], b"!"].concat().into()
            } else {
                blob
            };
            Reply::file(&blob, asked)
        })
        .await;
        let (place, names) = (stored.address, (of_manifest.clone(), of_index.clone()));
        let answer = move |path: &str, asked: &HeaderMap| {
            let told = asked
                .get("authorization")
                .map(|value| value.to_str().unwrap());
            let me = basic("me", "secret").unwrap();
            if let Some(query) = path.strip_prefix("/token?") {
                assert_eq!(
                    query,
                    "service=r.example&scope=repository%3Anets%2Fnet%3Apull"
                );
                return if told == Some(me.to_str().unwrap()) {
                    Reply::new(200, r#"{"token": "t0ken", "expires_in": 60}"#)
                } else {
                    Reply::new(401, "")
                };
            }
            let (wanted, challenge) = if how.basic {
                (
                    me.to_str().unwrap().to_owned(),
                    "Basic realm=\"r\"".to_owned(),
                )
            } else {
                let host = asked["host"].to_str().unwrap();
                let realm = format!(
                    "Bearer realm=\"http://{host}/token\",service=\"r.example\",scope=\"repository:nets/net:pull\""
                );
                ("Bearer t0ken".to_owned(), realm)
            };
            if told != Some(&wanted) {
                return Reply::new(401, "").with("www-authenticate", &challenge);
            }
            let which = path.strip_prefix("/v2/nets/net/").expect("the repository");
            match which.split_once('/') {
                Some(("manifests", "1")) => Reply::new(200, index.clone()),
                Some(("manifests", one)) if one == names.1 => Reply::new(200, index.clone()),
                Some(("manifests", one)) if one == names.0 => Reply::new(200, manifest.clone()),
                Some(("blobs", one)) => {
                    Reply::new(307, "").with("location", &format!("http://{place}/{one}"))
                }
                _ => Reply::new(404, ""),
            }
        };
        Self {
            server: Served::http(answer).await,
            _blobs: stored,
            manifest: of_manifest,
            index: of_index,
        }
    }

    fn name(&self) -> String {
        format!("{}/nets/net", self.server.address)
    }
}

/// What `docker login` would have written.
fn login(folder: &Path, registry: &Registry, password: &str) -> PathBuf {
    let place = registry.server.address.to_string();
    let config = json!({"auths": {place: {"username": "me", "password": password}}});
    let path = folder.join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn an_artifact_comes_by_token_from_an_index_by_tag_or_digest_and_nobody_else_is_told_the_token()
 {
    for how in [
        How::default(),
        How {
            files: true,
            ..How::default()
        },
        How {
            basic: true,
            ..How::default()
        },
    ] {
        let registry = Registry::start(how).await;
        let keys = tempfile::tempdir().unwrap();
        let name = registry.name();
        for (oci, digest) in [
            (format!("{name}:1"), None),
            (name.clone(), Some(registry.index.clone())),
            (format!("{name}:1@{}", registry.manifest), None),
        ] {
            let into = tempfile::tempdir().unwrap();
            let args = Fetch {
                oci: Some(oci),
                digest,
                registry_config: vec![login(keys.path(), &registry, "secret")],
                ..fetch(into.path())
            };
            bring(&args, QUICK).await.unwrap();
            assert!(is_whole(into.path()));
        }
        assert!(
            registry
                ._blobs
                .headers("authorization")
                .iter()
                .all(String::is_empty)
        );
        let tokens = registry
            .server
            .paths()
            .iter()
            .filter(|path| path.starts_with("/token"))
            .count();
        assert_eq!(tokens, if how.basic { 0 } else { 3 });
    }
}

#[tokio::test]
async fn who_may_not_ask_is_told_what_is_missing_and_no_secret_is_shown() {
    for how in [
        How::default(),
        How {
            basic: true,
            ..How::default()
        },
    ] {
        let registry = Registry::start(how).await;
        let (into, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let nobody = Fetch {
            oci: Some(format!("{}:1", registry.name())),
            ..fetch(into.path())
        };
        assert!(refused(&nobody).await.contains("--registry-config"));
        let wrong = Fetch {
            registry_config: vec![login(keys.path(), &registry, "wr0ng")],
            ..nobody
        };
        let why = refused(&wrong).await;
        assert!(
            why.contains("name and password are right") && !why.contains("wr0ng"),
            "{why}"
        );
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_a_registry_changes_is_not_kept() {
    let story = async |how: How, name: fn(&Registry) -> (String, Option<String>)| {
        let registry = Registry::start(how).await;
        let (into, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (oci, digest) = name(&registry);
        let args = Fetch {
            oci: Some(oci),
            digest,
            registry_config: vec![login(keys.path(), &registry, "secret")],
            ..fetch(into.path())
        };
        let why = refused(&args).await;
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0, "{why}");
        why
    };
    let by_tag = |registry: &Registry| (format!("{}:1", registry.name()), None);
    let changed = How {
        changed: true,
        ..How::default()
    };
    assert!(story(changed, by_tag).await.contains("nothing was kept"));
    let files = How {
        files: true,
        ..changed
    };
    assert!(story(files, by_tag).await.contains("nothing was kept"));
    let short = How {
        short: true,
        ..How::default()
    };
    assert!(story(short, by_tag).await.contains("larger than"));
    let missing = |registry: &Registry| (registry.name(), Some(of(b"nobody")));
    assert!(story(How::default(), missing).await.contains("404"));
}
