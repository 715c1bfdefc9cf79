//! How branches become one answer.

use super::Merge;

impl Merge {
    /// Scores of all classes of one sample from the scores that each branch gave for its own; `None` for
    /// a branch that is missing. Scores beyond a branch's classes and classes beyond `classes` are left
    /// out.
    #[must_use]
    pub fn join(&self, classes: usize, branches: &[(&[u32], Option<&[f32]>)]) -> Vec<f32> {
        let Self::LogOdds { missing_score } = self;
        let mut joined = vec![*missing_score; classes];
        for (group, scores) in branches {
            for (&class, &score) in group.iter().zip(scores.unwrap_or_default()) {
                if let Some(joined) = joined.get_mut(class as usize) {
                    *joined = score;
                }
            }
        }
        joined
    }
}

/// The class of the largest score, the first of equals; `None` when there are none.
#[must_use]
pub fn best(scores: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (class, &score) in scores.iter().enumerate() {
        if best.is_none_or(|(_, most)| most < score) {
            best = Some((class, score));
        }
    }
    best.map(|(class, _)| class)
}

/// The largest element of the softmax of some scores: `1 / sum exp(s - max)`. 0 without scores.
#[must_use]
pub fn confidence(scores: &[f32]) -> f32 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
    match sum.is_finite() && 0.0 < sum {
        true => 1.0 / sum,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_go_to_their_classes_and_missing_ones_are_filled() {
        let merge = Merge::LogOdds {
            missing_score: -4.0,
        };
        let (odd, even) = ([1, 3], [0, 2]);
        let all = [
            (&odd[..], Some(&[5.0, 6.0][..])),
            (&even, Some(&[7.0, 8.0])),
        ];
        assert_eq!(merge.join(4, &all), [7.0, 5.0, 8.0, 6.0]);
        let one = [(&odd[..], None), (&even[..], Some(&[7.0, 8.0][..]))];
        assert_eq!(merge.join(4, &one), [7.0, -4.0, 8.0, -4.0]);
    }

    #[test]
    fn confidence_is_the_largest_share_of_the_softmax() {
        assert!((confidence(&[0.0, 0.0]) - 0.5).abs() < 1e-6);
        assert!((confidence(&[1000.0, 0.0, 0.0]) - 1.0).abs() < 1e-6);
        assert!((confidence(&[0.0, 3.0_f32.ln()]) - 0.75).abs() < 1e-6);
        assert_eq!((confidence(&[]), best(&[])), (0.0, None));
        assert_eq!(confidence(&[f32::NAN, 1.0]), 0.0);
        assert_eq!(best(&[1.0, 3.0, 3.0]), Some(1));
    }
}
