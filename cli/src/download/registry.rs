//! An artifact in an OCI registry: who asks, which manifest, which layers.
//!
//! What is asked and in which order is that of the OCI distribution specification 1.1; tokens are those of the Docker
//! registry's token authentication. A name without a digest is resolved once, and everything after that goes by digest.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use http::HeaderValue;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Ask, Client, Fault, credentials::Credentials, part, shown};

/// Manifests, and lists of them, of both families.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
/// Layers of one artifact: a package has a file for each fragment at most.
const LAYERS_MAX: usize = 4096;

/// What an artifact is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, with the digest besides, when it is stated on its own.
    ///
    /// # Errors
    /// When it is none, or names nothing that can be asked for.
    pub(crate) fn parse(text: &str, digest: Option<&str>) -> Result<Self> {
        let (name, inner) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (registry, rest) = name.split_once('/').with_context(|| {
            format!("{text} is not REGISTRY/REPOSITORY; as registry.example:5000/nets/clothes")
        })?;
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let is_of = |text: &str, more: &str| {
            let mut bytes = text.bytes();
            !text.is_empty()
                && bytes.all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        };
        let is_sound = is_of(registry, ".:-[]")
            && is_of(repository, "._/-")
            && repository
                .split('/')
                .all(|part| !part.is_empty() && part != "..")
            && tag.is_none_or(|tag| is_of(tag, "._-"));
        ensure!(
            is_sound,
            "{text} is no name of an artifact; as registry.example:5000/nets/clothes:1"
        );
        if let (Some(inner), Some(outer)) = (inner, digest) {
            ensure!(inner == outer, "{text} names another digest than {outer}");
        }
        let digest = digest.or(inner).map(crate::download::sha256).transpose()?;
        ensure!(
            digest.is_some() || tag.is_some(),
            "which version of {text}? Give --digest, or a tag as {text}:1"
        );
        let is_bare = registry == "docker.io" && !repository.contains('/');
        Ok(Self {
            registry: registry.into(),
            repository: if is_bare {
                format!("library/{repository}")
            } else {
                repository.into()
            },
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// A layer of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    /// The file that it is, when the artifact says so.
    pub(crate) title: Option<String>,
}

/// A registry, and who asks it.
pub(crate) struct Registry<'a> {
    client: &'a Client,
    credentials: &'a Credentials,
    reference: Reference,
    base: Url,
    token: Option<HeaderValue>,
}

impl<'a> Registry<'a> {
    /// Asks for `reference`, over plain HTTP if that is said.
    ///
    /// # Errors
    /// When the registry's name makes no URL.
    pub(crate) fn new(
        client: &'a Client,
        credentials: &'a Credentials,
        reference: Reference,
        is_plain: bool,
    ) -> Result<Self> {
        let scheme = if is_plain { "http" } else { "https" };
        let host = match reference.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{}/", reference.repository));
        let base = base.with_context(|| format!("{host} is no registry"))?;
        Ok(Self {
            client,
            credentials,
            reference,
            base,
            token: None,
        })
    }

    /// The digest of the artifact's manifest, and its layers.
    ///
    /// # Errors
    /// When it cannot be had, is not what its digest says, or has no layers that make a package.
    pub(crate) async fn layers(&mut self) -> Result<(String, Vec<Layer>)> {
        let which = self
            .reference
            .digest
            .clone()
            .or_else(|| self.reference.tag.clone());
        let which = which.context("neither a tag nor a digest")?;
        let (mut digest, mut manifest) = self.manifest(&which).await?;
        if let Some(manifests) = manifest["manifests"].as_array() {
            let next = choose(manifests).with_context(|| format!("{digest} lists manifests"))?;
            (digest, manifest) = self.manifest(&next).await?;
        }
        let layers = layers(&manifest).with_context(|| format!("manifest {digest}"))?;
        Ok((digest, layers))
    }

    /// A layer, into a file.
    ///
    /// # Errors
    /// When it cannot be had, or is not what its digest says.
    pub(crate) async fn blob(&mut self, layer: &Layer, to: &Path) -> Result<()> {
        let place = format!("blobs/{}", layer.digest);
        self.get(&place, "*/*", Some((layer, to))).await.map(|_| ())
    }

    async fn manifest(&mut self, which: &str) -> Result<(String, Value)> {
        let bytes = self
            .get(&format!("manifests/{which}"), MANIFESTS, None)
            .await?;
        let digest = part::digest(Sha256::new_with_prefix(&bytes));
        ensure!(
            !which.starts_with("sha256:") || which == digest,
            "the manifest {which} has the digest {digest}; somebody has changed it on the way"
        );
        let manifest = serde_json::from_slice(&bytes);
        Ok((digest, manifest.context("the manifest is no JSON")?))
    }

    /// Asks, says who asks when the registry wants to know, and asks again. An answer goes into a file when there is
    /// one, else comes back.
    async fn get(
        &mut self,
        place: &str,
        accept: &'static str,
        file: Option<(&Layer, &Path)>,
    ) -> Result<bytes::Bytes> {
        let mut is_second = false;
        loop {
            // Not joined: a digest looks like a scheme.
            let ask = Ask::of(&format!("{}{place}", self.base))?.with(accept, self.token.clone());
            let done = match file {
                None => self.client.small(&ask).await,
                Some((layer, to)) => {
                    let done = self.client.file(&ask, &layer.digest, layer.bytes, to).await;
                    done.map(|()| bytes::Bytes::new())
                }
            };
            match done {
                Ok(bytes) => return Ok(bytes),
                Err(Fault::Unauthorized(challenges, _)) if !is_second => {
                    is_second = true;
                    self.log_in(&challenges).await?;
                }
                Err(Fault::Unauthorized(_, error)) => {
                    return Err(error.context(self.credentials.advice(&self.reference.registry)));
                }
                Err(other) => return Err(other.told()),
            }
        }
    }

    /// Gets a token, or uses name and password, as the registry asks.
    async fn log_in(&mut self, asked: &[String]) -> Result<()> {
        let registry = &self.reference.registry;
        let who = self.credentials.of(registry, &self.reference.repository);
        let challenges: Vec<Challenge> = asked.iter().flat_map(|text| challenges(text)).collect();
        let of = |scheme: &str| {
            let mut same = challenges.iter();
            same.find(|one| one.scheme.eq_ignore_ascii_case(scheme))
        };
        if let Some(bearer) = of("bearer") {
            let realm = bearer
                .get("realm")
                .context("the registry does not say where tokens are had")?;
            let mut realm = Url::parse(realm).context("where tokens are had is no URL")?;
            ensure!(
                realm.scheme() == "https" || self.base.scheme() == "http",
                "{registry} sends us to {} for a token, where anybody on the way could read who asks",
                shown(&realm)
            );
            let scope = format!("repository:{}:pull", self.reference.repository);
            for (key, value) in [
                ("service", bearer.get("service").unwrap_or_default()),
                ("scope", bearer.get("scope").unwrap_or(&scope)),
            ] {
                if !value.is_empty() {
                    realm.query_pairs_mut().append_pair(key, value);
                }
            }
            let ask = Ask::of(realm.as_str())?.with("application/json", who);
            let answer = self.client.small(&ask).await.map_err(|fault| {
                let refused = matches!(fault, Fault::Unauthorized(..));
                let error = fault
                    .told()
                    .context(format!("no token for {registry} was had"));
                if refused {
                    error.context(self.credentials.advice(registry))
                } else {
                    error
                }
            })?;
            let answer: Value =
                serde_json::from_slice(&answer).context("the token's answer is no JSON")?;
            let token = answer["token"]
                .as_str()
                .or_else(|| answer["access_token"].as_str());
            let token = token.context("the answer has no token")?;
            let mut token =
                HeaderValue::try_from(format!("Bearer {token}")).context("the token is no text")?;
            token.set_sensitive(true);
            self.token = Some(token);
            return Ok(());
        }
        ensure!(
            of("basic").is_some(),
            "{registry} wants to know who asks, neither by token nor by name and password"
        );
        let who = who.with_context(|| {
            format!(
                "{registry} wants a name and a password: {}",
                self.credentials.advice(registry)
            )
        })?;
        self.token = Some(who);
        Ok(())
    }
}

/// How a server wants to be told who asks (RFC 9110, 11.6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, key: &str) -> Option<&str> {
        let mut same = self.parameters.iter();
        let found = same.find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header: `Bearer realm="…",service="…", Basic realm="…"`. What cannot be read is left out.
fn challenges(text: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = quoted(value);
            if let Some(last) = all.last_mut() {
                last.parameters.push((word.into(), value));
            }
            rest = after;
        } else {
            all.push(Challenge {
                scheme: word.into(),
                parameters: Vec::new(),
            });
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '=']);
    }
    all
}

