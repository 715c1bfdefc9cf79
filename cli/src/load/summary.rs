//! What a run amounts to: counts, quantiles, losses.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;
use tonic::Code;

use super::engine::{Answered, Outcome, Refused};

/// Longest time that is told from longer ones.
const LONGEST_US: u64 = 3_600_000_000;

/// Times with three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        #[expect(clippy::unwrap_used, reason = "the bounds are constants and valid")]
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros())
        .unwrap_or(u64::MAX)
        .clamp(1, LONGEST_US)
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.saturating_record(micros(time));
    }

    /// Adds a time, and those that requests would have had which a client that waited did not send.
    fn add_with_omitted(&mut self, time: Duration, expected: Duration) {
        // The value is within the bounds, so that recording cannot fail.
        let _ = self.0.record_correct(micros(time), micros(expected));
    }

    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an hour of microseconds is below 2^53"
        )]
        let micros = self.0.value_at_quantile(quantile) as f64;
        micros
    }

    /// Every quantile that people ask for, in microseconds; `None` without any time.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        if self.0.is_empty() {
            return None;
        }
        Some(Quantiles {
            mean_us: self.0.mean(),
            p50_us: self.quantile(0.5),
            p90_us: self.quantile(0.9),
            p95_us: self.quantile(0.95),
            p99_us: self.quantile(0.99),
            p999_us: self.quantile(0.999),
            max_us: self.quantile(1.0),
        })
    }
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// Answers of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) count: u64,
    pub(crate) samples: u64,
    pub(crate) labelled: u64,
    pub(crate) correct: u64,
    pub(crate) promised: u64,
    pub(crate) held: u64,
    pub(crate) held_by_server: u64,
    pub(crate) retried: u64,
    pub(crate) degraded: u64,
    pub(crate) latency: Times,
    pub(crate) predicted: Times,
    pub(crate) response: Times,
    /// Answers by exit, where the server says which.
    pub(crate) exits: BTreeMap<String, u64>,
}

impl Group {
    /// Adds an answer.
    pub(crate) fn add(&mut self, outcome: &Outcome, answered: &Answered) {
        self.count += 1;
        self.samples += outcome.samples as u64;
        if let Some(correct) = answered.correct {
            self.labelled += outcome.samples as u64;
            self.correct += u64::from(correct);
        }
        if let Some(sla) = outcome.sla {
            self.promised += 1;
            self.held += u64::from(outcome.latency() <= sla);
            self.held_by_server += u64::from(answered.sla_held == Some(true));
        }
        self.retried += u64::from(answered.attempts > 1);
        self.degraded += u64::from(!answered.missing.is_empty());
        if !answered.exit.is_empty() {
            *self.exits.entry(answered.exit.clone()).or_default() += 1;
        }
        self.latency.add(outcome.latency());
        if let Some(time) = answered.predicted {
            self.predicted.add(time);
        }
        if let Some(time) = answered.response {
            self.response.add(time);
        }
    }

    /// Share of right answers; `None` where no class is known.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        share(self.correct, self.labelled)
    }

    /// Share of promises that held; `None` where nothing was promised.
    pub(crate) fn held(&self) -> Option<f64> {
        share(self.held, self.promised)
    }

    /// For a report.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.count,
            "samples": self.samples,
            "accuracy": self.accuracy(),
            "sla_promised": self.promised,
            "sla_held": self.held(),
            "sla_held_by_server": share(self.held_by_server, self.promised),
            "retried": self.retried,
            "degraded": self.degraded,
            "exits": self.exits,
            "latency": self.latency.quantiles(),
            "predicted": self.predicted.quantiles(),
            "response": self.response.quantiles(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What a run amounts to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    warm_up: Duration,
    /// Between two requests of a closed loop's client, as its users would send them.
    expected: Option<Duration>,
    pub(crate) sent: u64,
    pub(crate) warmed: u64,
    /// All answers.
    pub(crate) all: Group,
    /// By arm and context; one entry with empty names for a server that has none.
    pub(crate) groups: BTreeMap<(String, String), Group>,
    /// Losses by code and by whether the server had let them in.
    pub(crate) losses: BTreeMap<(String, Option<bool>), u64>,
    /// Answers by the plan that gave them.
    pub(crate) generations: BTreeMap<u64, u64>,
    /// A message of each code.
    pub(crate) examples: BTreeMap<String, String>,
    service: Times,
    first: Option<Duration>,
    last: Duration,
}

impl Summary {
    pub(crate) fn new(warm_up: Duration, expected: Option<Duration>) -> Self {
        Self {
            warm_up,
            expected,
            ..Self::default()
        }
    }

