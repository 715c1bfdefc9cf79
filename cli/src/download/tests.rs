//! Files from a real server of this process, over lines that break.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::{
    served::{End, Reply, Served},
    *,
};
use crate::certificates;
use sha2::{Digest as _, Sha256};

/// Impatient, so that no test waits.
pub(crate) const QUICK: Limits = Limits {
    small_bytes: 4096,
    redirects: 3,
    stall: Duration::from_secs(20),
    tries: 4,
    pause: Duration::from_millis(1),
    pause_max: Duration::from_millis(5),
};

fn of(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

/// Bytes of which no two stretches are equal.
fn some(count: u32) -> Bytes {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

struct Story {
    folder: tempfile::TempDir,
    limits: Limits,
    ca: Option<std::path::PathBuf>,
}

impl Story {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            limits: QUICK,
            ca: None,
        }
    }

    fn place(&self) -> std::path::PathBuf {
        self.folder.path().join("file.part")
    }

    async fn get(&self, url: &str, wanted: &[u8], at_most: u64) -> Result<Vec<u8>> {
        let client = Client::new(self.ca.as_deref(), self.limits)?;
        let done = client
            .file(&Ask::of(url)?, &of(wanted), at_most, &self.place())
            .await;
        done.map_err(Fault::told)?;
        Ok(fs::read(self.place())?)
    }

    async fn refused(&self, url: &str, wanted: &[u8], at_most: u64) -> String {
        format!("{:#}", self.get(url, wanted, at_most).await.unwrap_err())
    }
}

/// Answers the first requests in one way each, later ones with the file as it is asked for.
async fn flaky(whole: &Bytes, first: Vec<Box<dyn Fn(Reply) -> Reply + Send + Sync>>) -> Served {
    let (whole, count) = (whole.clone(), AtomicUsize::new(0));
    Served::http(move |_, asked| {
        let reply = Reply::file(&whole, asked);
        match first.get(count.fetch_add(1, SeqCst)) {
            Some(change) => change(reply),
            None => reply,
        }
    })
    .await
}

#[tokio::test]
async fn a_file_that_breaks_off_is_gone_on_with_where_it_broke() {
    let whole = some(50_000);
    let server = flaky(
        &whole,
        vec![
            Box::new(|reply| reply.after(70_000, End::Broken)),
            Box::new(|_| Reply::new(503, "").with("retry-after", "1")),
            Box::new(|reply| reply.after(1000, End::Broken)),
        ],
    )
    .await;
    let got = Story::new()
        .get(&format!("http://{}/a", server.address), &whole, 1 << 20)
        .await;
    assert!(got.unwrap() == whole);
    let ranges = server.headers("range");
    assert_eq!(ranges[0], "");
    // What was under way when the line was cut may have got lost, so how much there was is not known exactly.
    assert!(
        ranges[1..].iter().all(|range| range.starts_with("bytes=")),
        "{ranges:?}"
    );
}

#[tokio::test]
async fn a_server_that_falls_silent_is_asked_again() {
    let whole = some(20_000);
    let server = flaky(
        &whole,
        vec![Box::new(|reply| reply.after(40_000, End::Silent))],
    )
    .await;
    let mut story = Story::new();
    story.limits.stall = Duration::from_millis(500);
    story.limits.tries = 20;
    let got = story
        .get(&format!("http://{}/a", server.address), &whole, 1 << 20)
        .await;
    assert!(got.unwrap() == whole);
    assert!(
        server
            .headers("range")
            .iter()
            .any(|range| range == "bytes=40000-")
    );
}

