//! Files over HTTP and HTTPS for `fetch`: streamed to a disk, bounded, resumed, held against their digest.
//!
//! Deliberately absent: a cache, cookies, proxies, more than one connection.

pub(crate) mod credentials;
mod part;
pub(crate) mod registry;
#[cfg(test)]
pub(crate) mod served;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::Url;

use self::{credentials::basic, part::Part};
#[cfg(test)]
pub(crate) use self::{part::digest, tests::QUICK};

/// What a server and a line may cost us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest answer that is kept in memory: a manifest, a token.
    pub(crate) small_bytes: usize,
    /// Redirects that are followed.
    pub(crate) redirects: usize,
    /// Longest time without a byte.
    pub(crate) stall: Duration,
    /// Tries in a row that bring less than [`PROGRESS_BYTES`].
    pub(crate) tries: usize,
    /// Before the second try; doubled before each one after that.
    pub(crate) pause: Duration,
    /// Longest pause, whatever the server asks for.
    pub(crate) pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            small_bytes: 4 << 20,
            redirects: 5,
            stall: Duration::from_secs(60),
            tries: 6,
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
        }
    }
}

/// A try that brought so many bytes starts the count of tries anew: a line that breaks often still gets there,
/// and a server that gives byte by byte does not keep us for ever.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Why something did not come.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may come when it is asked for again, at the earliest after so long.
    Passing(Error, Duration),
    /// The server wants to know who asks: what it says of how, and the sentence for whoever cannot say.
    Unauthorized(Vec<String>, Error),
    /// It will not come.
    Final(Error),
}

impl Fault {
    /// The sentence.
    pub(crate) fn told(self) -> Error {
        match self {
            Self::Passing(error, _) | Self::Unauthorized(_, error) | Self::Final(error) => error,
        }
    }

    fn passing(error: impl Into<Error>) -> Self {
        Self::Passing(error.into(), Duration::ZERO)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    url: Url,
    accept: &'static str,
    authorization: Option<HeaderValue>,
}

impl Ask {
    /// A URL of `http` or `https`; a name and password in it are told to its host, and to nobody else.
    ///
    /// # Errors
    /// When it is no such URL.
    pub(crate) fn of(text: &str) -> Result<Self> {
        let mut url = Url::parse(text)
            .ok()
            .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
            .with_context(|| {
                let shown = text.split(['?', '@']).next().unwrap_or_default();
                format!("{shown} is no URL with http:// or https:// and a host")
            })?;
        let user = (!url.username().is_empty()).then(|| {
            let password = url.password().unwrap_or_default();
            basic(&unescaped(url.username()), &unescaped(password))
        });
        url.set_fragment(None);
        let is_bare = url.set_username("").is_ok() && url.set_password(None).is_ok();
        anyhow::ensure!(is_bare, "{} cannot carry a name", shown(&url));
        Ok(Self {
            url,
            accept: "*/*",
            authorization: user.transpose()?,
        })
    }

    /// The same with what kinds of answers are understood, and who asks.
    pub(crate) fn with(self, accept: &'static str, authorization: Option<HeaderValue>) -> Self {
        let authorization = authorization.or(self.authorization);
        Self {
            url: self.url,
            accept,
            authorization,
        }
    }
}

/// What a user or password of a URL stands for.
fn unescaped(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// A digest as it is written: `sha256:` and 64 hexadecimal digits in small letters.
///
/// # Errors
/// When it is something else.
pub(crate) fn sha256(text: &str) -> Result<String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let is_one = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    anyhow::ensure!(
        is_one,
        "{text:?} is no digest: sha256: and 64 digits are expected, as `sha256sum FILE` prints them"
    );
    Ok(text.to_owned())
}

/// A URL for people: what follows `?` may be a secret that opens the file.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let has_query = url.query().is_some();
    url.set_query(None);
    if has_query {
        format!("{url}?…")
    } else {
        url.to_string()
    }
}

/// Asks servers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    limits: Limits,
}

