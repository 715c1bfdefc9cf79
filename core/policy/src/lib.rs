//! Which arm answers a request: bandits and fixed policies behind one trait.
