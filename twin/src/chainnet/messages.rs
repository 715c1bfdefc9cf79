//! What our graph networks and the published one have in common: rounds of messages between chains, fragments and
//! devices, and layers that read an answer off a state.

use std::sync::Arc;

use super::layout::Layout;
use crate::net::{Tape, Var};

/// States, a row each.
pub(super) struct States {
    pub(super) fragments: Var,
    pub(super) devices: Var,
    pub(super) chains: Var,
}

/// The states after so many rounds. In each a recurrent unit (`along`) goes along each chain over (fragment, device) of
/// its steps and leaves the chain's new state and an output at each step; each fragment (`step`) takes in its step's
/// output and its device; each device (`host`) hears from the steps that it hosts by attention (`ear`).
pub(super) fn rounds(
    tape: &mut Tape<'_>,
    layout: &Layout,
    mut states: States,
    rounds: usize,
) -> States {
    for _ in 0..rounds {
        let hosts = tape.gather(states.devices, Arc::clone(&layout.device));
        let steps = tape.beside(states.fragments, hosts);
        let outputs = tape.gru_along("along", steps, states.chains, Arc::clone(&layout.counts));
        states.chains = tape.gather(outputs, Arc::clone(&layout.last));
        let said = tape.beside(outputs, states.fragments);
        let taken = tape.beside(outputs, hosts);
        states.fragments = tape.gru("step", taken, states.fragments);
        let heard = tape.attend("ear", said, states.devices, Arc::clone(&layout.device));
        states.devices = tape.gru("host", heard, states.devices);
    }
    debug_assert_eq!(tape.value(states.devices).nrows(), layout.devices);
    states
}

/// Three layers, `{name}.1` to `{name}.3`, rectified but for the last.
pub(super) fn read_off(tape: &mut Tape<'_>, name: &str, mut state: Var) -> Var {
    for layer in 1..=2 {
        let next = tape.affine(&format!("{name}.{layer}"), state);
        state = tape.relu(next);
    }
    tape.affine(&format!("{name}.3"), state)
}
