//! Where every fragment runs: the plan as a value, and the strategies that make one.
