//! Early exits: whether a head on the way is sure enough to answer.

use splitplace_graph::Element;
use splitplace_onnx::{Value, package};
use splitplace_proto::control;

/// A head whose scores may be the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exit {
    /// Counted from 1 along the network.
    pub(crate) number: u32,
    /// The tensor that it makes.
    pub(crate) output: String,
    /// Under which name that is the answer.
    pub(crate) answer: String,
    /// Least confidence of every sample.
    pub(crate) threshold: f32,
}

impl From<&control::ExitSpec> for Exit {
    fn from(spec: &control::ExitSpec) -> Self {
        Self {
            number: spec.number,
            output: spec.output.clone(),
            answer: spec.answer.clone(),
            threshold: spec.threshold,
        }
    }
}

/// The first exit that is sure of every sample, with its scores under the name of the answer.
///
/// Samples of one request leave together: the answer has one shape, and the rest of the batch would
/// run all the same.
pub(crate) fn answer(exits: &[Exit], made: &[Value]) -> Option<(u32, Value)> {
    exits.iter().find_map(|exit| {
        let scores = made.iter().find(|value| value.name == exit.output)?;
        if confidence(scores)? < exit.threshold {
            return None;
        }
        let answer = Value {
            name: exit.answer.clone(),
            ..scores.clone()
        };
        Some((exit.number, answer))
    })
}

/// The largest softmax of the sample that is least sure; `None` for what are no scores.
fn confidence(scores: &Value) -> Option<f32> {
    let classes = usize::try_from(*scores.shape.last()?).ok()?;
    if scores.element != Element::F32 || scores.shape.len() < 2 || classes == 0 {
        return None;
    }
    let bytes = scores.chunks.concat();
    let (numbers, rest) = bytes.as_chunks::<4>();
    if numbers.is_empty() || !rest.is_empty() || numbers.len() % classes != 0 {
        return None;
    }
    let scores: Vec<f32> = numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect();
    let rows = scores.chunks_exact(classes);
    Some(rows.map(package::confidence).fold(1.0, f32::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(name: &str, rows: &[[f32; 3]]) -> Value {
        let bytes: Vec<u8> = rows
            .iter()
            .flatten()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let bytes = bytes::Bytes::from(bytes);
        Value {
            name: name.into(),
            element: Element::F32,
            shape: vec![rows.len() as u64, 3],
            // In two pieces, as the engine might.
            chunks: vec![bytes.slice(..5), bytes.slice(5..)],
        }
    }

    fn exit(number: u32, threshold: f32) -> Exit {
        Exit {
            number,
            output: format!("exit{number}"),
            answer: "scores".into(),
            threshold,
        }
    }

    #[test]
    fn confidence_is_the_softmax_of_the_least_sure_sample() {
        let two = scores("x", &[[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]]);
        assert!((confidence(&two).unwrap() - 1.0 / 3.0).abs() < 1e-6);
        let one = scores("x", &[[1.0, 2.0, 4.0]]);
        let by_hand = 4f32.exp() / (1f32.exp() + 2f32.exp() + 4f32.exp());
        assert!((confidence(&one).unwrap() - by_hand).abs() < 1e-6);
        assert_eq!(confidence(&scores("x", &[[f32::NAN, 0.0, 0.0]])), Some(0.0));
        assert_eq!(confidence(&scores("x", &[[1e30, -1e30, 0.0]])), Some(1.0));
    }

    #[test]
    fn the_first_sure_exit_answers_under_the_name_of_the_answer() {
        let made = [
            scores("exit1", &[[2.0, 1.0, 0.0]]),
            scores("exit2", &[[9.0, 0.0, 0.0]]),
            scores("on", &[[0.0; 3]]),
        ];
        let exits = [exit(1, 0.9), exit(2, 0.9)];
        let (number, value) = answer(&exits, &made).unwrap();
        assert_eq!((number, value.name.as_str()), (2, "scores"));
        assert_eq!(value.chunks, made[1].chunks);
        assert_eq!(answer(&[exit(1, 0.9)], &made), None);
        assert_eq!(answer(&[exit(3, 0.0)], &made), None, "it is not here");
        // A threshold above 1 is never reached.
        assert_eq!(answer(&[exit(2, 1.01)], &made), None);
    }
}
