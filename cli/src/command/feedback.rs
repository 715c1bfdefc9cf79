//! `splitplace feedback`: tells the truth about an answered request.

use std::process::ExitCode;

use clap::Args;
use splitplace_proto::center::FeedbackRequest;

use crate::{
    client::{Client, Server},
    output,
};

#[derive(Debug, Args)]
pub(crate) struct Feedback {
    #[command(flatten)]
    server: Server,
    /// `splitplace_request` of the answer.
    request: u64,
    /// The true class; once for each sample.
    #[arg(long = "label", required = true)]
    labels: Vec<u32>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Feedback) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&args.server).await?;
    let told = FeedbackRequest {
        request: args.request,
        labels: args.labels,
    };
    let answer = client.center().feedback(told).await?.into_inner();
    if args.json {
        output::json(&serde_json::json!({ "used": answer.used, "correct": answer.correct }))?;
    } else if answer.used {
        println!("taken: {} right", answer.correct);
    } else {
        println!("not taken: the request is not remembered, or its truth was told before");
    }
    Ok(if answer.used {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}
