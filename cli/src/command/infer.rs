//! `splitplace infer`: one request, and what the answer says about itself.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use splitplace_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor, model_metadata_response::TensorMetadata,
};

use tracing::Instrument as _;

use crate::{
    client::{Client, Server},
    output, shipped,
};

#[derive(Debug, Args)]
pub(crate) struct Infer {
    #[command(flatten)]
    server: Server,
    /// Which model.
    model: String,
    /// File with the elements of an input, little-endian, as `NAME=FILE` or, for a model with one input,
    /// `FILE`; can be given many times.
    #[arg(
        long = "input",
        short = 'i',
        value_name = "[NAME=]FILE",
        conflicts_with = "picture"
    )]
    inputs: Vec<String>,
    /// One of the 10 000 shipped test pictures, by its number.
    #[arg(long, value_name = "NUMBER")]
    picture: Option<usize>,
    /// Time to be promised, in milliseconds.
    #[arg(long, value_name = "MS")]
    sla: Option<f64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Infer) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&args.server).await?;
    let mut inference = client.inference();
    let metadata = client.metadata(&args.model).await?;
    let mut label = None;
    let mut given: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let only = |what: &str| match metadata.inputs.as_slice() {
        [one] => Ok(one.name.clone()),
        many => bail!(
            "{what}: the model has {} inputs; name one as NAME=FILE",
            many.len()
        ),
    };
    if let Some(number) = args.picture {
        let pictures = shipped::pictures()?;
        ensure!(
            number < pictures.len(),
            "there are {} pictures, from 0",
            pictures.len()
        );
        label = pictures.labels.get(number).copied();
        given.insert(only("--picture")?, pictures.floats(number));
    }
    for input in &args.inputs {
        let (name, path) = match input.split_once('=') {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => (only("--input")?, PathBuf::from(input)),
        };
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        given.insert(name, bytes);
    }
    let mut request = ModelInferRequest {
        model_name: args.model.clone(),
        ..ModelInferRequest::default()
    };
    for input in &metadata.inputs {
        let bytes = given.remove(&input.name).with_context(|| {
            format!(
                "input '{}' ({} of shape {:?}) is missing: give it with --input {}=FILE",
                input.name, input.datatype, input.shape, input.name
            )
        })?;
        request.inputs.push(InferInputTensor {
            name: input.name.clone(),
            datatype: input.datatype.clone(),
            shape: shape_of(input, bytes.len())?,
            ..InferInputTensor::default()
        });
        request.raw_input_contents.push(bytes.into());
    }
    if let Some((name, _)) = given.into_iter().next() {
        bail!("the model has no input named '{name}'");
    }
    if let Some(sla) = args.sla {
        let choice = Some(ParameterChoice::DoubleParam(sla));
        let parameter = InferParameter {
            parameter_choice: choice,
        };
        request
            .parameters
            .insert("splitplace_sla_ms".into(), parameter);
    }
    let span = tracing::info_span!(
        "inference.GRPCInferenceService/ModelInfer",
        otel.kind = "client",
        rpc.system.name = "grpc",
        splitplace.model = args.model,
    );
    let answer = inference.model_infer(request).instrument(span).await?;
    let answer = answer.into_inner();
    if args.json {
        output::json(&answer_json(&answer, label))?;
    } else {
        show(&answer, label);
    }
    Ok(ExitCode::SUCCESS)
}

