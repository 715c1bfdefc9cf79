//! How fast this machine computes, measured with the engine itself.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

use crate::{Limits, Result, Value, prepare};

/// Channels and side of the picture of the yardstick: a 3 x 3 convolution of 32 channels on 28 x 28.
const CHANNELS: i64 = 32;
const SIDE: i64 = 28;

/// Multiply-accumulates a second on one core: the best of `runs` runs of one convolution, so that a
/// busy moment does not count. `clock` is called before and after each run.
///
/// # Errors
/// When the engine does not run its own yardstick.
pub fn macs_per_second(runs: u32, mut clock: impl FnMut() -> Duration) -> Result<f64> {
    let prepared = prepare("the yardstick", yardstick(), &Limits::default())?;
    let count = usize::try_from(CHANNELS * SIDE * SIDE).unwrap_or(0);
    let bytes: Vec<u8> = (0..count)
        .flat_map(|k| ((k % 17) as f32 / 17.0).to_le_bytes())
        .collect();
    let input = Value {
        name: "x".into(),
        element: splitplace_graph::Element::F32,
        shape: prepared.inputs[0].shape.clone(),
        chunks: vec![bytes.into()],
    };
    let input = [input];
    let mut best = Duration::MAX;
    for _ in 0..runs.max(1) + 1 {
        let begin = clock();
        prepared.run(&input)?;
        best = best.min(clock().saturating_sub(begin));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    let macs = (CHANNELS * CHANNELS * 9 * SIDE * SIDE) as f64;
    Ok(macs / best.as_secs_f64().max(1e-9))
}

fn yardstick() -> Bytes {
    let tensor = |name: &str| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            denotation: String::new(),
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: 1,
                shape: Some(TensorShapeProto {
                    dim: [1, CHANNELS, SIDE, SIDE]
                        .into_iter()
                        .map(|dim| tensor_shape_proto::Dimension {
                            denotation: String::new(),
                            value: Some(tensor_shape_proto::dimension::Value::DimValue(dim)),
                        })
                        .collect(),
                }),
            })),
        }),
        doc_string: String::new(),
    };
    let ints = |name: &str, ints: Vec<i64>| AttributeProto {
        name: name.into(),
        r#type: 7,
        ints,
        ..AttributeProto::default()
    };
    let weights = TensorProto {
        name: "w".into(),
        dims: vec![CHANNELS, CHANNELS, 3, 3],
        data_type: 1,
        float_data: (0..CHANNELS * CHANNELS * 9)
            .map(|k| (k % 13) as f32 / 13.0 - 0.5)
            .collect(),
        ..TensorProto::default()
    };
    let conv = NodeProto {
        name: "conv".into(),
        op_type: "Conv".into(),
        input: vec!["x".into(), "w".into()],
        output: vec!["y".into()],
        attribute: vec![ints("kernel_shape", vec![3, 3]), ints("pads", vec![1; 4])],
        ..NodeProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 13,
        }],
        graph: Some(GraphProto {
            name: "yardstick".into(),
            node: vec![conv],
            initializer: vec![weights],
            input: vec![tensor("x")],
            output: vec![tensor("y")],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    model.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_follows_from_the_clock() {
        let mut now = Duration::ZERO;
        let speed = macs_per_second(2, || {
            now += Duration::from_millis(1);
            now
        });
        assert!((speed.unwrap() - 1e3 * f64::from(32 * 32 * 9 * 28 * 28)).abs() < 1.0);
    }
}
