//! Stories of who leads.

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::BodyExt as _;
use serde_json::json;
use splitplace_k8s::lease::{self, LeaseOptions, Standing};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{Fake, Running, Story, model, said, start, stored};

fn leads(running: &Running) -> bool {
    running.pulse.is_leader.load(Relaxed)
}

fn holder(fake: &Fake) -> String {
    let lease = fake.get("leases", "operator").unwrap_or_default();
    lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn one_leads_and_the_other_writes_nothing() {
    let (fake, center) = (Fake::new(), Story::new());
    let first = start(&fake, &center, "first");
    fake.until("first leads", |_| leads(&first)).await;
    let second = start(&fake, &center, "second");
    fake.put("edgemodels", model("clothes", &stored()));
    fake.until("ready", |fake| {
        said(fake, "clothes", "Ready") == "True Served"
    })
    .await;
    assert!(!leads(&second));
    assert_eq!(second.pulse.passes.load(Relaxed), 0);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_leader_that_stops_gives_the_lease_back() {
    let (fake, center) = (Fake::new(), Story::new());
    let first = start(&fake, &center, "first");
    fake.until("first leads", |_| leads(&first)).await;
    let second = start(&fake, &center, "second");
    fake.put("edgemodels", model("clothes", &stored()));
    fake.until("ready", |fake| {
        said(fake, "clothes", "Ready") == "True Served"
    })
    .await;
    first.stop().await;
    fake.until("second leads", |fake| {
        leads(&second) && holder(fake) == "second"
    })
    .await;
    // It finds everything as it was left, and does nothing again.
    fake.put("edgemodels", model("shoes", &stored()));
    fake.until("ready", |fake| {
        said(fake, "shoes", "Ready") == "True Served"
    })
    .await;
    assert_eq!(center.calls(), ["load clothes", "load shoes"]);
    second.stop().await;
    assert_eq!(holder(&fake), "");
}

#[tokio::test]
async fn a_leader_that_dies_is_followed_when_its_lease_has_run_out() {
    let (fake, center) = (Fake::new(), Story::new());
    let first = start(&fake, &center, "first");
    fake.until("first leads", |_| leads(&first)).await;
    let second = start(&fake, &center, "second");
    first.kill();
    fake.until("second leads", |fake| {
        leads(&second) && holder(fake) == "second"
    })
    .await;
    second.stop().await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_leading() {
    let (fake, center) = (Fake::new(), Story::new());
    let first = start(&fake, &center, "first");
    fake.until("first leads", |_| leads(&first)).await;
    fake.deny("PUT leases", true);
    fake.until("first stops", |_| !leads(&first)).await;
    fake.deny("PUT leases", false);
    fake.until("first leads again", |_| leads(&first)).await;
    first.stop().await;
}

/// What becomes of a request before the API server sees it.
type Fate = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client of an API server whose writes of Leases meet a fate first: told which one of them it is, from 1.
fn writing(fake: &Fake, fate: impl Fn(usize) -> Fate + Clone + Send + 'static) -> kube::Client {
    let (fake, writes) = (fake.clone(), Arc::new(AtomicUsize::new(0)));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (fake, fate, writes) = (fake.clone(), fate.clone(), Arc::clone(&writes));
        async move {
            if request.method() == http::Method::PUT {
                fate(1 + writes.fetch_add(1, Relaxed)).await;
            }
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            Ok::<_, kube::Error>(fake.answer(http::Request::from_parts(parts, bytes)))
        }
    });
    kube::Client::new(service, "edge")
}

const LENGTH: Duration = Duration::from_secs(4);

/// Wants the Lease for as long as the test lasts; gives how it stood from when on.
fn elected(client: kube::Client) -> mpsc::UnboundedReceiver<(Standing, Instant)> {
    let options = LeaseOptions {
        length: LENGTH,
        ..crate::options("operator", "first").lease
    };
    let (standing, mut stands) = watch::channel(Standing::Unknown);
    tokio::spawn(lease::elect(client, options, standing, pending()));
    let (say, said) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while stands.changed().await.is_ok() {
            let _ = say.send((*stands.borrow_and_update(), Instant::now()));
        }
    });
    said
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_somebody_touches_between_reading_and_writing_goes_on_leading() {
    let fake = Fake::new();
    let touched = fake.clone();
    let client = writing(&fake, move |number| {
        // Each second one comes too late: its version is an old one.
        if number % 2 == 0 {
            let annotations = json!({"touched": number.to_string()});
            let metadata = json!({"name": "operator", "annotations": annotations});
            touched.put("leases", json!({"metadata": metadata}));
        }
        Box::pin(ready(()))
    });
    let mut said = elected(client);
    let is_touched = |fake: &Fake| {
        let lease = fake.get("leases", "operator").unwrap_or_default();
        lease["metadata"]["annotations"]["touched"] == "10"
    };
    fake.until("touched five times", is_touched).await;
    assert_eq!(said.recv().await.unwrap().0, Standing::Leads);
    assert_eq!(said.try_recv().ok(), None);
    assert_eq!(holder(&fake), "first");
}

#[tokio::test(start_paused = true)]
async fn a_leader_goes_on_when_one_try_to_renew_is_not_answered() {
    let fake = Fake::new();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let client = writing(&fake, move |number| {
        count.store(number, Relaxed);
        if number % 2 == 0 {
            Box::pin(pending())
        } else {
            Box::pin(ready(()))
        }
    });
    let mut said = elected(client);
    fake.until("five went without an answer", |_| {
        10 < written.load(Relaxed)
    })
    .await;
    assert_eq!(said.recv().await.unwrap().0, Standing::Leads);
    assert_eq!(said.try_recv().ok(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gets_no_answer_stops_half_of_its_lease_after_it_renewed_it() {
    let fake = Fake::new();
    let renewed = Arc::new(Mutex::new(Instant::now()));
    let last = Arc::clone(&renewed);
    let client = writing(&fake, move |number| {
        if number < 4 {
            *last.lock().unwrap() = Instant::now();
            Box::pin(ready(()))
        } else {
            Box::pin(pending())
        }
    });
    let mut said = elected(client);
    assert_eq!(said.recv().await.unwrap().0, Standing::Leads);
    let (stands, at) = said.recv().await.unwrap();
    assert_eq!(stands, Standing::Unknown);
    // The clock stands still while anybody has something to do, and goes in milliseconds.
    let led = at - *renewed.lock().unwrap();
    let late = led.checked_sub(LENGTH / 2);
    assert!(
        late.is_some_and(|late| late <= Duration::from_millis(1)),
        "{led:?}"
    );
}
