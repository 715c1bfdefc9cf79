//! What the nodes before this one are told: how many requests of their routes are present here.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use splitplace_link::Backlog;
use splitplace_plan::Generation;
use tokio::sync::Notify;

/// The news of every peer that has exits on a route which comes here next.
#[derive(Debug, Default)]
pub(crate) struct News {
    by_peer: Mutex<BTreeMap<String, Arc<Told>>>,
    /// A peer was added.
    added: Notify,
}

impl News {
    /// Where to say what `peer` shall hear. Peers that no route names any more are forgotten.
    pub(crate) fn of(&self, peer: &str) -> Arc<Told> {
        let mut by_peer = self.by_peer.lock();
        by_peer.retain(|_, told| 1 < Arc::strong_count(told));
        let told = Arc::clone(by_peer.entry(peer.to_owned()).or_default());
        drop(by_peer);
        self.added.notify_waiters();
        told
    }

    /// Waits for what `peer` shall hear; for ever if it asks about nothing. Peers make no entries by waiting.
    pub(crate) async fn next(&self, peer: &str) -> Vec<Backlog> {
        loop {
            let added = self.added.notified();
            let told = self.by_peer.lock().get(peer).cloned();
            match told {
                Some(told) => return told.next().await,
                None => added.await,
            }
        }
    }
}

/// What one peer has not heard yet: one number for each route, whatever happens meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Told {
    changed: Mutex<BTreeMap<(Generation, u32), u32>>,
    wake: Notify,
}

impl Told {
    /// So many are present on that route now.
    pub(crate) fn say(&self, generation: Generation, route: u32, present: u32) {
        self.changed.lock().insert((generation, route), present);
        self.wake.notify_one();
    }

    async fn next(&self) -> Vec<Backlog> {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock());
            if !changed.is_empty() {
                let backlog = |((generation, route), present): ((Generation, u32), u32)| Backlog {
                    generation: generation.0,
                    route,
                    present,
                };
                return changed.into_iter().map(backlog).collect();
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(route: u32, present: u32) -> Backlog {
        Backlog {
            generation: 3,
            route,
            present,
        }
    }

    #[tokio::test]
    async fn a_peer_hears_the_latest_of_each_route_once() {
        let news = Arc::new(News::default());
        let waiting = tokio::spawn({
            let news = Arc::clone(&news);
            async move { news.next("a").await }
        });
        let told = news.of("a");
        told.say(Generation(3), 1, 5);
        assert_eq!(waiting.await.unwrap(), [backlog(1, 5)]);
        for present in 0..4 {
            told.say(Generation(3), 1, present);
            told.say(Generation(3), 2, 9);
        }
        assert_eq!(news.next("a").await, [backlog(1, 3), backlog(2, 9)]);
        told.say(Generation(3), 2, 8);
        assert_eq!(news.next("a").await, [backlog(2, 8)]);
    }

    #[tokio::test]
    async fn peers_that_no_route_names_are_forgotten_and_waiting_makes_none() {
        let news = News::default();
        drop(news.of("a"));
        let _b = news.of("b");
        assert_eq!(news.by_peer.lock().keys().collect::<Vec<_>>(), ["b"]);
        let waits = std::future::poll_fn(|cx| {
            let next = std::pin::pin!(news.next("c"));
            std::task::Poll::Ready(next.poll(cx).is_pending())
        });
        assert!(waits.await);
        assert_eq!(news.by_peer.lock().len(), 1);
    }
}
