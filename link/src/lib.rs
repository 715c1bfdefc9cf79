//! The data plane: tensor frames over gRPC with one copy per hop, and emulated links.
