//! Frame to gRPC message and back, without copying the payload.
//!
//! A message is `0x00`, its length in four bytes, the header's protobuf fields, then the payload's
//! field. The decoder collects pieces of memory until a message is complete, copies the header
//! together, and hands the payload out as the pieces that it came in.

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use splitplace_codec::Codec;
use splitplace_proto::data::{self, DType};

use crate::{Failure, Frame, Reason, Tensor, element_bytes};

/// Bounds on what a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of one message.
    pub frame_bytes: usize,
    /// Bytes of its header.
    pub header_bytes: usize,
    /// Tensors in it.
    pub tensors: usize,
    /// Hops in its trail.
    pub trail: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 << 20,
            header_bytes: 256 << 10,
            tensors: 256,
            trail: 256,
        }
    }
}

/// What a peer sent is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame: {0}")]
pub struct WireError(pub String);

/// Below this a payload is copied behind its header: one write instead of several.
const INLINE_BYTES: usize = 8 << 10;
/// Key of the payload's field: number 15, length-delimited.
const PAYLOAD_KEY: u8 = 15 << 3 | 2;

/// The pieces of one gRPC message: prefix and header in one, then the tensors' own memory.
///
/// # Errors
/// [`WireError`] when the frame is larger than gRPC can say (4 GiB).
pub fn encode(frame: &Frame) -> Result<Vec<Bytes>, WireError> {
    let header = frame.header();
    let payload = frame.payload_bytes();
    let header_bytes = header.encoded_len();
    let payload_field = if payload == 0 {
        0
    } else {
        1 + varint_len(payload as u64) + payload
    };
    let total = u32::try_from(header_bytes + payload_field)
        .map_err(|_| WireError(format!("{payload} bytes of tensors do not fit one message")))?;
    let inline = payload < INLINE_BYTES;
    let mut head =
        BytesMut::with_capacity(5 + header_bytes + 11 + if inline { payload } else { 0 });
    head.put_u8(0);
    head.put_u32(total);
    header
        .encode(&mut head)
        .map_err(|error| WireError(error.to_string()))?;
    if payload != 0 {
        head.put_u8(PAYLOAD_KEY);
        put_varint(&mut head, payload as u64);
    }
    let chunks = frame.tensors.iter().flat_map(|tensor| &tensor.chunks);
    if inline {
        chunks.for_each(|chunk| head.put_slice(chunk));
        return Ok(vec![head.freeze()]);
    }
    let mut pieces = vec![head.freeze()];
    pieces.extend(chunks.filter(|chunk| !chunk.is_empty()).cloned());
    Ok(pieces)
}

