//! The live stream: one task looks, every page that watches is sent the latest of what was seen.
//!
//! Nothing is queued for a page: it waits for a newer version than the one it was sent, and a slow one
//! skips those in between. While nobody watches, nobody looks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::watched::Watched;

/// Pages that may watch at once.
pub(super) const SUBSCRIBERS: usize = 64;
/// Between two looks.
const PULSE: Duration = Duration::from_secs(1);
/// Between two looks when things change.
const LEAST: Duration = Duration::from_millis(100);
/// A comment is sent when nothing else was for so long.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A version of something, as the text that is sent.
type Text = Arc<str>;

/// What was seen last, for whoever watches.
pub(super) struct Live {
    seen: Arc<Seen>,
    places: Arc<Semaphore>,
}

struct Seen {
    structure: watch::Sender<Text>,
    pulse: watch::Sender<Text>,
    /// Somebody began to watch.
    came: Notify,
}

/// Events for one page.
pub(super) type Events = Sse<
    axum::response::sse::KeepAliveStream<
        Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>>,
    >,
>;

impl Live {
    /// Starts to look. The task ends when this is dropped.
    pub(super) fn start<F: Watched>(face: &Arc<F>) -> Self {
        let seen = Arc::new(Seen {
            structure: watch::Sender::new(Text::from("")),
            pulse: watch::Sender::new(Text::from("")),
            came: Notify::new(),
        });
        tokio::spawn(look(Arc::downgrade(&seen), Arc::clone(face)));
        Self {
            seen,
            places: Arc::new(Semaphore::new(SUBSCRIBERS)),
        }
    }

    /// A stream for one page, which begins with `history`; `None` when too many watch.
    pub(super) fn subscribe(&self, history: Value) -> Option<Events> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut structure = self.seen.structure.subscribe();
        // It may not change again for hours.
        structure.mark_changed();
        let feed = Feed {
            structure,
            pulse: self.seen.pulse.subscribe(),
            first: Some(Text::from(history.to_string())),
            is_over: false,
            _place: place,
        };
        self.seen.came.notify_one();
        let events = stream::unfold(feed, |mut feed| async move {
            let event = feed.next().await?;
            Some((Ok(event), feed))
        });
        let beat = KeepAlive::new().interval(HEARTBEAT).text("still here");
        Some(Sse::new(events.boxed()).keep_alive(beat))
    }
}

/// What one page still has to be sent: versions, not a queue.
struct Feed {
    structure: watch::Receiver<Text>,
    pulse: watch::Receiver<Text>,
    first: Option<Text>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(event("history", &first));
        }
        loop {
            let (name, text) = tokio::select! {
                biased;
                changed = self.structure.changed() => {
                    changed.ok()?;
                    ("structure", Arc::clone(&self.structure.borrow_and_update()))
                }
                changed = self.pulse.changed() => {
                    changed.ok()?;
                    ("pulse", Arc::clone(&self.pulse.borrow_and_update()))
                }
            };
            if text.is_empty() {
                continue;
            }
            // A page must not hold up a centre that leaves.
            self.is_over = name == "structure" && text.contains("\"draining\":true");
            return Some(event(name, &text));
        }
    }
}

fn event(name: &str, text: &str) -> Event {
    Event::default().event(name).data(text)
}

async fn look<F: Watched>(seen: Weak<Seen>, face: Arc<F>) {
    let mut changes = face.changes();
    loop {
        // Held only between waits, so that it can be dropped.
        let Some(now) = seen.upgrade() else { return };
        if now.pulse.receiver_count() == 0 {
            let pause = tokio::time::timeout(PULSE, now.came.notified());
            if pause.await.is_err() {
                continue;
            }
        }
        let structure = Text::from(face.structure().to_string());
        let mut is_new = false;
        now.structure.send_if_modified(|old| {
            is_new = *old != structure;
            if is_new {
                *old = structure;
            }
            is_new
        });
        now.pulse.send_replace(Text::from(face.pulse().to_string()));
        let pause = async {
            tokio::time::sleep(LEAST).await;
            tokio::select! {
                () = tokio::time::sleep(PULSE - LEAST) => {}
                // A page that came must not wait for the next second.
                () = now.came.notified() => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep(PULSE).await;
                    }
                }
            }
        };
        pause.await;
    }
}
