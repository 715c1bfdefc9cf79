//! A file on its way: what is there of it, and the digest of that.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The beginning of a file.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
    tag: Option<HeaderValue>,
    is_resumed: bool,
}

impl Part {
    /// What is at `path`; nothing yet when there is nothing. Reads it once, for its digest.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .await
            .with_context(|| format!("cannot write {}", path.display()))?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut chunk).await;
            let count = count.with_context(|| format!("cannot read {}", path.display()))?;
            if count == 0 {
                break;
            }
            hash.update(&chunk[..count]);
            length += count as u64;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            hash,
            tag: None,
            is_resumed: false,
        })
    }

    /// Bytes that are there.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Their digest, as `sha256:…`.
    pub(super) fn digest(&self) -> String {
        digest(self.hash.clone())
    }

    /// What the server calls the version that they are of, where that says that two are the same byte for byte.
    pub(super) fn tag(&self) -> Option<HeaderValue> {
        self.tag.clone()
    }

    /// Notes what the server calls the version.
    pub(super) fn mark(&mut self, tag: Option<&HeaderValue>) {
        self.tag = tag.filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned();
    }

    /// Whether it is made of more than one answer.
    pub(super) const fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Notes that more comes after what is there.
    pub(super) fn resume(&mut self) {
        self.is_resumed |= 0 < self.length;
    }

    /// More of it.
    pub(super) async fn write(&mut self, data: &[u8]) -> Result<()> {
        let written = self.file.write_all(data).await;
        written.with_context(|| self.trouble())?;
        self.hash.update(data);
        self.length += data.len() as u64;
        Ok(())
    }

    /// From the beginning.
    pub(super) async fn clear(&mut self) -> Result<()> {
        let clear = async {
            self.file.flush().await?;
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        let cleared = clear.await;
        cleared.with_context(|| self.trouble())?;
        (self.length, self.hash, self.tag) = (0, Sha256::new(), None);
        self.is_resumed = false;
        Ok(())
    }

    /// It is whole: on the disk when this returns.
    pub(super) async fn keep(mut self) -> Result<()> {
        let keep = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        let kept = keep.await;
        kept.with_context(|| self.trouble())
    }

    /// It is of no use.
    pub(super) async fn discard(self) {
        // Whoever has the folder clears it away.
        let _ = tokio::fs::remove_file(&self.path).await;
    }

    fn trouble(&self) -> String {
        let path = self.path.display();
        format!(
            "cannot write {path} after {} bytes; is the volume full?",
            self.length
        )
    }
}

/// A digest, as `sha256:…`.
pub(crate) fn digest(hash: Sha256) -> String {
    let hex = hash.finalize();
    let hex: String = hex.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
