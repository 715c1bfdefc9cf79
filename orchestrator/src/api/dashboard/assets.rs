//! The dashboard's files, inside the binary.
//!
//! Browsers ask every time whether a file has changed, and are told by its hash; so a new version of the
//! binary is a new dashboard at once.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// One file of the folder `dashboard`.
pub(super) struct Asset {
    /// Path from there.
    pub(super) path: &'static str,
    pub(super) bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        &[$(Asset {
            path: $path,
            bytes: include_bytes!(concat!("../../../../dashboard/", $path)),
        }),*]
    };
}

/// Every file that is served.
pub(super) const ASSETS: &[Asset] = assets![
    "index.html",
    "icon.svg",
    "css/look.css",
    "css/page.css",
    "css/fleet.css",
    "js/main.js",
    "js/stream.js",
    "js/store.js",
    "js/dom.js",
    "js/words.js",
    "js/marks.js",
    "js/lines.js",
    "js/act.js",
    "js/fleet.js",
    "js/layout.js",
    "js/flow.js",
    "js/models.js",
    "js/decisions.js",
    "js/twin.js",
    "js/requests.js",
    "vendor/uplot/uPlot.esm.js",
    "vendor/uplot/uPlot.min.css",
    "vendor/uplot/LICENSE",
];

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn etag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let short: String = digest[..12].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{short}\"")
}

/// Answers a request for a file.
pub(super) fn serve(path: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "no such file").into_response();
    };
    let etag = etag(asset.bytes);
    let is_known = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Bytes::from_static(asset.bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(kind(asset.path)),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}