#[tokio::test]
async fn a_line_that_never_gets_there_is_given_up_and_what_came_stays() {
    let whole = some(20_000);
    let server = {
        let whole = whole.clone();
        Served::http(move |_, asked| Reply::file(&whole, asked).after(100, End::Broken)).await
    };
    let (story, url) = (Story::new(), format!("http://{}/a", server.address));
    assert!(
        story
            .refused(&url, &whole, 1 << 20)
            .await
            .contains("given up after 4 tries")
    );
    let there = fs::read(story.place()).unwrap();
    assert!(whole.starts_with(&there));
    // Another process goes on from there.
    fs::write(story.place(), &whole[..50_000]).unwrap();
    let server = flaky(&whole, vec![]).await;
    let got = story
        .get(&format!("http://{}/a", server.address), &whole, 1 << 20)
        .await;
    assert!(got.unwrap() == whole);
    assert_eq!(server.headers("range"), ["bytes=50000-"]);
    // What is there already is not asked for.
    story
        .get(&format!("http://{}/a", server.address), &whole, 1 << 20)
        .await
        .unwrap();
    assert_eq!(server.paths().len(), 1);
}

#[tokio::test]
async fn what_is_there_and_is_no_beginning_is_thrown_away() {
    let whole = some(20_000);
    let server = flaky(&whole, vec![]).await;
    let (story, url) = (Story::new(), format!("http://{}/a", server.address));
    for wrong in [vec![9; 1000], vec![9; 80_000], vec![9; 90_000]] {
        fs::write(story.place(), &wrong).unwrap();
        assert!(
            story.get(&url, &whole, 1 << 20).await.unwrap() == whole,
            "{}",
            wrong.len()
        );
    }
}

#[tokio::test]
async fn another_digest_leaves_nothing_and_is_not_asked_for_again() {
    let server = Served::http(|_, asked| Reply::file(&some(10), asked)).await;
    let story = Story::new();
    let why = story
        .refused(
            &format!("http://{}/a?key=secret", server.address),
            b"other",
            1 << 20,
        )
        .await;
    assert!(
        why.contains("nothing was kept") && !why.contains("secret"),
        "{why}"
    );
    assert!(!story.place().exists());
    assert_eq!(server.paths().len(), 1);
}

#[tokio::test]
async fn more_than_is_taken_is_refused_whether_it_is_said_before_or_not() {
    let whole = some(50_000);
    let told = flaky(&whole, vec![Box::new(|reply| reply.after(0, End::Silent))]).await;
    let untold = Served::http(|_, _| Reply::new(200, vec![1; 10_000]).times(1_000_000)).await;
    for server in [told, untold] {
        let story = Story::new();
        let url = format!("http://{}/a", server.address);
        assert!(
            story
                .refused(&url, &whole, 150_000)
                .await
                .contains("larger than 150000 bytes")
        );
        assert!(!story.place().exists());
    }
    let client = Client::new(None, QUICK).unwrap();
    let long = Served::http(|_, _| Reply::new(200, vec![1; 1000]).times(1_000_000)).await;
    let ask = Ask::of(&format!("http://{}/a", long.address)).unwrap();
    let why = client.small(&ask).await.unwrap_err().told().to_string();
    assert!(why.contains("more than 4096 bytes"), "{why}");
}

#[tokio::test]
async fn memory_does_not_grow_with_the_file() {
    // 256 MiB in chunks of one; the server is the same process, so that its buffers count too.
    let (chunk, count) = (Bytes::from(vec![7; 1 << 20]), 256);
    let mut hash = Sha256::new();
    (0..count).for_each(|_| hash.update(&chunk));
    let (wanted, sent) = (digest(hash), chunk.clone());
    let server = Served::http(move |_, _| Reply::new(200, sent.clone()).times(count)).await;
    let folder = tempfile::tempdir().unwrap();
    let (place, url) = (
        folder.path().join("part"),
        format!("http://{}/a", server.address),
    );
    let client = Client::new(None, QUICK).unwrap();
    let most = Arc::new(AtomicUsize::new(0));
    // Counts what this thread holds; the test's runtime has one thread, and files are written by others.
    let ask = Ask::of(&url).unwrap();
    let mut fetch = Box::pin(client.file(&ask, &wanted, 1 << 30, &place));
    let seen = Arc::clone(&most);
    let done = std::future::poll_fn(move |context| {
        let mut polled = std::task::Poll::Pending;
        let held = allocation_counter::measure(|| polled = fetch.as_mut().poll(context));
        seen.fetch_max(usize::try_from(held.bytes_max).unwrap(), SeqCst);
        polled
    })
    .await;
    done.map_err(Fault::told).unwrap();
    assert_eq!(fs::metadata(&place).unwrap().len(), 256 << 20);
    let most = most.load(SeqCst);
    assert!(0 < most && most < 8 << 20, "{most} bytes in one step");
}

