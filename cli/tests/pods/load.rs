//! Clients that pause only when they are refused, and what becomes of each of their requests.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use splitplace_tests::{http, process::until};

/// How many there are.
const CLIENTS: u64 = 4;
/// Before somebody who was refused, or found nobody, tries again: whoever is to serve needs the processor more.
const PAUSE: Duration = Duration::from_millis(20);
/// Answers between two steps, so that each step happens under load.
pub(crate) const BETWEEN: u64 = 40;

#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
}

/// Clients at work.
pub(crate) struct Load {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts them. `service` says where the Service leads, or nothing while it leads to nobody.
    pub(crate) fn start(
        model: &str,
        service: impl Fn() -> Option<String> + Clone + Send + 'static,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        let clients = (0..CLIENTS).map(|number| {
            let (model, service, counts) = (model.to_owned(), service.clone(), Arc::clone(&counts));
            thread::spawn(move || client(number, &model, service, &counts))
        });
        Self {
            clients: clients.collect(),
            counts,
        }
    }

    /// Waits until the load goes on.
    pub(crate) fn goes_on(&self) {
        let wanted = self.further();
        until("answers go on", || self.has_reached(wanted).then_some(())).unwrap();
    }

    /// How many answers there are when the load goes on.
    pub(crate) fn further(&self) -> u64 {
        self.counts.answered.load(SeqCst) + BETWEEN
    }

    /// Whether there are so many answers.
    pub(crate) fn has_reached(&self, wanted: u64) -> bool {
        wanted <= self.counts.answered.load(SeqCst)
    }

    /// Ends it; gives how many were answered and how many refused before they were let in. None was lost.
    pub(crate) fn end(self) -> (u64, u64) {
        self.counts.is_over.store(true, SeqCst);
        let clients = self.clients.into_iter();
        let lost: Vec<String> = clients.flat_map(|client| client.join().unwrap()).collect();
        let of = |count: &AtomicU64| count.load(SeqCst);
        let (answered, refused) = (of(&self.counts.answered), of(&self.counts.refused));
        println!(
            "{answered} answered, {refused} refused before they were let in, {} lost",
            lost.len()
        );
        assert!(lost.is_empty(), "{lost:#?}");
        (answered, refused)
    }
}

/// Asks again and again; gives what was lost.
fn client(
    number: u64,
    model: &str,
    service: impl Fn() -> Option<String>,
    counts: &Counts,
) -> Vec<String> {
    let pixels: Vec<u64> = (0..784).map(|k| (k * 37 + number) % 251).collect();
    let body = json!({
        "inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": pixels}],
        "parameters": {"splitplace_sla_ms": 60_000},
    })
    .to_string();
    let path = format!("/v2/models/{model}/infer");
    let mut lost = Vec::new();
    while !counts.is_over.load(SeqCst) {
        let Some(address) = service() else {
            thread::sleep(PAUSE);
            continue;
        };
        match http::ask(&address, "POST", &path, &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                counts.answered.fetch_add(1, SeqCst);
            }
            Ok(answer) if answer.header("splitplace-admitted") == Some("false") => {
                counts.refused.fetch_add(1, SeqCst);
                thread::sleep(PAUSE);
            }
            Ok(answer) => lost.push(format!("{answer:?}")),
            Err(error) => {
                let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                if kind == Some(io::ErrorKind::ConnectionRefused) {
                    counts.refused.fetch_add(1, SeqCst);
                    thread::sleep(PAUSE);
                } else {
                    // Whoever waits for an answer does not get one: that is a loss, whoever is to blame.
                    lost.push(format!("{error:#}"));
                }
            }
        }
    }
    lost
}
