//! The body of an inference request: JSON, and behind it the binary tensors that it announces.

use std::collections::{BTreeMap, BTreeSet};

use axum::{body::Bytes, http::HeaderMap};
use serde::Deserialize;
use serde_json::{Value as Json, value::RawValue};

use super::{JSON_LENGTH, elements};
use crate::{
    api::{
        sla::{self, Value},
        tensors::Header,
    },
    face::{Ask, Via},
    watch::trace::Context,
};

#[derive(Debug, Deserialize)]
struct Request<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Json>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: BTreeMap<String, Json>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: BTreeMap<String, Json>,
}

/// How the client wants its answer.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) id: Option<String>,
    /// Outputs that travel as binary, by name; the rest as `otherwise`.
    binary: BTreeSet<String>,
    json: BTreeSet<String>,
    otherwise: bool,
}

impl Wanted {
    /// Whether an output travels as binary.
    pub(super) fn is_binary(&self, name: &str) -> bool {
        self.binary.contains(name) || (self.otherwise && !self.json.contains(name))
    }
}

/// Reads a request.
pub(super) fn decode(
    model: String,
    version: String,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Ask, Wanted), String> {
    let length = match headers.get(JSON_LENGTH) {
        None => body.len(),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|length| *length <= body.len())
            .ok_or_else(|| {
                format!(
                    "{JSON_LENGTH} must be a number of bytes within the body's {}",
                    body.len()
                )
            })?,
    };
    let request: Request<'_> = serde_json::from_slice(&body[..length])
        .map_err(|error| format!("failed to parse the request JSON: {error}"))?;
    let sla = sla::sla(
        |name| request.parameters.get(name).and_then(value),
        request.parameters.keys().map(String::as_str),
        None,
    )?;
    let min_accuracy = sla::min_accuracy(|name| request.parameters.get(name).and_then(value))?;
    let mut rest = body.slice(length..);
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in &request.inputs {
        let header = Header {
            model: &model,
            name: &input.name,
            datatype: &input.datatype,
            shape: &input.shape,
        };
        let named = format!("input '{}' for model '{model}'", input.name);
        let tensor = match (input.parameters.get("binary_data_size"), input.data) {
            (Some(_), Some(_)) => {
                return Err(format!(
                    "{named} has both 'data' and 'binary_data_size': one is enough"
                ));
            }
            (None, None) => {
                return Err(format!("{named} has neither 'data' nor 'binary_data_size'"));
            }
            (Some(size), None) => {
                let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.filter(|size| *size <= rest.len()).ok_or_else(|| {
                    format!(
                        "{named}: 'binary_data_size' must be a number of bytes within the {} that \
                         follow",
                        rest.len()
                    )
                })?;
                header.raw(rest.split_to(size))?
            }
            (None, Some(data)) => {
                let (kind, count) = header.check()?;
                let bytes = elements::from_json(kind, count, data.get());
                let bytes = bytes.map_err(|why| format!("{named}: {why}"))?;
                header.tensor(kind, bytes.into())?
            }
        };
        inputs.push(tensor);
    }
    if !rest.is_empty() {
        return Err(format!(
            "{} bytes follow the tensors that the request announces",
            rest.len()
        ));
    }
    let flag = |of: &BTreeMap<String, Json>, name| of.get(name).and_then(Json::as_bool);
    let mut wanted = Wanted {
        id: request.id,
        otherwise: flag(&request.parameters, "binary_data_output").unwrap_or(false),
        ..Wanted::default()
    };
    for output in &request.outputs {
        match flag(&output.parameters, "binary_data") {
            Some(true) => wanted.binary.insert(output.name.clone()),
            Some(false) => wanted.json.insert(output.name.clone()),
            None => continue,
        };
    }
    let ask = Ask {
        model,
        version,
        inputs,
        outputs: request
            .outputs
            .into_iter()
            .map(|output| output.name)
            .collect(),
        sla,
        patience: None,
        caller: headers
            .get("traceparent")
            .and_then(|value| Context::parse(value.to_str().ok()?)),
        via: Via::Rest,
        min_accuracy,
    };
    Ok((ask, wanted))
}

fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(value) => Some(Value::Bool(*value)),
        Json::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .map(Value::Int)
            .or_else(|| number.as_f64().map(Value::Number)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