#[tokio::test]
async fn redirects_are_followed_with_an_end_and_never_to_less_safety() {
    let whole = some(1000);
    let plain = {
        let whole = whole.clone();
        Served::http(move |path, asked| match path {
            "/a" => Reply::new(302, "").with("location", "/b"),
            "/b" => Reply::new(307, "").with("location", "c?sign=1"),
            "/c?sign=1" => Reply::file(&whole, asked),
            _ => Reply::new(301, "").with("location", "/again"),
        })
        .await
    };
    let mut story = Story::new();
    let url = format!("http://{}", plain.address);
    assert!(
        story
            .get(&format!("{url}/a"), &whole, 1 << 20)
            .await
            .unwrap()
            == whole
    );
    assert_eq!(plain.paths(), ["/a", "/b", "/c?sign=1"]);
    assert!(
        story
            .refused(&format!("{url}/again"), b"x", 10)
            .await
            .contains("more than 3 times")
    );

    let authority = certificates::authority("a", crate::command::certs::now()).unwrap();
    let to = format!("{url}/c?sign=1");
    let safe = Served::https(&authority, move |_, _| {
        Reply::new(302, "").with("location", &to)
    })
    .await;
    let url = format!("https://localhost:{}/a", safe.address.port());
    // Not trusted, which does not change: it is asked once.
    let why = story.refused(&url, &whole, 1 << 20).await;
    assert!(why.contains("--ca") && !why.contains("tries"), "{why}");
    let ca = story.folder.path().join("ca.crt");
    fs::write(&ca, &authority.cert).unwrap();
    story.ca = Some(ca.clone());
    fs::remove_file(story.place()).ok();
    let why = story.refused(&url, &whole, 1 << 20).await;
    assert!(
        why.contains("anybody on the way could change") && !why.contains("sign=1"),
        "{why}"
    );
    fs::write(&ca, "").unwrap();
    assert!(
        story
            .refused(&url, &whole, 1 << 20)
            .await
            .contains("no certificate")
    );
}

#[tokio::test]
async fn a_name_in_a_url_is_told_to_its_host_alone() {
    let whole = some(10);
    let other = {
        let whole = whole.clone();
        Served::http(move |_, asked| Reply::file(&whole, asked)).await
    };
    let to = format!("http://{}/b", other.address);
    let first = Served::http(move |path, _| {
        let to = if path == "/a" { "/c" } else { to.as_str() };
        Reply::new(302, "").with("location", to)
    })
    .await;
    let url = format!("http://me:p%40ss@{}/a", first.address);
    let story = Story::new();
    assert!(story.get(&url, &whole, 1 << 20).await.unwrap() == whole);
    let told = basic("me", "p@ss").unwrap();
    assert_eq!(first.headers("authorization"), [told.to_str().unwrap(); 2]);
    assert_eq!(other.headers("authorization"), [""]);
    fs::remove_file(story.place()).unwrap();
    drop(other);
    assert!(!story.refused(&url, &whole, 1 << 20).await.contains("p@ss"));
}

#[tokio::test]
async fn what_will_not_come_is_not_asked_for_again() {
    let server = Served::http(|path, _| Reply::new(path[1..].parse().unwrap(), "")).await;
    let story = Story::new();
    for (code, advice) in [
        (404, "spelled right"),
        (403, "may not"),
        (401, "who asks"),
        (400, "400"),
    ] {
        let why = story
            .refused(&format!("http://{}/{code}", server.address), b"x", 10)
            .await;
        assert!(why.contains(advice), "{why}");
    }
    assert_eq!(server.paths().len(), 4);
    for url in ["ftp://x/a", "x", "http://", "http:///"] {
        assert!(Ask::of(url).is_err(), "{url}");
    }
}
