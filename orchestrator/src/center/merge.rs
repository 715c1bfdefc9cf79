//! From what the branches sent back to what the client asked for.

use splitplace_codec::Codec;
use splitplace_link::Tensor;
use splitplace_proto::data::DType;

/// How the parts of a variant become one answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Merge {
    /// One branch whose outputs are the answer.
    Single,
    /// Log-odds by class group: each branch scores its own classes.
    LogOdds {
        /// For each branch the classes that its scores belong to.
        groups: Vec<Vec<u32>>,
        /// Classes together.
        classes: usize,
        /// Score of a class whose branch is missing.
        missing: f32,
        /// Name of the merged output.
        output: String,
    },
}

/// Puts the branches' tensors together; `None` stands for a branch that is missing.
///
/// # Errors
/// What does not fit, in words: a worker sent something that the package did not promise.
pub(crate) fn merge(rule: &Merge, parts: Vec<Option<Vec<Tensor>>>) -> Result<Vec<Tensor>, String> {
    match rule {
        Merge::Single => parts
            .into_iter()
            .next()
            .flatten()
            .ok_or_else(|| "the only branch is missing".to_owned()),
        Merge::LogOdds {
            groups,
            classes,
            missing,
            output,
        } => {
            let scores: Vec<Option<Vec<f32>>> = parts
                .iter()
                .map(|part| part.as_deref().map(floats).transpose())
                .collect::<Result<_, _>>()?;
            let samples = scores
                .iter()
                .zip(groups)
                .find_map(|(scores, group)| scores.as_ref().map(|s| s.len() / group.len().max(1)))
                .ok_or("every branch is missing")?;
            let mut merged = vec![*missing; samples * classes];
            for ((branch, scores), group) in scores.iter().enumerate().zip(groups) {
                let Some(scores) = scores else { continue };
                if scores.len() != samples * group.len() {
                    return Err(format!(
                        "branch {branch} sent {} scores for {samples} samples of {} classes",
                        scores.len(),
                        group.len()
                    ));
                }
                for (sample, row) in scores.chunks_exact(group.len()).enumerate() {
                    for (&class, &score) in group.iter().zip(row) {
                        merged[sample * classes + class as usize] = score;
                    }
                }
            }
            let bytes: Vec<u8> = merged
                .iter()
                .flat_map(|score| score.to_le_bytes())
                .collect();
            Ok(vec![Tensor {
                name: output.clone(),
                dtype: DType::Fp32,
                shape: vec![signed(samples), signed(*classes)],
                codec: Codec::RAW,
                chunks: vec![bytes.into()],
            }])
        }
    }
}

/// The class with the largest score of each sample of a rank-2 float tensor.
pub(crate) fn classes(tensor: &Tensor) -> Vec<u32> {
    let [samples, width] = tensor.shape[..] else {
        return Vec::new();
    };
    let (Ok(samples), Ok(width)) = (usize::try_from(samples), usize::try_from(width)) else {
        return Vec::new();
    };
    let Ok(scores) = floats(std::slice::from_ref(tensor)) else {
        return Vec::new();
    };
    if width == 0 || scores.len() != samples * width {
        return Vec::new();
    }
    scores
        .chunks_exact(width)
        .map(|row| {
            let best = (0u32..).zip(row).max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map_or(0, |(class, _)| class)
        })
        .collect()
}

fn floats(tensors: &[Tensor]) -> Result<Vec<f32>, String> {
    let [tensor] = tensors else {
        return Err(format!(
            "a branch sent {} tensors where one was promised",
            tensors.len()
        ));
    };
    if tensor.dtype != DType::Fp32 {
        return Err(format!(
            "a branch sent {} scores; they must be FP32",
            tensor.dtype.as_str_name()
        ));
    }
    let bytes = tensor.contiguous();
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err("a branch sent a broken number".to_owned());
    }
    Ok(numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect())
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: [i64; 2], scores: &[f32]) -> Tensor {
        let bytes: Vec<u8> = scores
            .iter()
            .flat_map(|score| score.to_le_bytes())
            .collect();
        // Cut in two at an odd place, as a socket might.
        let bytes = bytes::Bytes::from(bytes);
        let middle = bytes.len().min(3);
        let chunks = vec![bytes.slice(..middle), bytes.slice(middle..)];
        Tensor {
            name: "scores".into(),
            dtype: DType::Fp32,
            shape: shape.to_vec(),
            codec: Codec::RAW,
            chunks,
        }
    }

    fn rule() -> Merge {
        Merge::LogOdds {
            groups: vec![vec![2, 0], vec![1]],
            classes: 3,
            missing: -4.0,
            output: "scores".into(),
        }
    }

    #[test]
    fn scores_go_to_their_classes() {
        let parts = vec![
            Some(vec![tensor([2, 2], &[1.0, 2.0, 3.0, 4.0])]),
            Some(vec![tensor([2, 1], &[9.0, -9.0])]),
        ];
        let merged = merge(&rule(), parts).unwrap();
        assert_eq!(floats(&merged).unwrap(), [2.0, 9.0, 1.0, 4.0, -9.0, 3.0]);
        assert_eq!(classes(&merged[0]), [1, 0]);
    }

    #[test]
    fn a_missing_branch_leaves_its_classes_unlikely() {
        let parts = vec![None, Some(vec![tensor([1, 1], &[0.5])])];
        let merged = merge(&rule(), parts).unwrap();
        assert_eq!(floats(&merged).unwrap(), [-4.0, 0.5, -4.0]);
        assert!(merge(&rule(), vec![None, None]).is_err());
    }

    #[test]
    fn a_branch_of_the_wrong_size_is_told_apart() {
        let parts = vec![
            Some(vec![tensor([2, 2], &[1.0, 2.0, 3.0, 4.0])]),
            Some(vec![tensor([1, 1], &[9.0])]),
        ];
        assert!(merge(&rule(), parts).unwrap_err().contains("branch 1"));
    }
}