/// A value, in quotes or not, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].into(), &text[end..]);
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, letter) in inner.char_indices() {
        match letter {
            _ if is_escaped => {
                value.push(letter);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return (value, &inner[at + 1..]),
            _ => value.push(letter),
        }
    }
    (value, "")
}

/// Of several manifests, the one to take: the only one, or that of this machine's kind. A package is the same for every
/// machine, but tools that push wrap it as they wrap images, and add notes of their own.
fn choose(manifests: &[Value]) -> Result<String> {
    let is_note = |one: &&Value| one["platform"]["architecture"] != "unknown";
    let all: Vec<&Value> = manifests.iter().filter(is_note).collect();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let is_ours =
        |one: &&&Value| one["platform"]["os"] == "linux" && one["platform"]["architecture"] == arch;
    let chosen = match all.as_slice() {
        [] => bail!("none of them is one of a package"),
        [one] => one,
        several => several.iter().find(is_ours).with_context(|| {
            format!(
                "there are {} and none is for linux/{arch}; name one by its digest",
                several.len()
            )
        })?,
    };
    digest_of(chosen)
}

fn digest_of(descriptor: &Value) -> Result<String> {
    let digest = descriptor["digest"]
        .as_str()
        .context("a part has no digest")?;
    crate::download::sha256(digest)
}