fn varint_len(mut value: u64) -> usize {
    let mut len = 1;
    while 0x80 <= value {
        value >>= 7;
        len += 1;
    }
    len
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while 0x80 <= value {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// Collects pieces and yields frames.
#[derive(Debug)]
pub struct Decoder {
    limits: WireLimits,
    pieces: VecDeque<Bytes>,
    held: usize,
    /// Length of the message being collected, once its prefix is there.
    wanted: Option<usize>,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub const fn new(limits: WireLimits) -> Self {
        Self {
            limits,
            pieces: VecDeque::new(),
            held: 0,
            wanted: None,
        }
    }

    /// Whether a message has begun and is not complete.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.wanted.is_some() || self.held > 0
    }

    /// Takes in a piece as it came off the socket.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The next complete frame, if there is one.
    ///
    /// # Errors
    /// [`WireError`]; the stream cannot be read any further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            None => {
                if self.held < 5 {
                    return Ok(None);
                }
                let mut prefix = Vec::with_capacity(5);
                self.copy(5, &mut prefix);
                if prefix[0] != 0 {
                    return Err(WireError("it is compressed, which is not offered".into()));
                }
                let wanted =
                    u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                if self.limits.frame_bytes < wanted {
                    return Err(WireError(format!(
                        "it has {wanted} bytes, the limit is {}",
                        self.limits.frame_bytes
                    )));
                }
                self.wanted = Some(wanted);
                wanted
            }
        };
        if self.held < wanted {
            return Ok(None);
        }
        self.wanted = None;
        self.message(wanted).map(Some)
    }

    /// Parses a message of `size` bytes that is held completely.
    fn message(&mut self, size: usize) -> Result<Frame, WireError> {
        let end = self.held - size;
        let mut header: Vec<u8> = Vec::with_capacity(256);
        let mut payload: Option<(usize, Vec<Bytes>)> = None;
        while end < self.held {
            let start = header.len();
            let key = self.varint(end, &mut header)?;
            match (key >> 3, key & 7) {
                (15, 2) => {
                    let mut skipped = Vec::new();
                    header.truncate(start);
                    let length = self.varint(end, &mut skipped)?;
                    let length = self.within(end, length)?;
                    if payload.is_some() {
                        return Err(WireError("it has two payloads".into()));
                    }
                    payload = Some((length, self.take(length)));
                }
                (_, 0) => {
                    self.varint(end, &mut header)?;
                }
                (_, 1) => {
                    let length = self.within(end, 8)?;
                    self.copy(length, &mut header);
                }
                (_, 2) => {
                    let length = self.varint(end, &mut header)?;
                    let length = self.within(end, length)?;
                    if self.limits.header_bytes < header.len() + length {
                        return Err(WireError(format!(
                            "its header has more than {} bytes",
                            self.limits.header_bytes
                        )));
                    }
                    self.copy(length, &mut header);
                }
                (_, 5) => {
                    let length = self.within(end, 4)?;
                    self.copy(length, &mut header);
                }
                (_, kind) => return Err(WireError(format!("wire type {kind} is unknown"))),
            }
            if self.limits.header_bytes < header.len() {
                return Err(WireError("its header is too long".into()));
            }
        }
        let header =
            data::Frame::decode(&header[..]).map_err(|error| WireError(error.to_string()))?;
        let (length, pieces) = payload.unwrap_or_default();
        self.frame(header, length, pieces)
    }

    fn frame(
        &self,
        header: data::Frame,
        length: usize,
        pieces: Vec<Bytes>,
    ) -> Result<Frame, WireError> {
        if self.limits.tensors < header.tensors.len() || self.limits.trail < header.trail.len() {
            return Err(WireError("it has too many tensors or hops".into()));
        }
        let mut left = length;
        let mut pieces: VecDeque<Bytes> = pieces.into();
        let mut tensors = Vec::with_capacity(header.tensors.len());
        for tensor in header.tensors {
            let dtype = DType::try_from(tensor.dtype)
                .map_err(|_| WireError(format!("tensor '{}' has an unknown type", tensor.name)))?;
            let codec = Codec::from_number(tensor.codec).ok_or_else(|| {
                WireError(format!("tensor '{}' has an unknown codec", tensor.name))
            })?;
            let size = if dtype == DType::Bytes {
                Some(1)
            } else {
                element_bytes(dtype)
            };
            let expected = size.and_then(|size| {
                tensor
                    .shape
                    .iter()
                    .try_fold(size, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?))
            });
            // Coded tensors and strings have the size that they have; whoever decodes them checks it
            // against the shape.
            let is_sized = codec == Codec::RAW && dtype != DType::Bytes;
            let bytes = usize::try_from(tensor.bytes)
                .ok()
                .filter(|&bytes| bytes <= left);
            let fits = |bytes: usize| expected.is_some_and(|size| !is_sized || size == bytes);
            let Some(bytes) = bytes.filter(|&bytes| fits(bytes)) else {
                return Err(WireError(format!(
                    "tensor '{}' of shape {:?} says {} bytes",
                    tensor.name, tensor.shape, tensor.bytes
                )));
            };
            left -= bytes;
            let chunks = split(&mut pieces, bytes);
            tensors.push(Tensor {
                name: tensor.name,
                dtype,
                shape: tensor.shape,
                codec,
                chunks,
            });
        }
        if left != 0 {
            return Err(WireError(format!("{left} bytes belong to no tensor")));
        }
        let failure = header.failure.map(|failure| Failure {
            reason: failure.reason(),
            message: failure.message,
        });
        Ok(Frame {
            request: header.request,
            attempt: header.attempt,
            generation: header.generation,
            route: header.route,
            hop: header.hop,
            branch: header.branch,
            deadline: Duration::from_micros(header.deadline_us),
            expiry: Duration::from_micros(header.expiry_us),
            sent_unix_us: header.sent_unix_us,
            tensors,
            trail: header.trail,
            failure,
            exit: header.exit,
            min_accuracy: header.min_accuracy,
            is_audited: header.is_audited,
        })
    }

    fn within(&self, end: usize, length: impl TryInto<usize>) -> Result<usize, WireError> {
        length
            .try_into()
            .ok()
            .filter(|&length: &usize| length <= self.held - end)
            .ok_or_else(|| WireError("a field reaches beyond the message".into()))
    }

    fn varint(&mut self, end: usize, copy: &mut Vec<u8>) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.held <= end {
                return Err(WireError("it ends within a number".into()));
            }
            self.copy(1, copy);
            let byte = copy[copy.len() - 1];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError("a number is too long".into()))
    }

    /// Copies the next `count` bytes, which are there.
    fn copy(&mut self, mut count: usize, to: &mut Vec<u8>) {
        self.held -= count;
        while count > 0 {
            let Some(first) = self.pieces.front_mut() else {
                return;
            };
            let part = first.split_to(count.min(first.len()));
            to.extend_from_slice(&part);
            count -= part.len();
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Takes the next `count` bytes, which are there, as the pieces that they are in.
    fn take(&mut self, count: usize) -> Vec<Bytes> {
        self.held -= count;
        split(&mut self.pieces, count)
    }
}

fn split(pieces: &mut VecDeque<Bytes>, mut count: usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while count > 0 {
        let Some(first) = pieces.front_mut() else {
            break;
        };
        let part = first.split_to(count.min(first.len()));
        count -= part.len();
        if first.is_empty() {
            pieces.pop_front();
        }
        taken.push(part);
    }
    taken
}

impl Failure {
    /// A failure for this reason, with words for a person.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(sizes: &[usize], why: &str) -> Frame {
        let tensors = sizes
            .iter()
            .enumerate()
            .map(|(k, &size)| {
                let bytes: Bytes = (0..size)
                    .map(|b| (b * 7 + k) as u8)
                    .collect::<Vec<_>>()
                    .into();
                let middle = size / 3;
                Tensor {
                    name: format!("t{k}"),
                    dtype: DType::Uint8,
                    shape: vec![1, i64::try_from(size).unwrap()],
                    codec: Codec::RAW,
                    chunks: vec![bytes.slice(..middle), bytes.slice(middle..)],
                }
            })
            .collect();
        Frame {
            request: 1 << 40,
            attempt: 2,
            generation: 3,
            hop: 1,
            deadline: Duration::from_micros(1500),
            expiry: Duration::from_secs(5),
            sent_unix_us: -4,
            tensors,
            trail: vec![HopTiming::default()],
            failure: Some(Failure::new(Reason::QueueFull, why)),
            ..Frame::default()
        }
    }

    use crate::HopTiming;

    fn same(a: &Frame, b: &Frame) -> bool {
        let flat = |frame: &Frame| {
            let mut frame = frame.clone();
            for tensor in &mut frame.tensors {
                tensor.chunks = vec![tensor.contiguous()];
            }
            frame
        };
        flat(a) == flat(b)
    }

    #[test]
    fn a_large_payload_is_handed_out_as_it_lies() {
        let frame = frame(&[100_000], "");
        let pieces = encode(&frame).unwrap();
        assert_eq!(pieces[1].as_ptr(), frame.tensors[0].chunks[0].as_ptr());
        let mut decoder = Decoder::new(WireLimits::default());
        pieces.iter().for_each(|piece| decoder.push(piece.clone()));
        let found = decoder.next_frame().unwrap().unwrap();
        assert_eq!(
            found.tensors[0].chunks[0].as_ptr(),
            frame.tensors[0].chunks[0].as_ptr()
        );
    }

    #[test]
    fn generated_code_reads_and_writes_the_same() {
        let frame = frame(&[10, 0, 20_000], "00-trace");
        let message = encode(&frame).unwrap().concat();
        let stock = data::Frame::decode(&message[5..]).unwrap();
        assert_eq!(stock.payload.len(), 20_010);
        let mut again = BytesMut::new();
        again.put_u8(0);
        again.put_u32(u32::try_from(stock.encoded_len()).unwrap());
        stock.encode(&mut again).unwrap();
        assert_eq!(again, message);
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_is_collected() {
        let mut decoder = Decoder::new(WireLimits {
            frame_bytes: 1000,
            ..WireLimits::default()
        });
        decoder.push(Bytes::from_static(&[0, 0, 0, 4, 0]));
        assert!(
            decoder
                .next_frame()
                .unwrap_err()
                .0
                .contains("limit is 1000")
        );
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            sizes in proptest::collection::vec(0usize..30_000, 0..4),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let frame = frame(&sizes, "00-abc");
            let message = Bytes::from(encode(&frame).unwrap().concat().repeat(2));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::new(WireLimits::default());
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                decoder.push(message.slice(pair[0]..pair[1]));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found.len(), 2);
            prop_assert!(found.iter().all(|found| same(found, &frame)));
            prop_assert!(!decoder.is_midway());
        }

        #[test]
        fn noise_never_panics(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut message = encode(&frame(&[30, 9000], "x")).unwrap().concat();
            for (place, value) in flips {
                let place = place.index(message.len());
                message[place] = value;
            }
            message.truncate(keep.index(message.len()) + 1);
            let mut decoder = Decoder::new(WireLimits::default());
            decoder.push(message.into());
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
