//! What the black-box tests share: real processes, and ground for them to stand on.
//!
//! Reading order: [`process`] (start, listen to, kill), [`ground`] (namespaces, shaped links, limits),
//! [`cluster`] (an API server of ours), [`chart`] (what Helm would put there), [`rights`] (what may be asked of it),
//! [`apiserver`] (a real one), [`tools`] (what a machine may lack).

pub mod apiserver;
pub mod chart;
pub mod cluster;
pub mod ground;
pub mod http;
pub mod process;
pub mod rights;
pub mod tools;
