//! Clocks that have to agree: this machine's, the API server's, and the nodes'.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use splitplace_k8s::look::NodeFacts;

use crate::doctor::Finding;

/// Leases and certificates bear so much, and hops look odd.
const ODD: SignedDuration = SignedDuration::from_secs(2);
/// More than Leases last, and near what certificates are backdated for fresh nodes.
const WRONG: SignedDuration = SignedDuration::from_secs(10);
/// A kubelet writes every ten seconds, and is given up by the cluster after forty.
const BEAT: SignedDuration = SignedDuration::from_secs(40);

const MEND: &str = "timedatectl set-ntp true there, or chrony; Leases, certificates and the times of hops need clocks \
                    that agree";

/// This machine's, against the API server's.
pub(super) fn own(ahead: Option<SignedDuration>) -> Finding {
    let what = "clock";
    let Some(ahead) = ahead else {
        let mend = "compare by hand: date -u here and on the server";
        return Finding::doubt(what, "the API server tells no time", mend);
    };
    let seen = said("this machine's is", ahead);
    if ahead.abs() < ODD {
        Finding::good(what, "agrees with the API server's to two seconds")
    } else if ahead.abs() < WRONG {
        Finding::doubt(what, seen, MEND)
    } else {
        Finding::bad(what, seen, MEND)
    }
}

fn said(whose: &str, ahead: SignedDuration) -> String {
    let way = if ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let span = Duration::from_secs(ahead.abs().as_secs().unsigned_abs());
    format!(
        "{whose} {} {way} the API server's",
        humantime::format_duration(span)
    )
}

/// The nodes', by when their kubelets say that they wrote last. One that is behind by less than the time between two
/// writes cannot be told from one that is about to write.
pub(super) fn of_nodes(
    nodes: &[NodeFacts],
    beats: &BTreeMap<String, Timestamp>,
    date: Timestamp,
) -> Vec<Finding> {
    let ready = nodes.iter().filter(|node| node.ready);
    let wrong = ready.filter_map(|node| {
        let ahead = beats.get(&node.name)?.duration_since(date);
        let name = format!("clock of {}", node.name);
        // The API server's time is cut to whole seconds.
        if ODD + SignedDuration::from_secs(1) < ahead {
            return Some(Finding::bad(&name, said("it is", ahead), MEND));
        }
        (ahead < -BEAT).then(|| {
            let seen = format!(
                "its kubelet is ready and wrote last {} s ago by its own clock",
                -ahead.as_secs()
            );
            Finding::doubt(&name, seen, MEND)
        })
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_either_way() {
        let level = |seconds| own(Some(SignedDuration::from_secs(seconds))).level;
        assert_eq!(
            [level(0), level(-1), level(3), level(-9), level(-60)],
            [
                Level::Good,
                Level::Good,
                Level::Doubt,
                Level::Doubt,
                Level::Bad
            ]
        );
        assert!(
            own(Some(SignedDuration::from_secs(-90)))
                .seen
                .contains("1m 30s behind")
        );
        assert_eq!(own(None).level, Level::Doubt);
    }

    #[test]
    fn a_node_whose_kubelet_writes_from_the_future_has_a_wrong_clock() {
        let node = |name: &str, ready| NodeFacts {
            name: name.into(),
            ready,
            ..NodeFacts::default()
        };
        let nodes = [
            node("right", true),
            node("ahead", true),
            node("behind", true),
            node("dead", false),
        ];
        let date = Timestamp::from_second(1_700_000_000).unwrap();
        let at = |seconds| date + SignedDuration::from_secs(seconds);
        let beats = [
            ("right", at(-9)),
            ("ahead", at(30)),
            ("behind", at(-300)),
            ("dead", at(-300)),
        ];
        let beats = beats.map(|(name, at)| (name.to_owned(), at)).into();
        let found = of_nodes(&nodes, &beats, date);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.what.as_str(), one.level))
            .collect();
        assert_eq!(
            found,
            [
                ("clock of ahead", Level::Bad),
                ("clock of behind", Level::Doubt)
            ]
        );
    }
}
