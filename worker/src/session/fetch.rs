//! The bytes of fragments: from the disk, in pieces from other fragments, or from the centre.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use splitplace_plan::FragmentId;
use splitplace_proto::control::{FetchRequest, FragmentSpec, PiecesRequest};

use super::Loader;
use crate::cache;

impl Loader {
    /// A fragment's bytes: from the disk, or fetched and verified.
    pub(super) async fn bytes(
        &mut self,
        spec: &FragmentSpec,
        id: FragmentId,
    ) -> Result<Bytes, String> {
        let node = Arc::clone(&self.node);
        let cached = move || node.fragments.cache().and_then(|cache| cache.get(id));
        let cached = tokio::task::spawn_blocking(cached).await;
        if let Some(bytes) = cached.map_err(|error| error.to_string())? {
            return Ok(bytes);
        }
        if self.max_fragment_bytes < spec.size_bytes {
            return Err(format!(
                "fragment {id} has {} bytes, this node takes at most {}",
                spec.size_bytes, self.max_fragment_bytes
            ));
        }
        let there = self.pieces(spec, id).await;
        let is_missing = |(_, (_, piece)): &(u32, &(u64, Option<Bytes>))| piece.is_none();
        let missing: Vec<(u32, u64)> = (0u32..)
            .zip(&there)
            .filter(is_missing)
            .map(|(number, (size, _))| (number, *size))
            .collect();
        if missing.len() == there.len() {
            let bytes = self.fetch(id, Vec::new(), spec.size_bytes).await?;
            self.node.fragments.keep(id, &bytes)?;
            return Ok(bytes);
        }
        let size = missing.iter().map(|(_, size)| size).sum();
        let numbers = missing.iter().map(|(number, _)| *number).collect();
        let mut fetched = if missing.is_empty() {
            Bytes::new()
        } else {
            self.fetch(id, numbers, size).await?
        };
        let mut whole = BytesMut::new();
        for (size, piece) in there {
            let size = usize::try_from(size)
                .unwrap_or(usize::MAX)
                .min(fetched.len());
            whole.extend_from_slice(&piece.unwrap_or_else(|| fetched.split_to(size)));
        }
        let whole = whole.freeze();
        self.node.fragments.keep(id, &whole)?;
        Ok(whole)
    }

    /// The pieces of a fragment with their sizes, and those that are on disk from other fragments; none when there is
    /// nothing to be gained.
    async fn pieces(&mut self, spec: &FragmentSpec, id: FragmentId) -> Vec<(u64, Option<Bytes>)> {
        if self.node.fragments.cache().is_none() {
            return Vec::new();
        }
        let request = PiecesRequest {
            id: id.0.to_vec().into(),
        };
        let Ok(list) = self.client.pieces(request).await else {
            return Vec::new();
        };
        let list = list.into_inner().pieces;
        let sizes = list.iter().map(|piece| piece.size_bytes);
        let total = sizes.fold(0, u64::saturating_add);
        if cache::PIECES < list.len() || total != spec.size_bytes {
            return Vec::new();
        }
        let node = Arc::clone(&self.node);
        let look = move || -> Vec<(u64, Option<Bytes>)> {
            let pieces = list.into_iter().map(|piece| {
                let hash = <[u8; 32]>::try_from(&piece.hash[..]).ok();
                let known = hash.and_then(|hash| node.fragments.cache()?.piece(hash));
                let known = known.filter(|known| known.len() as u64 == piece.size_bytes);
                (piece.size_bytes, known)
            });
            pieces.collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// So many bytes of a fragment: the numbered pieces, or all of it.
    async fn fetch(
        &mut self,
        id: FragmentId,
        pieces: Vec<u32>,
        size_bytes: u64,
    ) -> Result<Bytes, String> {
        let failed = |status: tonic::Status| format!("fragment {id}: {}", status.message());
        let request = FetchRequest {
            id: id.0.to_vec().into(),
            pieces,
        };
        let mut chunks = self
            .client
            .fetch(request)
            .await
            .map_err(failed)?
            .into_inner();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = chunks.message().await.map_err(failed)? {
            if size_bytes < (bytes.len() + chunk.data.len()) as u64 {
                return Err(format!("fragment {id} is larger than announced"));
            }
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(bytes.freeze())
    }
}
