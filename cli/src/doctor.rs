//! What `splitplace doctor` looks at. Facts are collected by thin functions; what they mean, and what
//! to mend, is decided by pure ones.

pub(crate) mod cluster;
pub(crate) mod links;
pub(crate) mod machine;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// It works, but not as well as it could, or not for long.
    Doubt,
    /// It will not work.
    Bad,
}

impl Level {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Doubt => "doubt",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) level: Level,
    pub(crate) seen: String,
    /// What to do about it; empty when nothing.
    pub(crate) mend: String,
}

impl Finding {
    pub(crate) fn good(what: &str, seen: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            level: Level::Good,
            seen: seen.into(),
            mend: String::new(),
        }
    }

    pub(crate) fn doubt(what: &str, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            level: Level::Doubt,
            seen: seen.into(),
            mend: mend.into(),
        }
    }

    pub(crate) fn bad(what: &str, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            level: Level::Bad,
            seen: seen.into(),
            mend: mend.into(),
        }
    }
}
