//! Sends requests and notes what happened to each.
//!
//! In an open loop a thread of its own keeps the time, and latency counts from when a request should
//! have left, so that a server which stalls cannot hide it (coordinated omission).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use splitplace_proto::inference::{
    InferParameter, ModelInferResponse, infer_parameter::ParameterChoice,
};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Code, Status};

use super::{
    arrivals::{Arrival, Arrivals, SlaMix},
    payloads::Payloads,
};
use crate::client::Client;

/// What an answer said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    /// Server's number of the request, for feedback.
    pub(crate) request: Option<u64>,
    pub(crate) arm: String,
    pub(crate) context: String,
    pub(crate) generation: u64,
    pub(crate) attempts: u64,
    pub(crate) missing: String,
    /// The exit that answered.
    pub(crate) exit: String,
    /// The trail, as the server tells it: JSON.
    pub(crate) hops: String,
    /// Response time that was predicted.
    pub(crate) predicted: Option<Duration>,
    /// Response time as the server saw it.
    pub(crate) response: Option<Duration>,
    /// Whether the promise held, as the server saw it.
    pub(crate) sla_held: Option<bool>,
    /// Right answers among the samples, where the classes are known.
    pub(crate) correct: Option<u32>,
    /// Bytes of the first output.
    pub(crate) scores: bytes::Bytes,
}

/// Why there was no answer.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    /// Whether the server had let the request in; unknown when it does not say.
    pub(crate) admitted: Option<bool>,
    pub(crate) message: String,
}

/// What happened to one request. Times count from the start.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When it should have left.
    pub(crate) intended: Duration,
    /// When it left.
    pub(crate) begun: Duration,
    /// When its answer, or the lack of one, was known.
    pub(crate) ended: Duration,
    pub(crate) sla: Option<Duration>,
    pub(crate) payload: usize,
    pub(crate) samples: usize,
    pub(crate) result: Result<Answered, Refused>,
}

impl Outcome {
    /// From when it should have left.
    pub(crate) fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.intended)
    }

    /// From when it left.
    pub(crate) fn service(&self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }
}

/// When requests leave.
pub(crate) enum Mode {
    /// At their own times, whatever the server does.
    Open(Box<Arrivals>),
    /// As many at a time as there are clients, each after the answer to its last.
    Closed {
        clients: usize,
        slas: SlaMix,
        seed: u64,
    },
}

/// A run.
pub(crate) struct Run {
    /// Connections, used in turn.
    pub(crate) connections: Vec<Client>,
    pub(crate) payloads: Arc<Payloads>,
    pub(crate) mode: Mode,
    /// Nothing leaves after this.
    pub(crate) duration: Duration,
    /// No more than these leave.
    pub(crate) requests: u64,
    /// An answer that takes longer is given up.
    pub(crate) timeout: Duration,
    /// Requests in flight; beyond it an open loop waits, and the wait counts.
    pub(crate) in_flight: usize,
    /// Payloads one after another instead of drawn.
    pub(crate) in_order: bool,
}

struct Shared {
    connections: Vec<Client>,
    payloads: Arc<Payloads>,
    start: Instant,
    timeout: Duration,
    next: AtomicU64,
    in_order: bool,
    told: mpsc::UnboundedSender<Outcome>,
}

impl Shared {
    async fn shoot(&self, arrival: Arrival) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len() as u64;
        let connection = usize::try_from(number % count).unwrap_or(0);
        let mut inference = self.connections[connection].inference();
        let draw = if self.in_order { number } else { arrival.draw };
        let payload = usize::try_from(draw % self.payloads.len() as u64).unwrap_or(0);
        let request = self.payloads.request(payload, arrival.sla);
        let samples = self.payloads.labels(payload).len().max(1);
        let begun = self.start.elapsed();
        let answer = tokio::time::timeout(self.timeout, inference.model_infer(request)).await;
        let ended = self.start.elapsed();
        let result = match answer {
            Ok(Ok(response)) => Ok(read(response.get_ref(), self.payloads.labels(payload))),
            Ok(Err(status)) => Err(refused(&status)),
            Err(_) => Err(Refused {
                code: Code::DeadlineExceeded,
                admitted: None,
                message: format!("given up after {:?}", self.timeout),
            }),
        };
        let outcome = Outcome {
            intended: arrival.at,
            begun,
            ended,
            sla: arrival.sla,
            payload,
            samples,
            result,
        };
        // Whoever listened may have had enough.
        let _ = self.told.send(outcome);
    }
}

/// Runs, telling `each` outcome as it comes; ends when all that left have ended.
pub(crate) async fn run(run: Run, mut each: impl FnMut(Outcome)) {
    let (told, mut outcomes) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        connections: run.connections,
        payloads: run.payloads,
        start: Instant::now(),
        timeout: run.timeout,
        next: AtomicU64::new(0),
        in_order: run.in_order,
        told,
    });
    match run.mode {
        Mode::Open(arrivals) => {
            let bound = (run.duration, run.requests);
            tokio::spawn(open(Arc::clone(&shared), *arrivals, bound, run.in_flight));
        }
        Mode::Closed {
            clients,
            slas,
            seed,
        } => {
            let left = Arc::new(AtomicU64::new(run.requests));
            for client in 0..clients as u64 {
                let shared = Arc::clone(&shared);
                let arrivals = Arrivals::new(
                    super::arrivals::Gaps::Constant,
                    1.0,
                    slas.clone(),
                    seed ^ (client << 32),
                );
                let Ok(arrivals) = arrivals else { continue };
                tokio::spawn(closed(shared, arrivals, run.duration, Arc::clone(&left)));
            }
        }
    }
    drop(shared);
    while let Some(outcome) = outcomes.recv().await {
        each(outcome);
    }
}

