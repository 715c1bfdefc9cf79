//! Whether a request fits the model: what is wrong is said in the words that clients know.

use splitplace_link::Tensor;
use splitplace_proto::data::DType;

use crate::face::{AskError, TensorFacts};

/// Checks inputs and named outputs against the model; returns the number of samples. `pictures` names
/// the input that may hold encoded pictures instead of what is made of them.
pub(super) fn check(
    model: &str,
    wanted: &[TensorFacts],
    offered: &[TensorFacts],
    inputs: &[Tensor],
    outputs: &[String],
    pictures: Option<&str>,
) -> Result<u32, AskError> {
    let invalid = |text: String| Err(AskError::Invalid(text));
    if inputs.len() != wanted.len() {
        let names: Vec<_> = wanted.iter().map(|facts| facts.name.as_str()).collect();
        return invalid(format!(
            "expected {} inputs but got {} inputs for model '{model}': it takes [{}]",
            wanted.len(),
            inputs.len(),
            names.join(", ")
        ));
    }
    let mut samples: Option<i64> = None;
    for facts in wanted {
        let name = &facts.name;
        let mut same = inputs.iter().filter(|input| input.name == *name);
        let Some(input) = same.next() else {
            let got: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
            return invalid(format!(
                "unexpected inference input '{}' for model '{model}': input '{name}' is missing",
                got.iter()
                    .find(|got| wanted.iter().all(|w| w.name != **got))
                    .unwrap_or(&"")
            ));
        };
        // Encoded pictures in the place of the tensor that is made of them: one for each sample.
        let is_pictures = input.dtype == DType::Bytes && pictures == Some(name);
        if is_pictures && !matches!(input.shape[..], [1..=i64::MAX] | [1..=i64::MAX, 1]) {
            return invalid(format!(
                "input '{name}' for model '{model}' holds pictures and must have the shape [samples] or \
                 [samples,1], got {}",
                shape(&input.shape)
            ));
        }
        if input.dtype != facts.dtype && !is_pictures {
            return invalid(format!(
                "inference input '{name}' data-type is '{}', but model '{model}' expects '{}'",
                word(input.dtype),
                word(facts.dtype)
            ));
        }
        let mut dims = input.shape.iter().zip(&facts.shape);
        let fits = is_pictures
            || input.shape.len() == facts.shape.len()
                && dims.all(|(&got, &want)| if want < 0 { got > 0 } else { got == want });
        if !fits {
            return invalid(format!(
                "unexpected shape for input '{name}' for model '{model}'. Expected {}, got {}",
                shape(&facts.shape),
                shape(&input.shape)
            ));
        }
        if facts.shape.first() == Some(&-1) {
            let count = input.shape[0];
            if samples.is_some_and(|samples| samples != count) {
                return invalid(format!(
                    "input '{name}' has {count} samples where another input of model '{model}' has {}",
                    samples.unwrap_or(0)
                ));
            }
            samples = Some(count);
        }
    }
    for name in outputs {
        if offered.iter().all(|facts| facts.name != *name) {
            return invalid(format!(
                "unexpected inference output '{name}' for model '{model}'"
            ));
        }
    }
    let samples = samples.unwrap_or(1);
    u32::try_from(samples)
        .map_err(|_| AskError::Invalid(format!("{samples} samples are too many for one request")))
}

fn shape(shape: &[i64]) -> String {
    let dims: Vec<_> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(","))
}

fn word(dtype: DType) -> &'static str {
    dtype.as_str_name().trim_start_matches("D_TYPE_")
}

#[cfg(test)]
mod tests {
    use splitplace_codec::Codec;

    use super::*;

    fn facts(name: &str) -> TensorFacts {
        TensorFacts {
            name: name.into(),
            dtype: DType::Fp32,
            shape: vec![-1, 4],
            labels: Vec::new(),
        }
    }

    fn tensor(name: &str, shape: [i64; 2]) -> Tensor {
        Tensor {
            name: name.into(),
            dtype: DType::Fp32,
            shape: shape.to_vec(),
            codec: Codec::RAW,
            chunks: Vec::new(),
        }
    }

    #[test]
    fn samples_are_counted_and_must_agree() {
        let wanted = [facts("a"), facts("b")];
        let inputs = [tensor("b", [3, 4]), tensor("a", [3, 4])];
        assert_eq!(
            check("m", &wanted, &[facts("y")], &inputs, &[], None),
            Ok(3)
        );
        let inputs = [tensor("b", [2, 4]), tensor("a", [3, 4])];
        assert!(check("m", &wanted, &[facts("y")], &inputs, &[], None).is_err());
    }

    #[test]
    fn pictures_stand_for_the_input_that_is_made_of_them() {
        let wanted = [facts("a")];
        let pictures = |shape: Vec<i64>| Tensor {
            dtype: DType::Bytes,
            shape,
            ..tensor("a", [1, 1])
        };
        let check = |shape: Vec<i64>, takes| {
            check("m", &wanted, &[facts("y")], &[pictures(shape)], &[], takes)
        };
        assert_eq!(check(vec![3], Some("a")), Ok(3));
        assert_eq!(check(vec![2, 1], Some("a")), Ok(2));
        for wrong in [vec![0], vec![], vec![2, 2], vec![1, 1, 28, 28]] {
            assert!(check(wrong, Some("a")).is_err());
        }
        assert!(check(vec![3], None).is_err());
        assert!(check(vec![3], Some("b")).is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wanted = [facts("a")];
        let said = |inputs: &[Tensor], outputs: &[String]| {
            check("m", &wanted, &[facts("y")], inputs, outputs, None)
                .unwrap_err()
                .to_string()
        };
        assert!(said(&[], &[]).contains("expected 1 inputs but got 0"));
        assert!(said(&[tensor("x", [1, 4])], &[]).contains("unexpected inference input 'x'"));
        assert!(said(&[tensor("a", [1, 5])], &[]).contains("Expected [-1,4], got [1,5]"));
        assert!(said(&[tensor("a", [1, 4])], &["z".into()]).contains("output 'z'"));
        let mut wrong = tensor("a", [1, 4]);
        wrong.dtype = DType::Int8;
        assert!(said(&[wrong], &[]).contains("'INT8', but model 'm' expects 'FP32'"));
    }
}
