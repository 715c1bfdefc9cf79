//! Early exits: whether a head on the way is sure enough to answer.

use splitplace_graph::Element;
use splitplace_link::ExitSaid;
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

impl Exit {
    /// What its scores among those made say, with the scores under the name of the answer; `None` when it made none.
    ///
    /// Of several samples the one that it is least sure of speaks: samples of one request leave together, for the
    /// answer has one shape, and the rest of the batch would run all the same.
    pub(crate) fn says(&self, made: &[Value]) -> Option<(ExitSaid, Value)> {
        let scores = made.iter().find(|value| value.name == self.output)?;
        let (confidence, class) = least_sure(scores)?;
        let said = ExitSaid {
            number: self.number,
            confidence,
            class,
        };
        let answer = Value {
            name: self.answer.clone(),
            ..scores.clone()
        };
        Some((said, answer))
    }
}

/// The largest softmax of the sample that is least sure, and its class; `None` for what are no scores.
fn least_sure(scores: &Value) -> Option<(f32, u32)> {
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
    let least = rows
        .map(|row| (package::confidence(row), row))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (confidence, row) = least?;
    let class = package::best(row).and_then(|class| u32::try_from(class).ok());
    Some((confidence.min(1.0), class.unwrap_or(0)))
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

    fn confidence(scores: &Value) -> Option<f32> {
        least_sure(scores).map(|(confidence, _)| confidence)
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
    fn an_exit_says_its_class_and_its_scores_are_the_answer() {
        let made = [
            scores("exit1", &[[2.0, 1.0, 0.0]]),
            scores("exit2", &[[0.0, 9.0, 0.0]]),
            scores("on", &[[0.0; 3]]),
        ];
        let exit = |number: u32| Exit {
            number,
            output: format!("exit{number}"),
            answer: "scores".into(),
            threshold: 0.9,
        };
        let (said, value) = exit(2).says(&made).unwrap();
        assert_eq!(
            (said.number, said.class, value.name.as_str()),
            (2, 1, "scores")
        );
        assert!(said.confidence > 0.99);
        assert_eq!(value.chunks, made[1].chunks);
        assert_eq!(exit(3).says(&made), None, "it is not here");
    }
}
