//! Codes of the errors that an operator can mend; `docs/errors/` has a page for each.
//!
//! A code is found from the error's type, never from its words. The matches have no catch-all over our own
//! errors: a new kind does not compile until it has a code.

use splitplace_orchestrator::{
    app::AppError, center::StartError, fleet_file::FleetFileError, store::StoreError,
};
use splitplace_worker as worker;
use tonic::Code;

/// The code of an error with its causes; `None` for mistakes on the command line and for our own.
pub(crate) fn code(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let app = cause.downcast_ref().map(of_app);
        let store = || cause.downcast_ref().map(of_store);
        let fleet = || cause.downcast_ref().map(of_fleet);
        let worker = || cause.downcast_ref().map(of_worker);
        let io = || cause.downcast_ref().and_then(of_io);
        let transport = || {
            cause
                .downcast_ref::<tonic::transport::Error>()
                .map(|_| "SP301")
        };
        let status = || cause.downcast_ref().and_then(of_status);
        app.or_else(store)
            .or_else(fleet)
            .or_else(worker)
            .or_else(status)
            .or_else(io)
            .or_else(transport)
    })
}

fn of_app(error: &AppError) -> &'static str {
    match error {
        AppError::Config(_) => "SP101",
        AppError::File { .. } => "SP102",
        AppError::Fleet(error) => of_fleet(error),
        AppError::Store(error) | AppError::Start(StartError::Store(error)) => of_store(error),
        AppError::Start(StartError::Policy(_)) => "SP104",
        AppError::Tls(_) | AppError::Grpc(_) => "SP105",
        AppError::Listener(_) => "SP106",
    }
}

const fn of_fleet(error: &FleetFileError) -> &'static str {
    match error {
        FleetFileError::Read { .. } => "SP102",
        FleetFileError::Parse { .. } | FleetFileError::Wrong { .. } => "SP103",
    }
}

const fn of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::Busy { .. } => "SP111",
        StoreError::Io { .. } => "SP112",
        StoreError::Corrupt { .. } => "SP113",
        StoreError::Foreign { .. } => "SP114",
        StoreError::MissingPart { .. }
        | StoreError::WrongDigest { .. }
        | StoreError::Stale { .. } => "SP115",
        StoreError::Limit { .. } => "SP116",
    }
}

const fn of_worker(error: &worker::Error) -> &'static str {
    match error {
        worker::Error::Config(_) => "SP101",
        worker::Error::File { .. } => "SP102",
        worker::Error::Engine(_) => "SP201",
        worker::Error::Serve(_) | worker::Error::Thread(_) => "SP202",
        worker::Error::Refused { .. } => "SP203",
    }
}

fn of_io(error: &std::io::Error) -> Option<&'static str> {
    (error.kind() == std::io::ErrorKind::AddrInUse).then_some("SP106")
}

fn of_status(status: &tonic::Status) -> Option<&'static str> {
    match status.code() {
        Code::Unauthenticated => Some("SP302"),
        Code::NotFound => Some("SP303"),
        Code::Unavailable => Some("SP304"),
        Code::ResourceExhausted => Some("SP305"),
        Code::DeadlineExceeded => Some("SP306"),
        Code::FailedPrecondition => Some("SP307"),
        Code::InvalidArgument => Some("SP308"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn pages() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors")
    }

    /// Every code that this file names.
    fn codes() -> BTreeSet<String> {
        let text = include_str!("codes.rs");
        let quoted = text.split('"').filter(|word| word.len() == 5);
        quoted
            .filter(|word| word.starts_with("SP") && word[2..].bytes().all(|b| b.is_ascii_digit()))
            .map(ToOwned::to_owned)
            .collect()
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let index = fs::read_to_string(pages().join("README.md")).unwrap();
        let there: BTreeSet<String> = fs::read_dir(pages())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter_map(|name| name.strip_suffix(".md").map(ToOwned::to_owned))
            .filter(|name| name != "README")
            .collect();
        assert_eq!(codes(), there);
        for code in there {
            let page = fs::read_to_string(pages().join(format!("{code}.md"))).unwrap();
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
            assert!(page.contains("## What to do"), "{code}");
            assert!(index.contains(&format!("[{code}]({code}.md)")), "{code}");
        }
    }

    #[test]
    fn a_code_is_found_through_contexts() {
        use anyhow::Context as _;
        let busy = StoreError::Busy { place: "x".into() };
        let wrapped = Err::<(), _>(AppError::Store(busy)).context("starting");
        assert_eq!(code(&wrapped.unwrap_err()), Some("SP111"));
        let taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let wrapped = Err::<(), _>(taken).context("cannot listen");
        assert_eq!(code(&wrapped.unwrap_err()), Some("SP106"));
        let status = anyhow::Error::new(tonic::Status::unauthenticated("who?"));
        assert_eq!(code(&status), Some("SP302"));
        assert_eq!(code(&anyhow::anyhow!("a typing mistake")), None);
    }
}