async fn open(
    shared: Arc<Shared>,
    arrivals: Arrivals,
    (duration, requests): (Duration, u64),
    in_flight: usize,
) {
    let (due, mut waiting) = mpsc::unbounded_channel();
    let start = shared.start;
    // The runtime's timer counts in milliseconds, which is too coarse for a rate of thousands.
    let pacer = std::thread::Builder::new()
        .name("pacer".into())
        .spawn(move || {
            let count = usize::try_from(requests).unwrap_or(usize::MAX);
            for arrival in arrivals
                .take(count)
                .take_while(|arrival| arrival.at < duration)
            {
                if let Some(wait) = arrival.at.checked_sub(start.elapsed()) {
                    std::thread::sleep(wait);
                }
                if due.send(arrival).is_err() {
                    return;
                }
            }
        });
    if let Err(error) = pacer {
        tracing::error!(code = "SP405", %error, "no thread can be started to keep the time");
        return;
    }
    let places = Arc::new(Semaphore::new(in_flight.max(1)));
    while let Some(arrival) = waiting.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.shoot(arrival).await;
            drop(place);
        });
    }
}

async fn closed(
    shared: Arc<Shared>,
    mut arrivals: Arrivals,
    duration: Duration,
    left: Arc<AtomicU64>,
) {
    loop {
        let at = shared.start.elapsed();
        let take = |left: u64| left.checked_sub(1);
        let is_over = left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_err();
        if at >= duration || is_over {
            return;
        }
        let Some(arrival) = arrivals.next() else {
            return;
        };
        shared.shoot(Arrival { at, ..arrival }).await;
    }
}

fn refused(status: &Status) -> Refused {
    let admitted = status.metadata().get("splitplace-admitted");
    Refused {
        code: status.code(),
        admitted: admitted.map(|value| value.as_bytes() == b"true"),
        message: status.message().to_owned(),
    }
}

fn read(response: &ModelInferResponse, labels: &[u32]) -> Answered {
    let of = |name: &str| response.parameters.get(name).and_then(choice);
    let text = |name: &str| match of(name) {
        Some(ParameterChoice::StringParam(text)) => text.clone(),
        _ => String::new(),
    };
    let int = |name: &str| match of(name) {
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(*value).ok(),
        _ => None,
    };
    let scores = response
        .raw_output_contents
        .first()
        .cloned()
        .unwrap_or_default();
    let is_scores = response
        .outputs
        .first()
        .is_some_and(|output| output.datatype == "FP32");
    Answered {
        request: text("splitplace_request").parse().ok(),
        arm: text("splitplace_arm"),
        context: text("splitplace_context"),
        generation: int("splitplace_generation").unwrap_or(0),
        attempts: int("splitplace_attempts").unwrap_or(1),
        missing: text("splitplace_missing_branches"),
        exit: text("splitplace_exit"),
        hops: text("splitplace_hops"),
        predicted: int("splitplace_predicted_us").map(Duration::from_micros),
        response: int("splitplace_response_us").map(Duration::from_micros),
        sla_held: match of("splitplace_sla_held") {
            Some(ParameterChoice::BoolParam(held)) => Some(*held),
            _ => None,
        },
        correct: (is_scores && !labels.is_empty()).then(|| correct(&scores, labels)),
        scores,
    }
}

fn choice(parameter: &InferParameter) -> Option<&ParameterChoice> {
    parameter.parameter_choice.as_ref()
}

/// Samples whose greatest score is that of their class.
pub(crate) fn correct(scores: &[u8], labels: &[u32]) -> u32 {
    let scores = floats(scores);
    let classes = scores.len() / labels.len().max(1);
    if classes == 0 {
        return 0;
    }
    let right = scores
        .chunks_exact(classes)
        .zip(labels)
        .filter(|(row, label)| greatest(row) == usize::try_from(**label).ok());
    u32::try_from(right.count()).unwrap_or(u32::MAX)
}

/// Little-endian 32-bit floats.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&chunk| f32::from_le_bytes(chunk))
        .collect()
}

/// Position of the greatest score.
pub(crate) fn greatest(row: &[f32]) -> Option<usize> {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_answers_are_counted_by_row() {
        let scores: Vec<u8> = [0.1_f32, 0.9, 0.8, 0.2, -1.0, -2.0]
            .iter()
            .flat_map(|score| score.to_le_bytes())
            .collect();
        assert_eq!(correct(&scores, &[1, 0, 1]), 2);
        assert_eq!(correct(&[], &[1]), 0);
    }
}
