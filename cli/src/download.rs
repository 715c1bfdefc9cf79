//! One file over HTTP or HTTPS, as `fetch` needs it: no cache, no cookies, few redirects.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Largest file.
const BYTES_MAX: u64 = 4 << 30;
/// For everything.
const PATIENCE: Duration = Duration::from_secs(1500);

/// The file at a URL.
pub(crate) async fn get(url: &str, headers: &[(&str, &str)], ca: Option<&Path>) -> Result<Vec<u8>> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let asked = tokio::time::timeout(PATIENCE, once(&url, headers, ca)).await;
        match asked.with_context(|| format!("{url} took longer than {PATIENCE:?}"))?? {
            Answer::Body(bytes) => return Ok(bytes),
            Answer::Elsewhere(next) => {
                ensure!(
                    !url.starts_with("https:") || next.starts_with("https:"),
                    "{url} leads to {next}, which is less safe"
                );
                url = next;
            }
        }
    }
    bail!("{url} leads in circles")
}

enum Answer {
    Body(Vec<u8>),
    Elsewhere(String),
}

async fn once(url: &str, headers: &[(&str, &str)], ca: Option<&Path>) -> Result<Answer> {
    let (scheme, rest) = url
        .split_once("://")
        .context("a URL with http:// or https:// is expected")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = if scheme == "https" { 443 } else { 80 };
    let address = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let name = host.split(':').next().unwrap_or_default().to_owned();
    let stream = TcpStream::connect(&address)
        .await
        .with_context(|| format!("cannot reach {address}"))?;
    let mut request = format!(
        "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nuser-agent: splitplace\r\n"
    );
    for (key, value) in headers {
        request.push_str(&format!("{key}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let raw = if scheme == "https" {
        let roots = roots(ca)?;
        let config = ClientConfig::builder_with_provider(Arc::new(
            tokio_rustls::rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
        let name = ServerName::try_from(name)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        exchange(
            stream.with_context(|| format!("{address} is not trusted"))?,
            &request,
        )
        .await?
    } else {
        ensure!(
            scheme == "http",
            "{scheme}:// is not spoken; http:// or https:// is expected"
        );
        exchange(stream, &request).await?
    };
    parse(&raw, url)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let pem =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            for cert in CertificateDer::pem_slice_iter(&pem) {
                roots.add(cert.with_context(|| format!("{} is no PEM", path.display()))?)?;
            }
        }
    }
    Ok(roots)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut raw = Vec::new();
    let read = stream.take(BYTES_MAX).read_to_end(&mut raw).await;
    // Some servers close without saying so; the length or the chunks tell whether all came.
    match read {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.into()),
        _ => Ok(raw),
    }
}

fn parse(raw: &[u8], url: &str) -> Result<Answer> {
    let end = raw
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .context("the answer has no head")?;
    let head = std::str::from_utf8(&raw[..end]).context("the answer's head is no text")?;
    let body = &raw[end + 4..];
    let mut lines = head.lines();
    let code = lines
        .next()
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap_or_default();
    let header = |name: &str| {
        let mut found = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        found
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    match code {
        "200" => {}
        "301" | "302" | "303" | "307" | "308" => {
            let next = header("location").context("it leads elsewhere, but does not say where")?;
            if let Some(path) = next.strip_prefix('/') {
                let root: Vec<&str> = url.splitn(4, '/').take(3).collect();
                return Ok(Answer::Elsewhere(format!("{}/{path}", root.join("/"))));
            }
            return Ok(Answer::Elsewhere(next.to_owned()));
        }
        code => bail!("{url} answers {code}"),
    }
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Answer::Body(chunks(body)?));
    }
    if let Some(length) = header("content-length") {
        let length: usize = length.parse().context("its length is no number")?;
        ensure!(
            body.len() == length,
            "{url} broke off after {} of {length} bytes",
            body.len()
        );
    }
    Ok(Answer::Body(body.to_vec()))
}

fn chunks(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body
            .windows(2)
            .position(|end| end == b"\r\n")
            .context("the answer broke off")?;
        let size = std::str::from_utf8(&body[..end])?
            .split(';')
            .next()
            .unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is no number")?;
        if size == 0 {
            return Ok(whole);
        }
        let rest = body.get(end + 2..).unwrap_or_default();
        whole.extend_from_slice(rest.get(..size).context("the answer broke off")?);
        body = rest.get(size + 2..).context("the answer broke off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(raw: &str) -> Result<Vec<u8>> {
        match parse(raw.as_bytes(), "http://h:1/a")? {
            Answer::Body(bytes) => Ok(bytes),
            Answer::Elsewhere(next) => bail!("to {next}"),
        }
    }

    #[test]
    fn answers_are_read_whole_or_refused() {
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").expect("ok"),
            b"ab"
        );
        assert!(body("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab").is_err());
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
        assert_eq!(body(chunked).expect("ok"), b"abc");
        assert!(body(&chunked[..chunked.len() - 12]).is_err());
        let moved = body("HTTP/1.1 302 Found\r\nlocation: /b\r\n\r\n").expect_err("moved");
        assert_eq!(moved.to_string(), "to http://h:1/b");
        assert!(body("HTTP/1.1 404 Not Found\r\n\r\n").is_err());
    }
}
