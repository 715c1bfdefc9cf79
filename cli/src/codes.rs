//! Codes of the errors that commands end with; `docs/errors/` has a page for each.
//!
//! A code is what a server says, else it is found from the error's type, never from its words. The matches have no catch-all over our own
//! errors: a new kind does not compile until it has a code.

use splitplace_link::SecurityError;
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
        AppError::Tls(error) => of_security(error),
        AppError::Listener(_) => "SP106",
    }
}

const fn of_security(error: &SecurityError) -> &'static str {
    match error {
        SecurityError::File { .. } => "SP102",
        SecurityError::Pem { .. }
        | SecurityError::Certificate { .. }
        | SecurityError::Pair(_)
        | SecurityError::Authority(_) => "SP105",
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
        worker::Error::Tls(error) => of_security(error),
        worker::Error::Thread(_) => "SP202",
        worker::Error::Refused { .. } => "SP203",
    }
}

fn of_io(error: &std::io::Error) -> Option<&'static str> {
    (error.kind() == std::io::ErrorKind::AddrInUse).then_some("SP106")
}

/// Codes that an orchestrator says.
const SAID: [&str; 9] = [
    "SP302", "SP303", "SP304", "SP305", "SP306", "SP307", "SP308", "SP309", "SP310",
];

fn of_status(status: &tonic::Status) -> Option<&'static str> {
    let said = status.metadata().get("splitplace-code");
    let is_said = |code: &&&str| said.is_some_and(|said| said.as_bytes() == code.as_bytes());
    if let Some(code) = SAID.iter().find(is_said) {
        return Some(code);
    }
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
    use super::*;

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
        let mut status = tonic::Status::failed_precondition("not so accurate");
        status
            .metadata_mut()
            .insert("splitplace-code", "SP310".parse().unwrap());
        assert_eq!(code(&anyhow::Error::new(status)), Some("SP310"));
        assert_eq!(code(&anyhow::anyhow!("a typing mistake")), None);
    }
}
