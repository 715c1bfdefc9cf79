//! Stories of who leads.

use std::sync::atomic::Ordering::Relaxed;

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
