//! gRPC: each mistake that a client can make, and how it is answered.

use splitplace_proto::inference::{
    InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferRequestedOutputTensor,
};
use tonic::Code;

use crate::{Client, good, infer, parameter, raw};

/// A mistake, and how it is answered.
type Case = (&'static str, fn(&mut ModelInferRequest), Code, &'static str);

pub(crate) async fn refusals(client: &mut Client) {
    let cases: &[Case] = &[
        (
            "unknown model",
            |r| r.model_name = "x".into(),
            Code::NotFound,
            "unknown model: 'x' is not found",
        ),
        (
            "no number",
            |r| r.model_version = "v1".into(),
            Code::InvalidArgument,
            "number",
        ),
        (
            "unknown version",
            |r| r.model_version = "7".into(),
            Code::NotFound,
            "version 7 is not found",
        ),
        (
            "raw and contents",
            |r| r.inputs[0].contents = Some(InferTensorContents::default()),
            Code::InvalidArgument,
            "contents field must not be specified when using raw_input_contents for 'INPUT0' for model \
             'simple'",
        ),
        (
            "too few raw",
            |r| drop(r.raw_input_contents.pop()),
            Code::InvalidArgument,
            "each of the 2 inputs",
        ),
        (
            "wrong size",
            |r| r.raw_input_contents[1] = raw([1; 15]),
            Code::InvalidArgument,
            "unexpected size 60 for input 'INPUT1'",
        ),
        (
            "missing input",
            |r| {
                r.inputs.pop();
                r.raw_input_contents.pop();
            },
            Code::InvalidArgument,
            "expected 2 inputs but got 1",
        ),
        (
            "unknown input",
            |r| r.inputs[1].name = "Z".into(),
            Code::InvalidArgument,
            "'Z'",
        ),
        (
            "duplicate",
            |r| r.inputs[1].name = "INPUT0".into(),
            Code::InvalidArgument,
            "INPUT1",
        ),
        (
            "wrong type",
            |r| r.inputs[0].datatype = "FP32".into(),
            Code::InvalidArgument,
            "INT32",
        ),
        (
            "unknown type",
            |r| r.inputs[0].datatype = "FP31".into(),
            Code::InvalidArgument,
            "FP31",
        ),
        (
            "wrong shape",
            |r| r.inputs[0].shape = vec![16, 1],
            Code::InvalidArgument,
            "[-1,16]",
        ),
        (
            "negative",
            |r| r.inputs[0].shape = vec![-1, -16],
            Code::InvalidArgument,
            "negative",
        ),
        (
            "overflow",
            |r| r.inputs[0].shape = vec![i64::MAX, 16],
            Code::InvalidArgument,
            "counted",
        ),
        (
            "unknown output",
            |r| {
                r.outputs = vec![InferRequestedOutputTensor {
                    name: "Q".into(),
                    ..Default::default()
                }];
            },
            Code::InvalidArgument,
            "output 'Q'",
        ),
        (
            "half precision as contents",
            |r| {
                r.raw_input_contents.clear();
                r.inputs[0].datatype = "FP16".into();
            },
            Code::InvalidArgument,
            "raw_input_contents only",
        ),
        (
            "timeout as text",
            |r| {
                let text = parameter(ParameterChoice::StringParam("5".into()));
                r.parameters.insert("timeout".into(), text);
            },
            Code::InvalidArgument,
            "expected int64_param",
        ),
        (
            "reserved name",
            |r| {
                r.parameters.insert(
                    "triton_x".into(),
                    parameter(ParameterChoice::BoolParam(true)),
                );
            },
            Code::InvalidArgument,
            "triton_",
        ),
        (
            "a promise that is none",
            |r| {
                let zero = parameter(ParameterChoice::Int64Param(0));
                r.parameters.insert("splitplace_sla_ms".into(), zero);
            },
            Code::InvalidArgument,
            "splitplace_sla_ms",
        ),
    ];
    for (name, spoil, code, text) in cases {
        let mut request = good();
        spoil(&mut request);
        let status = infer(client, request).await.expect_err(name);
        assert_eq!(status.code(), *code, "{name}: {status}");
        assert!(
            status.message().contains(text),
            "{name}: {}",
            status.message()
        );
        assert_eq!(
            status.metadata().get("splitplace-admitted").unwrap(),
            "false",
            "{name}"
        );
        let page = if *code == Code::NotFound {
            "SP303"
        } else {
            "SP308"
        };
        assert_eq!(
            status.metadata().get("splitplace-code").unwrap(),
            page,
            "{name}"
        );
    }
    // Nothing of it did any harm.
    assert!(infer(client, good()).await.is_ok());
}