/// The layers of a manifest: one, or several that each say which file they are.
fn layers(manifest: &Value) -> Result<Vec<Layer>> {
    let all = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(!all.is_empty(), "the artifact has no layer");
    ensure!(
        all.len() <= LAYERS_MAX,
        "the artifact has more than {LAYERS_MAX} layers"
    );
    let layer = |one: &Value| {
        let title = one["annotations"]["org.opencontainers.image.title"].as_str();
        Ok(Layer {
            digest: digest_of(one)?,
            bytes: one["size"].as_u64().context("a layer has no size")?,
            title: title.map(str::to_owned),
        })
    };
    let layers = all.iter().map(layer).collect::<Result<Vec<_>>>()?;
    ensure!(
        layers.len() == 1 || layers.iter().all(|layer| layer.title.is_some()),
        "the artifact has {} layers, and not each says which file it is; one with the package as .tar.gz is expected, or \
         files as `oras push` makes them",
        layers.len()
    );
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sha(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    #[test]
    fn names_are_read_or_refused() {
        let a = sha("a");
        let name = Reference::parse("r.example:5000/nets/clothes:1.2", None).unwrap();
        assert_eq!(
            (name.registry.as_str(), name.repository.as_str()),
            ("r.example:5000", "nets/clothes")
        );
        assert_eq!((name.tag.as_deref(), name.digest), (Some("1.2"), None));
        let name = Reference::parse(&format!("docker.io/clothes@{a}"), None).unwrap();
        assert_eq!(
            (name.repository.as_str(), name.digest.as_ref()),
            ("library/clothes", Some(&a))
        );
        let refused = |text: &str, digest: Option<&str>| {
            format!("{:#}", Reference::parse(text, digest).unwrap_err())
        };
        assert!(refused("r.example/nets", None).contains("which version"));
        assert!(
            refused(&format!("r.example/nets@{a}"), Some(&sha("b"))).contains("another digest")
        );
        for text in [
            "clothes",
            "r.example/../x",
            "r.example/a?b",
            "r ex/a",
            "r.example/a//b",
            "r@x/y",
        ] {
            refused(text, Some(&a));
        }
        refused("r.example/a", Some("sha256:short"));
    }

    #[test]
    fn challenges_are_read_with_commas_inside_quotes() {
        let text = r#"Basic realm="a \"b\"", Bearer realm="https://auth.example/token",service=r.example,scope="repository:a:pull,push""#;
        let found = challenges(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("realm"), Some(r#"a "b""#));
        assert_eq!(found[1].get("Realm"), Some("https://auth.example/token"));
        assert_eq!(found[1].get("service"), Some("r.example"));
        assert_eq!(found[1].get("scope"), Some("repository:a:pull,push"));
        for text in [
            "",
            ",,,",
            "=",
            "Bearer",
            "Bearer realm=\"open",
            "a=b=c",
            "\"\"",
            "Bearer =x",
        ] {
            challenges(text);
        }
    }

    #[test]
    fn of_several_manifests_this_machines_is_taken_and_notes_are_none() {
        let one = |letter: &str, arch: &str| json!({"digest": sha(letter), "platform": {"os": "linux", "architecture": arch}});
        let note =
            json!({"digest": sha("f"), "platform": {"os": "unknown", "architecture": "unknown"}});
        let (amd, arm) = (one("a", "amd64"), one("b", "arm64"));
        let ours = if cfg!(target_arch = "aarch64") {
            "b"
        } else {
            "a"
        };
        assert_eq!(choose(&[arm, note.clone(), amd]).unwrap(), sha(ours));
        assert_eq!(
            choose(&[note.clone(), one("c", "riscv64")]).unwrap(),
            sha("c")
        );
        assert!(choose(&[one("c", "riscv64"), one("d", "s390x")]).is_err());
        assert!(choose(&[note]).is_err());
        assert!(choose(&[json!({"digest": "md5:1"})]).is_err());
    }

    #[test]
    fn several_layers_must_say_which_files_they_are() {
        let layer = |title: Option<&str>| {
            let notes = title.map(|title| json!({"org.opencontainers.image.title": title}));
            json!({"digest": sha("a"), "size": 3, "annotations": notes})
        };
        let of = |all: &[Value]| layers(&json!({"layers": all}));
        assert_eq!(of(&[layer(None)]).unwrap().len(), 1);
        let two = of(&[layer(Some("package.toml")), layer(Some("a.onnx"))]).unwrap();
        assert_eq!(two[1].title.as_deref(), Some("a.onnx"));
        assert!(of(&[layer(Some("a")), layer(None)]).is_err());
        assert!(of(&[]).is_err());
        assert!(of(&[json!({"digest": sha("a")})]).is_err());
    }
}
