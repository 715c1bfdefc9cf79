//! Whose trace a request belongs to, and whether that trace is kept.
//!
//! It is decided when the request has ended, by then it is known whether it was slow, late or lost: nothing is
//! lost to a coin that was tossed too early, and what is not kept costs nobody a byte.

use std::{fmt, time::Duration};

/// The caller's place in a trace, as W3C's `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; never 0.
    pub trace: u128,
    /// The caller's span; never 0.
    pub parent: u64,
    /// Whether the caller keeps the trace.
    pub is_sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; `None` for anything that the recommendation calls invalid. Versions to come may
    /// have more fields behind these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits)?;
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            field.bytes().all(is_hex).then_some(field)
        };
        let version = u8::from_str_radix(field(2)?, 16).ok()?;
        let trace = u128::from_str_radix(field(32)?, 16).ok()?;
        let parent = u64::from_str_radix(field(16)?, 16).ok()?;
        let flags = u8::from_str_radix(field(2)?, 16).ok()?;
        let is_whole = version != 0 || fields.next().is_none();
        let is_valid = version != 0xff && is_whole && trace != 0 && parent != 0;
        is_valid.then_some(Self {
            trace,
            parent,
            is_sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.parent)
    }
}

/// Why a trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// There is no answer.
    Lost,
    /// The answer came after the promise.
    Missed,
    /// The answer took longer than the bound.
    Slow,
    /// By its caller's word, or by the share that is kept of those without one.
    Head,
}

impl Kept {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Missed, Self::Slow, Self::Head];

    /// A word for a label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Missed => "missed",
            Self::Slow => "slow",
            Self::Head => "head",
        }
    }
}

/// How a request ended, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether there is an answer.
    pub is_answered: bool,
    /// Whether it came within the promise.
    pub held: bool,
    /// From arrival to the end.
    pub response: Duration,
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Of those whose caller said nothing.
    pub ratio: f64,
    /// An answer slower than this is kept.
    pub slow: Duration,
}

impl Sampling {
    /// Whether a trace is kept, and why.
    #[must_use]
    pub fn keep(&self, trace: u128, caller: Option<Context>, outcome: &Outcome) -> Option<Kept> {
        if !outcome.is_answered {
            return Some(Kept::Lost);
        }
        if !outcome.held {
            return Some(Kept::Missed);
        }
        if self.slow < outcome.response {
            return Some(Kept::Slow);
        }
        let is_drawn = caller.map_or_else(|| self.draws(trace), |caller| caller.is_sampled);
        is_drawn.then_some(Kept::Head)
    }

    /// By the trace id alone, so that everybody who looks at it decides alike: its last 56 bits are random
    /// (W3C Trace Context level 2), and compared with a threshold as OpenTelemetry's samplers do.
    fn draws(&self, trace: u128) -> bool {
        const BITS: u32 = 56;
        let random = (trace & ((1 << BITS) - 1)) as u64;
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let share = random as f64 / (1u64 << BITS) as f64;
        share < self.ratio
    }
}

/// Ids of one request's trace: the same for the same seed and request, never 0.
#[derive(Clone, Copy, Debug)]
pub struct SpanIds {
    own: u128,
    base: u64,
    next: u64,
}

impl SpanIds {
    /// Those of a request. `seed` differs from one start of the process to the next.
    #[must_use]
    pub const fn new(seed: u64, request: u64) -> Self {
        let high = mixed(seed ^ mixed(request));
        let low = mixed(high ^ request.rotate_left(32));
        let own = ((high as u128) << 64) | low as u128;
        Self {
            own: if own == 0 { 1 } else { own },
            base: mixed(low ^ seed),
            next: 0,
        }
    }

    /// The trace's id when the caller has none.
    #[must_use]
    pub const fn own_trace(&self) -> u128 {
        self.own
    }

    /// Another span's.
    pub(super) const fn span(&mut self) -> u64 {
        self.next += 1;
        let id = mixed(self.base.wrapping_add(self.next));
        if id == 0 { 1 } else { id }
    }
}

/// The output function of splitmix64 (Steele, Lea and Flood, 2014): a bijection that leaves no pattern.
const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    const WELL: Outcome = Outcome {
        is_answered: true,
        held: true,
        response: Duration::from_millis(5),
    };

    #[test]
    fn a_context_is_read_as_it_is_written() {
        let context = Context::parse(PARENT).unwrap();
        assert_eq!(context.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.parent, 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), PARENT);
        let later = Context::parse(&format!("01{}-more", &PARENT[2..]));
        assert_eq!(later, Some(context));
    }

    #[test]
    fn what_the_recommendation_calls_invalid_is_no_context() {
        for wrong in [
            String::new(),
            "00".into(),
            PARENT.to_uppercase(),
            PARENT.replace("00-", "ff-"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace("b7ad6b7169203331", "b7ad6b716920333"),
            format!("{PARENT}-more"),
            PARENT.replace("-01", "-1"),
            PARENT.replace("-01", "-+1"),
        ] {
            assert_eq!(Context::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_went_wrong_is_kept_whatever_the_caller_says() {
        let never = Sampling {
            ratio: 0.0,
            slow: Duration::from_millis(100),
        };
        let silent = Context::parse(&PARENT.replace("-01", "-00"));
        let keep = |outcome| never.keep(1, silent, &outcome);
        assert_eq!(keep(WELL), None);
        let slow = Outcome {
            response: Duration::from_millis(101),
            ..WELL
        };
        assert_eq!(keep(slow), Some(Kept::Slow));
        let missed = Outcome {
            held: false,
            ..WELL
        };
        assert_eq!(keep(missed), Some(Kept::Missed));
        let lost = Outcome {
            is_answered: false,
            held: false,
            ..WELL
        };
        assert_eq!(keep(lost), Some(Kept::Lost));
    }

    #[test]
    fn the_caller_decides_for_its_own_and_the_share_for_the_rest() {
        let slow = Duration::from_secs(1);
        let always = Sampling { ratio: 1.0, slow };
        let never = Sampling { ratio: 0.0, slow };
        let yes = Context::parse(PARENT);
        let no = Context::parse(&PARENT.replace("-01", "-00"));
        assert_eq!(never.keep(7, yes, &WELL), Some(Kept::Head));
        assert_eq!(always.keep(7, no, &WELL), None);
        assert_eq!(always.keep(7, None, &WELL), Some(Kept::Head));
        assert_eq!(never.keep(7, None, &WELL), None);
        let tenth = Sampling { ratio: 0.1, slow };
        let drawn = (0..20_000)
            .map(|request| SpanIds::new(3, request).own_trace())
            .filter(|trace| tenth.keep(*trace, None, &WELL).is_some());
        // Four standard deviations of a binomial around 2 000.
        assert!((1830..2170).contains(&drawn.count()));
    }

    #[test]
    fn ids_repeat_for_the_same_request_only() {
        let ids = |seed, request| {
            let mut ids = SpanIds::new(seed, request);
            let own = ids.own_trace();
            [own, u128::from(ids.span()), u128::from(ids.span())]
        };
        assert_eq!(ids(1, 2), ids(1, 2));
        let mut all: Vec<u128> = (0..1000).flat_map(|request| ids(1, request)).collect();
        all.extend((0..1000).flat_map(|request| ids(2, request)));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(!all.contains(&0));
    }
}
