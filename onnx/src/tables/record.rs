//! What every exit said of every sample, small enough to travel with a package.
//!
//! Layout, little-endian: `SPXR`, format 1 (u16), exits (u16), samples (u32); then sample by sample, exit
//! by exit, one u16: the confidence in 15 bits (0 is 0, 32767 is 1) with the lowest bit saying whether the
//! answer was correct. The network's end is the last exit.

const MAGIC: &[u8; 4] = b"SPXR";
const FORMAT: u16 = 1;
const HEAD: usize = 12;
/// Confidence 1.
const FULL: f32 = 32_767.0;
/// Most exits, the end included.
const EXITS_LIMIT: usize = 256;

/// Confidences and correctness of every exit, by sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    exits: usize,
    words: Vec<u16>,
}

impl ExitRecord {
    /// An empty record of so many exits, the end included.
    #[must_use]
    pub const fn new(exits: usize) -> Self {
        Self {
            exits,
            words: Vec::new(),
        }
    }

    /// Adds a sample: by exit, its confidence and whether it is correct. Others than as many as there are
    /// exits are cut off or count as wrong with confidence 0.
    pub fn push(&mut self, sample: &[(f32, bool)]) {
        for exit in 0..self.exits {
            let (confidence, is_correct) = sample.get(exit).copied().unwrap_or((0.0, false));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to 15 bits"
            )]
            let level = (confidence.clamp(0.0, 1.0) * FULL).round() as u16;
            self.words.push(level << 1 | u16::from(is_correct));
        }
    }

    /// Number of exits, the end included.
    #[must_use]
    pub const fn exits(&self) -> usize {
        self.exits
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.words.len().checked_div(self.exits).unwrap_or(0)
    }

    /// Confidence of an exit on a sample, and whether it is correct.
    ///
    /// # Panics
    /// When there is no such sample or exit.
    #[must_use]
    pub fn get(&self, sample: usize, exit: usize) -> (f32, bool) {
        assert!(exit < self.exits, "exit {exit} of {}", self.exits);
        let word = self.words[sample * self.exits + exit];
        (f32::from(word >> 1) / FULL, word & 1 == 1)
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + 2 * self.words.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        let exits = u16::try_from(self.exits).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&exits.to_le_bytes());
        let samples = u32::try_from(self.samples()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&samples.to_le_bytes());
        bytes.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let Some((head, body)) = bytes.split_first_chunk::<HEAD>() else {
            return Err("the record of exits is cut short".into());
        };
        let [m0, m1, m2, m3, f0, f1, e0, e1, s0, s1, s2, s3] = *head;
        if [m0, m1, m2, m3] != *MAGIC || u16::from_le_bytes([f0, f1]) != FORMAT {
            return Err("it is no record of exits of format 1".into());
        }
        let exits = usize::from(u16::from_le_bytes([e0, e1]));
        let samples = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
        if exits == 0 || EXITS_LIMIT < exits {
            return Err(format!("a record of {exits} exits"));
        }
        if samples * exits as u64 * 2 != body.len() as u64 {
            return Err(format!(
                "{samples} samples of {exits} exits do not fit its {} bytes",
                body.len()
            ));
        }
        let (words, _) = body.as_chunks::<2>();
        let words = words.iter().map(|&word| u16::from_le_bytes(word)).collect();
        Ok(Self { exits, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_and_damage_is_refused() {
        let mut record = ExitRecord::new(2);
        record.push(&[(0.25, true), (1.0, false)]);
        record.push(&[(0.0, false), (0.999, true)]);
        let bytes = record.to_bytes();
        let read = ExitRecord::from_bytes(&bytes).unwrap();
        assert_eq!(read, record);
        assert_eq!((read.samples(), read.exits()), (2, 2));
        let (confidence, is_correct) = read.get(0, 0);
        assert!((confidence - 0.25).abs() < 1e-4 && is_correct);
        assert_eq!(read.get(0, 1), (1.0, false));
        for length in 0..bytes.len() {
            assert!(
                ExitRecord::from_bytes(&bytes[..length]).is_err(),
                "{length}"
            );
        }
        let mut wrong = bytes;
        wrong[6..8].copy_from_slice(&[0, 0]);
        assert!(ExitRecord::from_bytes(&wrong).is_err());
    }
}
