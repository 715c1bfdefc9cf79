//! One request from arrival to answer, as a pure state machine.
