//! Who leads: a Lease that is renewed, and taken over when it has not been for too long.
//!
//! Clocks of machines are not compared. Whoever waits watches whether the Lease changes, by a clock of
//! its own; whoever leads stops by itself before anybody else may believe that it has.

use std::{future::Future, pin::pin, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::Instant};

use crate::cluster::{Error, doing, is_conflict};

/// Which Lease, for whom, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Own name: the pod's.
    pub holder: String,
    /// Without renewal for so long, somebody else may take it.
    pub length: Duration,
}

/// How somebody who wants to lead stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// The API server was not reached, or did not let us see the Lease.
    #[default]
    Unknown,
    /// Somebody else leads, or nobody yet.
    Follows,
    /// It leads.
    Leads,
}

/// What to do about a Lease as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Renew it: it is ours.
    Renew,
    /// Take it: it is free, or was left.
    Take,
    /// Leave it: somebody else has it.
    Leave,
}

/// What to do about a Lease that has not changed for `unchanged`. Pure.
#[must_use]
pub fn claim(spec: &LeaseSpec, own: &str, unchanged: Duration) -> Claim {
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    let length = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == own => Claim::Renew,
        None | Some("") => Claim::Take,
        Some(_) if length < unchanged => Claim::Take,
        Some(_) => Claim::Leave,
    }
}

/// How a try to have the Lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// It is ours now.
    Ours,
    /// Somebody else has it.
    Others,
    /// It changed between reading and writing, by whomever: by another who wants it, by a person who labels it, or by an
    /// own try that was given up here and still came through there.
    Raced,
}

/// Somebody who wants to lead.
struct Elector {
    api: Api<Lease>,
    options: LeaseOptions,
    /// The Lease's version when it was seen to change, and when that was.
    seen: Option<(String, Instant)>,
}

impl Elector {
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let holder = Some(self.options.holder.clone());
        let is_mine = before.is_some_and(|spec| spec.holder_identity == holder);
        let transitions = before
            .and_then(|spec| spec.lease_transitions)
            .unwrap_or_default();
        let seconds = i32::try_from(self.options.length.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            acquire_time: match before.filter(|_| is_mine) {
                Some(spec) => spec.acquire_time.clone(),
                None => Some(now.clone()),
            },
            renew_time: Some(now),
            holder_identity: holder,
            lease_duration_seconds: Some(seconds),
            lease_transitions: Some(transitions + i32::from(!is_mine)),
            ..LeaseSpec::default()
        }
    }

    /// One try.
    async fn attempt(&mut self) -> Result<Tried, Error> {
        let name = self.options.name.clone();
        let found = self
            .api
            .get_opt(&name)
            .await
            .map_err(doing(format!("read the Lease {name}")))?;
        let Some(mut lease) = found else {
            let mut lease = Lease {
                spec: Some(self.spec(None)),
                ..Lease::default()
            };
            lease.metadata.name = Some(name.clone());
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(Tried::Ours),
                Err(error) if is_conflict(&error) => Ok(Tried::Raced),
                Err(error) => Err(doing(format!("make the Lease {name}"))(error)),
            };
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((old, since)) if *old == version => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((version, now));
                now
            }
        };
        let spec = lease.spec.take().unwrap_or_default();
        if claim(&spec, &self.options.holder, since.elapsed()) == Claim::Leave {
            return Ok(Tried::Others);
        }
        lease.spec = Some(self.spec(Some(&spec)));
        // The version goes along: of two who take it at once, one is told so.
        match self
            .api
            .replace(&name, &PostParams::default(), &lease)
            .await
        {
            Ok(_) => Ok(Tried::Ours),
            Err(error) if is_conflict(&error) => Ok(Tried::Raced),
            Err(error) => Err(doing(format!("renew the Lease {name}"))(error)),
        }
    }

    /// Gives the Lease back, so that nobody has to wait.
    async fn release(&self) {
        let name = &self.options.name;
        let Ok(Some(mut lease)) = self.api.get_opt(name).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else {
            return;
        };
        if spec.holder_identity.as_deref() == Some(&self.options.holder) {
            spec.holder_identity = None;
            if let Err(error) = self.api.replace(name, &PostParams::default(), &lease).await {
                tracing::warn!(code = "SP501", %error, "the Lease could not be given back; it runs out by itself");
            }
        }
    }
}

/// Wants to lead until `shutdown`, and says through `standing` whether it does.
pub async fn elect(
    client: Client,
    options: LeaseOptions,
    standing: watch::Sender<Standing>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let api = Api::namespaced(client, &options.namespace);
    let (length, name) = (options.length, options.name.clone());
    let mut elector = Elector {
        api,
        options,
        seen: None,
    };
    let mut shutdown = pin!(shutdown);
    // One try that is not answered, and one that somebody was faster than, must not cost the Lease: with an eighth between
    // tries and a quarter for each, two or more fit before a leader stops.
    let (pause, patience) = (length / 8, length / 4);
    let mut beat = tokio::time::interval(pause);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A leader that could not renew for half of `length` stops, in the middle of a try too: others may take over after all
    // of it, and what is left is for ending what it led.
    let mut renewed = Instant::now();
    loop {
        let before = *standing.borrow();
        let leads = before == Standing::Leads;
        let limit = renewed + length / 2;
        let say = |now| {
            if before != now {
                tracing::info!(lease = name, standing = ?now, "leadership changed");
                standing.send_replace(now);
            }
        };
        tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            () = tokio::time::sleep_until(limit), if leads => {
                say(Standing::Unknown);
                continue;
            }
            _ = beat.tick() => {}
        }
        let begin = Instant::now();
        let until = begin + patience;
        let until = if leads { until.min(limit) } else { until };
        let tried = tokio::time::timeout_at(until, elector.attempt()).await;
        let is_still_ours = leads && Instant::now() < limit;
        match tried {
            Ok(Ok(Tried::Ours)) => {
                renewed = begin;
                say(Standing::Leads);
            }
            Ok(Ok(Tried::Others)) => say(Standing::Follows),
            // Only who reads another's name there knows that another leads.
            Ok(Ok(Tried::Raced)) if is_still_ours => {}
            Ok(Ok(Tried::Raced)) => say(Standing::Follows),
            Ok(Err(error)) => {
                tracing::warn!(code = "SP501", %error, "the Lease cannot be had");
                if !is_still_ours {
                    say(Standing::Unknown);
                }
            }
            Err(_) if is_still_ours => {}
            Err(_) => say(Standing::Unknown),
        }
    }
    if standing.send_replace(Standing::Unknown) == Standing::Leads {
        elector.release().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_was_left() {
        let short = Duration::from_secs(15);
        let long = Duration::from_millis(15_001);
        assert_eq!(claim(&held("b"), "a", short), Claim::Leave);
        assert_eq!(claim(&held("b"), "a", long), Claim::Take);
        assert_eq!(claim(&held("a"), "a", long), Claim::Renew);
        assert_eq!(claim(&held(""), "a", Duration::ZERO), Claim::Take);
        assert_eq!(
            claim(&LeaseSpec::default(), "a", Duration::ZERO),
            Claim::Take
        );
    }
}
