//! gRPC: which of the ways to ask for a deadline counts, and what is promised when none is taken.

use std::{collections::HashMap, time::Duration};

use splitplace_proto::inference::{ModelInferResponse, infer_parameter::ParameterChoice};
use tonic::Request;

use crate::{Client, good, parameter};

fn said<'a>(response: &'a ModelInferResponse, name: &str) -> &'a ParameterChoice {
    response.parameters[name].parameter_choice.as_ref().unwrap()
}

pub(crate) async fn promises(client: &mut Client) {
    use ParameterChoice::{DoubleParam, Int64Param, StringParam};
    let promised = |response: &ModelInferResponse| match said(response, "splitplace_sla_us") {
        Int64Param(us) => *us,
        other => panic!("{other:?}"),
    };
    let request = |parameters: Vec<(&str, ParameterChoice)>, deadline: Option<u64>| {
        let mut message = good();
        message.parameters = parameters
            .into_iter()
            .map(|(name, choice)| (name.to_owned(), parameter(choice)))
            .collect::<HashMap<_, _>>();
        let mut request = Request::new(message);
        if let Some(seconds) = deadline {
            request.set_timeout(Duration::from_secs(seconds));
        }
        request
    };
    let own = "splitplace_sla_ms";
    let cases = [
        (
            request(
                vec![(own, Int64Param(700)), ("timeout", Int64Param(600_000))],
                Some(5),
            ),
            700_000,
        ),
        (request(vec![(own, DoubleParam(700.5))], None), 700_500),
        (
            request(vec![(own, StringParam("700.5".into()))], None),
            700_500,
        ),
        (
            request(vec![("timeout", Int64Param(600_000))], Some(5)),
            600_000,
        ),
        (request(vec![], Some(5)), 5_000_000),
        (
            request(vec![("anything", StringParam("else".into()))], None),
            250_000,
        ),
    ];
    for (request, wanted) in cases {
        let response = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(promised(&response), wanted);
        assert_eq!(
            said(&response, "splitplace_variant"),
            &StringParam("base".into())
        );
    }
}
