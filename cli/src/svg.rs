//! Line plots as SVG: a few series over a common x, drawn without any library; `bars` beside them.

mod bars;

use std::fmt::Write as _;

pub(crate) use bars::{Bar, Bars};

/// Okabe and Ito's colours, which most people can tell apart, and four more.
const COLOURS: [&str; 11] = [
    "#999999", "#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#0072B2", "#8C564B",
    "#D55E00", "#000000", "#6A3D9A",
];
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 46.0;

/// One line of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// x, y, and whether the mark is filled.
    pub(crate) points: Vec<(f64, f64, bool)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Whether y is drawn by its logarithm.
    pub(crate) log: bool,
    /// A dashed line across.
    pub(crate) line: Option<f64>,
    pub(crate) series: Vec<Series>,
}

impl Plot {
    /// The plot as a document.
    pub(crate) fn draw(&self) -> String {
        self.document(false)
    }

    /// The same with x by its logarithm.
    pub(crate) fn draw_log_x(&self) -> String {
        self.document(true)
    }

    fn document(&self, log_x: bool) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = |value: f64| {
            if log_x {
                value.max(1e-5).log10()
            } else {
                value
            }
        };
        let y = |value: f64| {
            if self.log {
                value.max(1e-5).log10()
            } else {
                value
            }
        };
        let bounds = |values: &mut dyn Iterator<Item = f64>| {
            let finite = values.filter(|value| value.is_finite());
            let (low, high) = finite.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            match high - low {
                span if span > 0.0 => (low - 0.03 * span, high + 0.03 * span),
                0.0 => (low - 0.5, high + 0.5),
                _ => (0.0, 1.0),
            }
        };
        let (x0, x1) = bounds(&mut points().map(|p| x(p.0)));
        let (y0, y1) = bounds(&mut points().map(|p| y(p.1)).chain(self.line.map(y)));
        let at = |value: f64| LEFT + (x(value) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
        let up =
            |value: f64| HEIGHT - BOTTOM - (y(value) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut say = |x: f64, y: f64, anchor: &str, what: &str| {
            let what = what.replace('&', "&amp;").replace('<', "&lt;");
            _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>"
            );
        };
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        say(middle, 18.0, "middle", &self.title);
        say(middle, HEIGHT - 10.0, "middle", self.x);
        say(8.0, 30.0, "start", self.y);
        let mut lines = String::new();
        let marks = if log_x { tens(x0, x1) } else { ticks(x0, x1) };
        for tick in marks {
            say(at(tick), HEIGHT - BOTTOM + 16.0, "middle", &number(tick));
        }
        let levels: Vec<f64> = if self.log {
            tens(y0, y1)
        } else {
            ticks(y0, y1)
        };
        for level in levels {
            say(LEFT - 6.0, up(level) + 4.0, "end", &number(level));
            rule(&mut lines, up(level), "#e5e5e5", "");
        }
        if let Some(level) = self.line {
            rule(
                &mut lines,
                up(level),
                "#444444",
                " stroke-dasharray=\"4 3\"",
            );
        }
        for (number, series) in self.series.iter().enumerate() {
            say(
                WIDTH - RIGHT + 26.0,
                TOP + 14.0 + 16.0 * number_of(number),
                "start",
                &series.name,
            );
        }
        text.push_str(&lines);
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let path: Vec<String> = series
                .points
                .iter()
                .map(|p| format!("{:.1},{:.1}", at(p.0), up(p.1)))
                .collect();
            _ = writeln!(
                text,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>",
                path.join(" ")
            );
            let key = TOP + 10.0 + 16.0 * number_of(number);
            let marks = series.points.iter().map(|p| (at(p.0), up(p.1), p.2));
            for (x, y, is_filled) in marks.chain([(WIDTH - RIGHT + 14.0, key, true)]) {
                let fill = if is_filled { colour } else { "white" };
                _ = writeln!(
                    text,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{fill}\" stroke=\"{colour}\"/>"
                );
            }
        }
        text.push_str("</svg>\n");
        text
    }
}

fn rule(lines: &mut String, y: f64, colour: &str, more: &str) {
    _ = writeln!(
        lines,
        "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"{more}/>",
        WIDTH - RIGHT
    );
}

/// A whole number as a real one; exact below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "series are few")]
const fn number_of(count: usize) -> f64 {
    count as f64
}

/// Powers of ten between two exponents.
fn tens(low: f64, high: f64) -> Vec<f64> {
    let all = -5..=9;
    all.filter(|e| (low..=high).contains(&f64::from(*e)))
        .map(|e| 10f64.powi(e))
        .collect()
}

/// Round numbers between two.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(f64::MIN_POSITIVE);
    let ten = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * ten);
    let step = step
        .into_iter()
        .find(|step| span / step <= 6.0)
        .unwrap_or(span);
    let first = (low / step).ceil();
    let count = ((high / step).floor() - first + 1.0).clamp(0.0, 20.0);
    (0..20)
        .map(f64::from)
        .take_while(|n| *n < count)
        .map(|n| (first + n) * step)
        .collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.5}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_a_document_with_a_mark_for_each_point() {
        let plot = Plot {
            title: "a < b".into(),
            x: "load",
            y: "loss",
            log: true,
            line: Some(0.01),
            series: vec![Series {
                name: "one".into(),
                points: vec![(0.5, 0.0, true), (1.0, 0.02, false), (2.0, f64::NAN, true)],
            }],
        };
        let text = plot.draw();
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
        assert!(text.contains("a &lt; b"));
        assert_eq!(text.matches("<circle").count(), 4);
        // Half, one and two are evenly apart by their logarithms only.
        let places = |text: &str| -> Vec<f64> {
            let circles = text
                .lines()
                .filter_map(|line| line.strip_prefix("<circle cx=\""));
            circles
                .map(|rest| rest[..rest.find('"').unwrap()].parse().unwrap())
                .collect()
        };
        let (even, log) = (places(&text), places(&plot.draw_log_x()));
        assert!(even[2] - even[1] > 1.5 * (even[1] - even[0]));
        assert!((log[2] - 2.0 * log[1] + log[0]).abs() < 0.3);
        assert_eq!(
            ticks(0.0, 1.0),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(3.0), "3");
    }
}
