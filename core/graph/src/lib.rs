//! A neural network as a weighted graph: layers, outlets, cuts, fragments, costs.
