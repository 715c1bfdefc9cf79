//! The node daemon: engine, queues, fragments, forwarding.
