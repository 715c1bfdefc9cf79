//! Clients that never pause, and what becomes of each of their requests.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use serde_json::json;
use splitplace_tests::{http, process::until};

/// How many there are.
const CLIENTS: u64 = 4;
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
        let wanted = self.counts.answered.load(SeqCst) + BETWEEN;
        let is_so = || (wanted <= self.counts.answered.load(SeqCst)).then_some(());
        until("answers go on", is_so).unwrap();
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
            thread::yield_now();
            continue;
        };
        match http::ask(&address, "POST", &path, &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                counts.answered.fetch_add(1, SeqCst);
            }
            Ok(answer) if answer.header("splitplace-admitted") == Some("false") => {
                counts.refused.fetch_add(1, SeqCst);
            }
            Ok(answer) => lost.push(format!("{answer:?}")),
            Err(error) => {
                let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                if kind == Some(io::ErrorKind::ConnectionRefused) {
                    counts.refused.fetch_add(1, SeqCst);
                } else {
                    // Whoever waits for an answer does not get one: that is a loss, whoever is to blame.
                    lost.push(format!("{error:#}"));
                }
            }
        }
    }
    lost
}
