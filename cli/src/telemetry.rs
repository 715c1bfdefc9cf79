//! Traces on their way to an OTLP collector: those of requests, as the centre builds them, and the program's own
//! spans, through `tracing`.
//!
//! Whatever is slow or broken about the collector stays here: a bounded queue stands before it, a trace that finds
//! it full is dropped and counted by whoever brought it. Headers, timeouts and compression are those of the
//! `OTEL_EXPORTER_OTLP_…` variables.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{
        SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, TracerProvider as _,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as _, SpanProcessor, Tracer,
    },
};
use splitplace_orchestrator::watch::spans::{Span, Traces, Tree, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::metadata::MetadataMap;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Of the program's own spans, which are few.
const OWN_QUEUE: usize = 1024;
/// Items of one message to the collector.
const BATCH: usize = 256;
/// How long a first item waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// For what still waits when the program ends.
const FLUSH: Duration = Duration::from_secs(3);
/// Between two complaints about the collector.
const QUIET: Duration = Duration::from_secs(60);

enum Item {
    Tree(Tree),
    Span(Box<SpanData>),
    Flush(oneshot::Sender<()>),
}

/// A queue before a collector. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Exporter {
    queue: mpsc::Sender<Item>,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// The collector that `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names, else `general`.
pub(crate) fn endpoint(general: Option<String>) -> Option<String> {
    let own = std::env::var(opentelemetry_otlp::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT).ok();
    let is_there = |endpoint: &String| !endpoint.is_empty();
    own.filter(is_there).or(general.filter(is_there))
}

impl Exporter {
    /// Starts one for the collector at `endpoint`; it is connected to when there is something to tell, and again
    /// whenever that breaks. Needs a runtime.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub(crate) fn start(
        endpoint: &str,
        service: &'static str,
        queue: usize,
    ) -> anyhow::Result<Self> {
        ensure!(
            endpoint.starts_with("http://"),
            "{endpoint:?} is no collector's address: http://HOST:PORT is expected (a collector that wants \
             certificates or HTTP is best reached through one beside this program)"
        );
        let of = |service| {
            let exporter = SpanExporter::builder().with_tonic();
            let exporter = exporter.with_endpoint(endpoint).build();
            let mut exporter =
                exporter.with_context(|| format!("traces cannot be sent to {endpoint}"))?;
            exporter.set_resource(&resource(service));
            anyhow::Ok(exporter)
        };
        let (told, items) = mpsc::channel(queue);
        let collector = Collector {
            endpoint: endpoint.to_owned(),
            own: of(service)?,
            workers: of("splitplace-worker")?,
            complained: None,
        };
        tokio::spawn(collector.run(items));
        Ok(Self { queue: told })
    }

    /// Sends what waits, for at most some seconds.
    pub(crate) async fn flush(&self) {
        let (told, done) = oneshot::channel();
        let all = async {
            if self.queue.send(Item::Flush(told)).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = timeout(FLUSH, all).await;
    }

    /// A tracer for the program's own spans.
    pub(crate) fn tracer(&self) -> Tracer {
        let provider = SdkTracerProvider::builder().with_span_processor(self.clone());
        provider.build().tracer("splitplace")
    }

    /// One with a queue of its own for a program's own spans.
    pub(crate) fn own(endpoint: &str) -> anyhow::Result<Self> {
        Self::start(endpoint, "splitplace", OWN_QUEUE)
    }
}

impl Traces for Exporter {
    fn take(&self, tree: Tree) -> bool {
        self.queue.try_send(Item::Tree(tree)).is_ok()
    }
}

impl SpanProcessor for Exporter {
    fn on_start(&self, _: &mut SdkSpan, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        // A program's own spans that find no room are no loss worth telling.
        let _ = self.queue.try_send(Item::Span(Box::new(span)));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn resource(service: &'static str) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_service_name(service);
    builder.with_attribute(version).build()
}

/// The other end of the queue.
struct Collector {
    endpoint: String,
    own: SpanExporter,
    workers: SpanExporter,
    complained: Option<Instant>,
}

impl Collector {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut batch = Vec::with_capacity(BATCH);
        let (mut own, mut workers) = (Vec::new(), Vec::new());
        while let Some(first) = items.recv().await {
            let mut is_urgent = matches!(first, Item::Flush(_));
            batch.push(first);
            let until = Instant::now() + LINGER;
            while batch.len() < BATCH && !is_urgent {
                let room = BATCH - batch.len();
                let came = timeout_at(until, items.recv_many(&mut batch, room)).await;
                is_urgent = batch.iter().any(|item| matches!(item, Item::Flush(_)));
                if came.is_err() || came == Ok(0) {
                    break;
                }
            }
            let mut flushed = Vec::new();
            for item in batch.drain(..) {
                match item {
                    Item::Span(span) => own.push(*span),
                    Item::Flush(told) => flushed.push(told),
                    Item::Tree(tree) => {
                        for span in tree.spans {
                            let of = if span.node.is_empty() {
                                &mut own
                            } else {
                                &mut workers
                            };
                            of.push(data(tree.trace, span));
                        }
                    }
                }
            }
            let (own, workers) = (std::mem::take(&mut own), std::mem::take(&mut workers));
            let sent = tokio::join!(send(&self.own, own), send(&self.workers, workers));
            if let Some(error) = sent.0.err().or(sent.1.err()) {
                self.complain(&error);
            }
            for told in flushed {
                let _ = told.send(());
            }
        }
    }

    fn complain(&mut self, error: &opentelemetry_sdk::error::OTelSdkError) {
        let now = Instant::now();
        let is_due = |last: Instant| last + QUIET <= now;
        if self.complained.is_none_or(is_due) {
            self.complained = Some(now);
            tracing::warn!(code = "SP311", endpoint = self.endpoint, %error, "traces are lost: the collector does not take them");
        }
    }
}

async fn send(exporter: &SpanExporter, spans: Vec<SpanData>) -> OTelSdkResult {
    if spans.is_empty() {
        return Ok(());
    }
    exporter.export(spans).await
}

fn data(trace: u128, span: Span) -> SpanData {
    let id = |id: u64| SpanId::from_bytes(id.to_be_bytes());
    let context = SpanContext::new(
        TraceId::from_bytes(trace.to_be_bytes()),
        id(span.id),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let attributes = span.attributes.into_iter().map(|(key, value)| match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Int(number) => KeyValue::new(key, number),
        Value::Float(number) => KeyValue::new(key, number),
        Value::Bool(is) => KeyValue::new(key, is),
    });
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(SpanId::INVALID, id),
        parent_span_is_remote: span.is_parent_remote,
        span_kind: if span.is_server {
            SpanKind::Server
        } else {
            SpanKind::Internal
        },
        name: span.name,
        start_time: instant(span.start_us),
        end_time: instant(span.end_us),
        attributes: attributes.collect(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: match span.error {
            Some(error) => Status::Error {
                description: Cow::Owned(error),
            },
            None => Status::Unset,
        },
        instrumentation_scope: InstrumentationScope::builder("splitplace").build(),
    }
}

fn instant(unix_us: i64) -> SystemTime {
    let since = Duration::from_micros(u64::try_from(unix_us).unwrap_or(0));
    // Numbers that a peer made up may lie beyond what the system can say.
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// Tells whoever is called in which span this happens; nothing when nobody traces.
pub(crate) fn inject(metadata: &mut MetadataMap) {
    let context = tracing::Span::current().context();
    let span = context.span();
    let context = span.span_context();
    if !context.is_valid() {
        return;
    }
    let flags = context.trace_flags().to_u8();
    let parent = format!(
        "00-{}-{}-{flags:02x}",
        context.trace_id(),
        context.span_id()
    );
    if let Ok(parent) = parent.parse() {
        metadata.insert("traceparent", parent);
    }
}

/// Gives a running centre an exporter, if its configuration names a collector.
pub(crate) fn export(
    app: &splitplace_orchestrator::app::App,
    traces: &splitplace_orchestrator::config::Traces,
) -> anyhow::Result<Option<Exporter>> {
    let Some(endpoint) = &traces.endpoint else {
        return Ok(None);
    };
    let exporter = Exporter::start(endpoint, "splitplace-orchestrator", traces.queue)?;
    app.center().set_traces(Arc::new(exporter.clone()));
    Ok(Some(exporter))
}