    /// Adds an outcome, unless it belongs to the warm-up.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        if outcome.intended < self.warm_up {
            self.warmed += 1;
            return;
        }
        self.sent += 1;
        self.first = Some(
            self.first
                .map_or(outcome.intended, |first| first.min(outcome.intended)),
        );
        self.last = self.last.max(outcome.ended);
        match &outcome.result {
            Ok(answered) => {
                self.all.add(outcome, answered);
                *self.generations.entry(answered.generation).or_default() += 1;
                if let Some(expected) = self.expected {
                    // Replaces what `Group::add` noted by the corrected distribution at the end.
                    self.service.add_with_omitted(outcome.service(), expected);
                } else {
                    self.service.add(outcome.service());
                }
                let key = (answered.arm.clone(), answered.context.clone());
                self.groups.entry(key).or_default().add(outcome, answered);
            }
            Err(Refused {
                code,
                admitted,
                message,
            }) => {
                let name = code_name(*code);
                *self.losses.entry((name.to_owned(), *admitted)).or_default() += 1;
                self.examples
                    .entry(name.to_owned())
                    .or_insert_with(|| message.clone());
            }
        }
    }

    /// Seconds between the first request and the last answer.
    pub(crate) fn seconds(&self) -> f64 {
        let first = self.first.unwrap_or_default();
        self.last.saturating_sub(first).as_secs_f64().max(1e-9)
    }

    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub(crate) fn rate(&self) -> f64 {
        self.all.count as f64 / self.seconds()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.losses.values().sum()
    }

    /// Requests that the server had let in and did not answer.
    pub(crate) fn lost_after_admission(&self) -> u64 {
        let of = |((_, admitted), count): (&(String, Option<bool>), &u64)| {
            if *admitted == Some(true) { *count } else { 0 }
        };
        self.losses.iter().map(of).sum()
    }

    /// Latency that counts: from when a request should have left, or, in a closed loop with an expected
    /// interval, with the requests that were not sent.
    pub(crate) fn latency(&self) -> &Times {
        if self.expected.is_some() {
            &self.service
        } else {
            &self.all.latency
        }
    }

    /// For a report.
    pub(crate) fn json(&self) -> serde_json::Value {
        let losses: Vec<_> = self
            .losses
            .iter()
            .map(|((code, admitted), count)| {
                serde_json::json!({
                    "code": code,
                    "admitted": admitted,
                    "count": count,
                    "example": self.examples.get(code),
                })
            })
            .collect();
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|((arm, context), group)| {
                let mut json = group.json();
                json["arm"] = arm.clone().into();
                json["context"] = context.clone().into();
                json
            })
            .collect();
        serde_json::json!({
            "sent": self.sent,
            "warm_up": self.warmed,
            "answered": self.all.count,
            "lost": self.lost(),
            "lost_after_admission": self.lost_after_admission(),
            "seconds": self.seconds(),
            "answers_per_second": self.rate(),
            "latency": self.latency().quantiles(),
            "latency_from_sending": self.service.quantiles(),
            "all": self.all.json(),
            "groups": groups,
            "generations": self.generations,
            "losses": losses,
        })
    }
}

/// The code's name as gRPC writes it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(intended: u64, begun: u64, ended: u64) -> Outcome {
        let ms = Duration::from_millis;
        Outcome {
            intended: ms(intended),
            begun: ms(begun),
            ended: ms(ended),
            sla: Some(ms(50)),
            payload: 0,
            samples: 1,
            result: Ok(Answered {
                correct: Some(1),
                ..Answered::default()
            }),
        }
    }

    #[test]
    fn waiting_to_be_sent_counts() {
        let mut summary = Summary::new(Duration::ZERO, None);
        // The server stalled: what should have left at 10 ms left at 100 ms.
        summary.add(&outcome(10, 100, 110));
        let quantiles = summary.latency().quantiles().expect("one");
        assert!((99_000.0..101_000.0).contains(&quantiles.p50_us));
        assert_eq!(summary.all.held(), Some(0.0));
        let from_sending = summary.json()["latency_from_sending"]["p50_us"].as_f64();
        assert!(from_sending.is_some_and(|us| us < 10_100.0));
    }

    #[test]
    fn a_closed_loop_is_filled_with_what_was_not_sent() {
        let mut summary = Summary::new(Duration::ZERO, Some(Duration::from_millis(10)));
        for k in 0..90 {
            summary.add(&outcome(k, k, k + 1));
        }
        // One stall of a second hides a hundred requests.
        summary.add(&outcome(100, 100, 1100));
        let quantiles = summary.latency().quantiles().expect("some");
        assert!(quantiles.p90_us > 700_000.0, "{quantiles:?}");
    }

    #[test]
    fn the_warm_up_does_not_count_and_losses_do() {
        let mut summary = Summary::new(Duration::from_millis(5), None);
        summary.add(&outcome(1, 1, 2));
        let mut lost = outcome(7, 7, 8);
        lost.result = Err(Refused {
            code: Code::Internal,
            admitted: Some(true),
            message: "broke".into(),
        });
        summary.add(&lost);
        assert_eq!((summary.warmed, summary.sent, summary.all.count), (1, 1, 0));
        assert_eq!((summary.lost(), summary.lost_after_admission()), (1, 1));
        assert_eq!(summary.all.accuracy(), None);
    }
}
