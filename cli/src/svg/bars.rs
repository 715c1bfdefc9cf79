//! Groups of bars with intervals, as SVG: the same figures of a few things side by side.

use std::fmt::Write as _;

use super::{BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number, number_of, rule, ticks};

/// A figure and half its interval; an infinite interval is not drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) height: f64,
    pub(crate) half_width: f64,
}

/// A plot of bars.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) y: String,
    /// What is compared, each with a colour of its own.
    pub(crate) series: Vec<String>,
    /// Figures by name, one bar for each of the series.
    pub(crate) groups: Vec<(String, Vec<Bar>)>,
}

impl Bars {
    /// The plot as a document.
    pub(crate) fn draw(&self) -> String {
        let bars = || self.groups.iter().flat_map(|(_, bars)| bars);
        let reach = |bar: &Bar| {
            let half = Some(bar.half_width).filter(|half| half.is_finite());
            bar.height + half.unwrap_or(0.0)
        };
        let top = bars().map(reach).filter(|top| top.is_finite());
        let top = top.fold(0.0, f64::max);
        let top = if top > 0.0 { top * 1.05 } else { 1.0 };
        let up = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut shapes = String::new();
        let mut say = |x: f64, y: f64, anchor: &str, what: &str| {
            let what = what.replace('&', "&amp;").replace('<', "&lt;");
            _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>"
            );
        };
        say((LEFT + WIDTH - RIGHT) / 2.0, 18.0, "middle", &self.title);
        say(8.0, 30.0, "start", &self.y);
        for level in ticks(0.0, top) {
            say(LEFT - 6.0, up(level) + 4.0, "end", &number(level));
            rule(&mut shapes, up(level), "#e5e5e5", "");
        }
        let wide = (WIDTH - LEFT - RIGHT) / number_of(self.groups.len().max(1));
        let thin = wide * 0.8 / number_of(self.series.len().max(1));
        for (group, (name, bars)) in self.groups.iter().enumerate() {
            let left = LEFT + wide * (number_of(group) + 0.1);
            say(left + wide * 0.4, HEIGHT - BOTTOM + 16.0, "middle", name);
            for (at, bar) in bars
                .iter()
                .enumerate()
                .filter(|(_, bar)| bar.height.is_finite())
            {
                draw(
                    &mut shapes,
                    left + thin * number_of(at),
                    thin,
                    *bar,
                    at,
                    &up,
                );
            }
        }
        for (at, name) in self.series.iter().enumerate() {
            let y = TOP + 10.0 + 16.0 * number_of(at);
            say(WIDTH - RIGHT + 26.0, y + 4.0, "start", name);
            _ = writeln!(
                shapes,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{}\"/>",
                WIDTH - RIGHT + 10.0,
                y - 5.0,
                colour(at)
            );
        }
        text.push_str(&shapes);
        text.push_str("</svg>\n");
        text
    }
}

fn draw(text: &mut String, left: f64, wide: f64, bar: Bar, at: usize, up: &dyn Fn(f64) -> f64) {
    let (top, middle) = (up(bar.height), left + wide / 2.0);
    _ = writeln!(
        text,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
        wide * 0.92,
        (up(0.0) - top).max(0.0),
        colour(at)
    );
    if bar.half_width.is_finite() && bar.half_width > 0.0 {
        let (low, high) = (
            up((bar.height - bar.half_width).max(0.0)),
            up(bar.height + bar.half_width),
        );
        _ = writeln!(
            text,
            "<path d=\"M{middle:.1} {low:.1}V{high:.1}M{:.1} {high:.1}h6M{:.1} {low:.1}h6\" \
             stroke=\"#222222\" fill=\"none\"/>",
            middle - 3.0,
            middle - 3.0
        );
    }
}

const fn colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_bar_and_intervals_where_there_are_any() {
        let bar = |height, half_width| Bar { height, half_width };
        let bars = Bars {
            title: "a < b".into(),
            y: "ms".into(),
            series: vec!["before".into(), "after".into()],
            groups: vec![
                ("mean".into(), vec![bar(1.0, 0.1), bar(2.0, f64::INFINITY)]),
                ("p95".into(), vec![bar(3.0, 0.0), bar(f64::NAN, 0.0)]),
            ],
        };
        let text = bars.draw();
        assert!(text.contains("a &lt; b") && text.ends_with("</svg>\n"));
        // The background, two keys, three bars.
        assert_eq!(text.matches("<rect").count(), 6);
        assert_eq!(text.matches("stroke=\"#222222\"").count(), 1);
    }
}
