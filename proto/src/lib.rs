//! The wire and the disk schema of SplitPlace.
//!
//! The generated types live in one module for each protobuf package; no other crate defines messages.
//! Domain types are made from them, and they from domain types, by hand at the edges that serve them.

/// The Open Inference Protocol, version 2.
pub mod inference {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated from the protocol's own schema"
    )]
    tonic::include_proto!("inference");
}

/// The tensors' way.
pub mod data {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated; the schema carries the comments"
    )]
    tonic::include_proto!("splitplace.data.v1");
}

/// Sessions between workers and the centre.
pub mod control {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated; the schema carries the comments"
    )]
    tonic::include_proto!("splitplace.control.v1");
}

/// What the centre offers beside inference.
pub mod center {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated; the schema carries the comments"
    )]
    tonic::include_proto!("splitplace.center.v1");
}

/// What the centre keeps on disk.
pub mod store {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated; the schema carries the comments"
    )]
    tonic::include_proto!("splitplace.store.v1");
}

/// Every schema as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