/// The declared shape with its open dimension filled so that the bytes fit.
pub(crate) fn shape_of(input: &TensorMetadata, bytes: usize) -> anyhow::Result<Vec<i64>> {
    let size: i64 = match input.datatype.as_str() {
        "BOOL" | "INT8" | "UINT8" => 1,
        "INT16" | "UINT16" | "FP16" | "BF16" => 2,
        "INT32" | "UINT32" | "FP32" => 4,
        "INT64" | "UINT64" | "FP64" => 8,
        other => bail!(
            "input '{}' has type {other}, which has no fixed size",
            input.name
        ),
    };
    let bytes = i64::try_from(bytes)?;
    let fixed: i64 = input.shape.iter().filter(|dim| **dim >= 0).product::<i64>() * size;
    let mut open = input.shape.iter().filter(|dim| **dim < 0);
    let (is_open, is_clear) = (open.next().is_some(), open.next().is_none());
    ensure!(
        is_clear,
        "input '{}' has several open dimensions",
        input.name
    );
    let fits = if is_open {
        fixed > 0 && bytes % fixed == 0
    } else {
        bytes == fixed
    };
    ensure!(
        fits,
        "input '{}' ({} of shape {:?}) cannot have {bytes} bytes",
        input.name,
        input.datatype,
        input.shape
    );
    let fill = if fixed > 0 { bytes / fixed } else { 0 };
    Ok(input
        .shape
        .iter()
        .map(|dim| if *dim < 0 { fill } else { *dim })
        .collect())
}

fn parameter(parameter: &InferParameter) -> serde_json::Value {
    match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => (*value).into(),
        Some(ParameterChoice::Int64Param(value)) => (*value).into(),
        Some(ParameterChoice::Uint64Param(value)) => (*value).into(),
        Some(ParameterChoice::DoubleParam(value)) => (*value).into(),
        Some(ParameterChoice::StringParam(value)) => value.clone().into(),
        None => serde_json::Value::Null,
    }
}

/// The elements of an output as numbers; `None` for a type that is not shown.
fn numbers(datatype: &str, bytes: &[u8]) -> Option<Vec<f64>> {
    fn all<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|&chunk| of(chunk))
            .collect()
    }
    Some(match datatype {
        "FP32" => all(bytes, |b| f64::from(f32::from_le_bytes(b))),
        "FP64" => all(bytes, f64::from_le_bytes),
        "INT32" => all(bytes, |b| f64::from(i32::from_le_bytes(b))),
        "UINT8" => all(bytes, |b: [u8; 1]| f64::from(b[0])),
        _ => return None,
    })
}

fn answer_json(answer: &ModelInferResponse, label: Option<u8>) -> serde_json::Value {
    let outputs = answer
        .outputs
        .iter()
        .zip(&answer.raw_output_contents)
        .map(|(output, bytes)| {
            serde_json::json!({
                "name": output.name,
                "datatype": output.datatype,
                "shape": output.shape,
                "data": numbers(&output.datatype, bytes),
            })
        });
    let parameters: BTreeMap<_, _> = answer
        .parameters
        .iter()
        .map(|(name, value)| (name, parameter(value)))
        .collect();
    serde_json::json!({
        "model": answer.model_name,
        "version": answer.model_version,
        "outputs": outputs.collect::<Vec<_>>(),
        "parameters": parameters,
        "label": label,
    })
}

fn show(answer: &ModelInferResponse, label: Option<u8>) {
    for (output, bytes) in answer.outputs.iter().zip(&answer.raw_output_contents) {
        print!("{} {} {:?}", output.name, output.datatype, output.shape);
        if let Some(numbers) = numbers(&output.datatype, bytes) {
            let best = numbers.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            if let Some((best, _)) = best.filter(|_| numbers.len() > 1) {
                print!(", greatest at {best}");
            }
            let head: Vec<_> = numbers.iter().take(16).map(|n| format!("{n:.4}")).collect();
            let more = if numbers.len() > 16 { " …" } else { "" };
            print!(": {}{more}", head.join(" "));
        }
        println!();
    }
    if let Some(label) = label {
        println!("the picture's class is {label}");
    }
    let mut table = output::table(["parameter", "value"]);
    let parameters: BTreeMap<_, _> = answer.parameters.iter().collect();
    for (name, value) in parameters {
        let value = parameter(value);
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned);
        table.add_row([name.clone(), text]);
    }
    println!("{table}");
}
