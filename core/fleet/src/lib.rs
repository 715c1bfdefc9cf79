//! Nodes, links, quantities and time: what is known about the world, as values.