impl Client {
    /// Trusts the public authorities, and those of `ca`, in PEM.
    ///
    /// # Errors
    /// When `ca` cannot be read.
    pub(crate) fn new(ca: Option<&Path>, limits: Limits) -> Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(limits.stall));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            limits,
        })
    }

    /// A small answer, in memory.
    ///
    /// # Errors
    /// [`Fault`]; what may pass was tried again.
    pub(crate) async fn small(&self, ask: &Ask) -> Result<Bytes, Fault> {
        let mut pauses = self.pauses();
        loop {
            match self.once(ask).await {
                Err(Fault::Passing(error, at_least)) => {
                    self.rest(&mut pauses, error, at_least).await?;
                }
                done => return done,
            }
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Bytes, Fault> {
        let (url, answer) = self.send(ask, &HeaderMap::new()).await?;
        let mut body = answer.into_body();
        let mut whole = Vec::new();
        while let Some(data) = self.next(&url, &mut body).await? {
            if self.limits.small_bytes < whole.len() + data.len() {
                return Err(Fault::Final(anyhow!(
                    "{} answers with more than {} bytes; that is no manifest and no token",
                    shown(&url),
                    self.limits.small_bytes
                )));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }

    /// A file of at most `at_most` bytes whose SHA-256 is `wanted` (`sha256:…`), into `to`. What `to` holds already is
    /// taken for the file's beginning; what came of it stays there when a line breaks for good, and nothing else does.
    ///
    /// # Errors
    /// [`Fault`]; what may pass was tried again.
    pub(crate) async fn file(
        &self,
        ask: &Ask,
        wanted: &str,
        at_most: u64,
        to: &Path,
    ) -> Result<(), Fault> {
        let mut part = Part::open(to).await?;
        if at_most < part.length() {
            part.clear().await?;
        }
        let mut pauses = self.pauses();
        let mut is_second = false;
        loop {
            if 0 < part.length() && part.digest() == wanted {
                return Ok(part.keep().await?);
            }
            let before = part.length();
            match self.more(ask, at_most, &mut part).await {
                Ok(()) if part.digest() == wanted => return Ok(part.keep().await?),
                // The beginning was of another file, or of the same one damaged.
                Ok(()) if part.is_resumed() && !is_second => {
                    tracing::info!(
                        "what was there already was no beginning of it; once more, whole"
                    );
                    is_second = true;
                    part.clear().await?;
                }
                Ok(()) => {
                    let found = part.digest();
                    part.discard().await;
                    return Err(Fault::Final(anyhow!(
                        "{} has the digest {found}, {wanted} is wanted; nothing was kept. Either it is another \
                         version, then name its digest, or somebody has changed it on the way",
                        shown(&ask.url)
                    )));
                }
                Err(Fault::Passing(error, at_least)) => {
                    if before + PROGRESS_BYTES <= part.length() {
                        pauses = self.pauses();
                    }
                    self.rest(&mut pauses, error, at_least).await?;
                }
                // The same bytes are wanted by whoever says who asks.
                Err(other @ Fault::Unauthorized(..)) => return Err(other),
                Err(other) => {
                    part.discard().await;
                    return Err(other);
                }
            }
        }
    }

    /// Asks for what is missing of a file, and takes it.
    async fn more(&self, ask: &Ask, at_most: u64, part: &mut Part) -> Result<(), Fault> {
        let mut headers = HeaderMap::new();
        if 0 < part.length() {
            let range = HeaderValue::try_from(format!("bytes={}-", part.length()));
            headers.insert(header::RANGE, range.context("a range")?);
            if let Some(tag) = part.tag() {
                headers.insert(header::IF_RANGE, tag);
            }
        }
        let (url, answer) = self.send(ask, &headers).await?;
        match answer.status() {
            // Everything is there, or what is there is longer than the file: its digest tells.
            StatusCode::RANGE_NOT_SATISFIABLE if 0 < part.length() => {
                part.resume();
                return Ok(());
            }
            StatusCode::PARTIAL_CONTENT if begins_at(&answer) == Some(part.length()) => {
                part.resume();
            }
            StatusCode::OK => part.clear().await?,
            other => {
                return Err(Fault::Final(anyhow!(
                    "{} answers {other} to a request for the bytes from {} on",
                    shown(&url),
                    part.length()
                )));
            }
        }
        part.mark(answer.headers().get(header::ETAG));
        let too_large = || {
            Fault::Final(anyhow!(
                "{} is larger than {at_most} bytes, which is as much as is taken; nothing was kept",
                shown(&url)
            ))
        };
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| at_most.saturating_sub(part.length()) < length) {
            return Err(too_large());
        }
        let mut body = answer.into_body();
        while let Some(data) = self.next(&url, &mut body).await? {
            if at_most - part.length() < data.len() as u64 {
                return Err(too_large());
            }
            part.write(&data).await?;
        }
        Ok(())
    }

    /// The next bytes of an answer; `None` at its end.
    async fn next(&self, url: &Url, body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = tokio::time::timeout(self.limits.stall, body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.stalled(url))? else {
                return Ok(None);
            };
            let frame = frame.with_context(|| format!("{} broke off", shown(url)));
            if let Ok(data) = frame.map_err(Fault::passing)?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    fn stalled(&self, url: &Url) -> Fault {
        Fault::passing(anyhow!(
            "{} sent nothing for {:?}",
            shown(url),
            self.limits.stall
        ))
    }

    /// Asks, and follows to wherever the server leads, but never from HTTPS to HTTP; who asks is told to the first
    /// server alone. The answer is 2xx, or 416.
    async fn send(
        &self,
        ask: &Ask,
        headers: &HeaderMap,
    ) -> Result<(Url, Response<Incoming>), Fault> {
        let mut url = ask.url.clone();
        for _ in 0..=self.limits.redirects {
            let mut request = Request::get(url.as_str())
                .header(
                    header::USER_AGENT,
                    concat!("splitplace/", env!("CARGO_PKG_VERSION")),
                )
                .header(header::ACCEPT, ask.accept)
                .header(header::ACCEPT_ENCODING, "identity");
            if let Some(own) = request.headers_mut() {
                own.extend(headers.clone());
                let is_first = url.origin() == ask.url.origin();
                if let Some(who) = ask.authorization.as_ref().filter(|_| is_first) {
                    own.insert(header::AUTHORIZATION, who.clone());
                }
            }
            let request = request.body(Empty::new());
            let request =
                request.with_context(|| format!("{} cannot be asked for", shown(&url)))?;
            let answer = tokio::time::timeout(self.limits.stall, self.pool.request(request)).await;
            let answer = answer
                .map_err(|_| self.stalled(&url))?
                .map_err(|error| unreached(&url, error))?;
            let Some(next) = judge(&url, &answer)? else {
                return Ok((url, answer));
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Fault::Final(anyhow!(
                    "{} leads to {}, which anybody on the way could change; name the last address itself if that is \
                     meant",
                    shown(&url),
                    shown(&next)
                )));
            }
            url = next;
        }
        Err(Fault::Final(anyhow!(
            "{} leads elsewhere more than {} times",
            shown(&ask.url),
            self.limits.redirects
        )))
    }

    fn pauses(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.limits.pause)
            .with_max_delay(self.limits.pause_max)
            .with_max_times(self.limits.tries.saturating_sub(1))
            .with_jitter()
            .build()
    }

    /// Waits before the next try, or gives up.
    async fn rest(
        &self,
        pauses: &mut ExponentialBackoff,
        error: Error,
        at_least: Duration,
    ) -> Result<(), Fault> {
        let Some(pause) = pauses.next() else {
            let tries = self.limits.tries;
            return Err(Fault::Final(
                error.context(format!("given up after {tries} tries")),
            ));
        };
        let pause = pause.max(at_least.min(self.limits.pause_max));
        tracing::info!(error = format!("{error:#}"), ?pause, "it is tried again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let Some(path) = ca else {
        return Ok(roots);
    };
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut count = 0;
    for cert in CertificateDer::pem_slice_iter(&pem) {
        let cert = cert.with_context(|| format!("{} is no PEM", path.display()))?;
        let added = roots.add(cert);
        added.with_context(|| {
            format!("{} holds something that is no certificate", path.display())
        })?;
        count += 1;
    }
    anyhow::ensure!(0 < count, "{} holds no certificate in PEM", path.display());
    Ok(roots)
}

/// Why no answer came. A server that is not trusted will not be trusted later.
fn unreached(url: &Url, error: hyper_util::client::legacy::Error) -> Fault {
    let is_trust = is_about_trust(&error);
    let error = Error::new(error);
    if is_trust {
        let authority = url.authority();
        return Fault::Final(error.context(format!(
            "{authority} is not trusted; give its authority's certificate as --ca FILE (in a cluster: \
             operator.fetch.ca)"
        )));
    }
    Fault::passing(error.context(format!("{} cannot be reached", url.authority())))
}

/// Whether TLS has refused: its error is wrapped in those of input and output, which show only what is within theirs.
fn is_about_trust(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        let io = error.downcast_ref::<std::io::Error>();
        next = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// Where an answer leads; `None` when it is the answer.
fn judge(url: &Url, answer: &Response<Incoming>) -> Result<Option<Url>, Fault> {
    let text = |name| {
        let value = answer.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let status = answer.status();
    let error = || anyhow!("{} answers {status}", shown(url));
    match status.as_u16() {
        200..=299 | 416 => Ok(None),
        301 | 302 | 303 | 307 | 308 => {
            let place = text(header::LOCATION).and_then(|place| url.join(place).ok());
            let place = place.filter(|next| next.has_host() && next.scheme().starts_with("http"));
            let place =
                place.ok_or_else(|| error().context("it leads elsewhere without saying where"))?;
            Ok(Some(place))
        }
        401 => {
            let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE).iter();
            let challenges = challenges.filter_map(|one| one.to_str().ok().map(str::to_owned));
            let error =
                error().context("it wants to know who asks, and nothing is known that it accepts");
            Err(Fault::Unauthorized(challenges.collect(), error))
        }
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            let seconds = text(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
            let at_least = Duration::from_secs(seconds.unwrap_or_default());
            Err(Fault::Passing(error(), at_least))
        }
        403 => Err(Fault::Final(
            error().context("whoever asks may not have it"),
        )),
        404 | 410 => Err(Fault::Final(
            error().context("there is nothing; is it spelled right?"),
        )),
        _ => Err(Fault::Final(error())),
    }
}

/// Where a part of a file begins, from its `Content-Range`.
fn begins_at(answer: &Response<Incoming>) -> Option<u64> {
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (begin, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    begin.parse().ok()
}

#[cfg(test)]
mod tests;
