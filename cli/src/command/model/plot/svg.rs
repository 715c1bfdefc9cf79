//! A chart as SVG: axes, series, labels that keep out of each other's way, a legend. Pure.

use std::fmt::Write as _;

/// Size of the picture and of the margins around the axes, in pixels.
const SIZE: [f64; 2] = [760.0, 460.0];
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 52.0;
/// Height of a line of text, and width of a letter.
const LINE: f64 = 14.0;
const LETTER: f64 = 6.4;
/// Readable for most people with any kind of colour vision (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444",
];

/// A chart with percent on its vertical axis.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    /// Of the horizontal axis.
    pub(super) is_logarithmic: bool,
    pub(super) series: Vec<Series>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) mark: Mark,
    pub(super) points: Vec<Point>,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Dots,
    Diamonds,
    Line,
}

/// A point, with a text beside it if there is one.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) label: String,
}

/// From values to places along one axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let mut ticks = Vec::new();
            let mut decade = 10f64.powf(self.low.log10().floor());
            while decade <= self.high {
                let within = [1.0, 2.0, 5.0].map(|step| step * decade);
                ticks.extend(
                    within
                        .into_iter()
                        .filter(|t| (self.low..=self.high).contains(t)),
                );
                decade *= 10.0;
            }
            return ticks;
        }
        let step = step((self.high - self.low) / 7.0);
        let first = (self.low / step).ceil();
        let count = ((self.high / step).floor() - first).clamp(0.0, 20.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 20"
        )]
        let count = count as u32;
        (0..=count)
            .map(|at| (first + f64::from(at)) * step)
            .collect()
    }
}

/// The next of 1, 2, 5, 10, … above a number.
fn step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    steps
        .into_iter()
        .find(|step| least <= *step)
        .unwrap_or(decade)
}

/// A place that is taken: left, top, right, bottom.
type Taken = [f64; 4];

fn meets(a: &Taken, b: &Taken) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

impl Chart {
    /// The whole file.
    pub(super) fn draw(&self) -> String {
        let [width, height] = SIZE;
        let legend = LINE * 1.3 * self.series.len().div_ceil(2) as f64 + LINE;
        let bottom = height - BOTTOM;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
            height + legend
        );
        let (x, y) = self.axes(bottom);
        write_text(
            &mut text,
            (LEFT, 20.0),
            "start",
            &self.title,
            "font-weight=\"bold\" font-size=\"14\"",
        );
        grid(&mut text, &x, &y);
        let middle = f64::midpoint(LEFT, width - RIGHT);
        write_text(&mut text, (middle, bottom + 38.0), "middle", &self.x, "");
        let half = f64::midpoint(TOP, bottom);
        let turn = format!("transform=\"rotate(-90 16 {half:.0})\"");
        write_text(&mut text, (16.0, half), "middle", &self.y, &turn);
        let mut taken: Vec<Taken> = Vec::new();
        for point in self.series.iter().flat_map(|series| &series.points) {
            let (px, py) = (x.place(point.x), y.place(point.y));
            taken.push([px - 5.0, py - 5.0, px + 5.0, py + 5.0]);
        }
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            draw_series(&mut text, series, colour, &x, &y);
        }
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            for point in series.points.iter().filter(|point| !point.label.is_empty()) {
                let at = (x.place(point.x), y.place(point.y));
                let place = free(&point.label, at, &mut taken, bottom);
                let fill = format!("fill=\"{colour}\"");
                write_text(&mut text, place, "start", &point.label, &fill);
            }
            let column = if number % 2 == 0 { LEFT } else { middle };
            let row = height + LINE * 1.3 * (number / 2) as f64 + LINE / 2.0;
            draw_mark(&mut text, series.mark, colour, (column + 6.0, row - 4.0));
            write_text(&mut text, (column + 18.0, row), "start", &series.name, "");
        }
        text.push_str("</svg>\n");
        text
    }

    fn axes(&self, bottom: f64) -> (Axis, Axis) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let bounds = |of: fn(&Point) -> f64| {
            points()
                .map(of)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(value), high.max(value))
                })
        };
        let or_unit = |(low, high): (f64, f64)| match low <= high {
            true => (low, high),
            false => (0.0, 1.0),
        };
        let (x_low, x_high) = or_unit(bounds(|point| point.x));
        let (y_low, y_high) = or_unit(bounds(|point| point.y));
        let margin = ((y_high - y_low) * 0.08).max(0.05);
        let x = Axis {
            low: match self.is_logarithmic {
                true => (x_low / 1.2).max(f64::MIN_POSITIVE),
                false => 0.0,
            },
            high: match self.is_logarithmic {
                true => (x_high * 1.2).max(x_low / 1.2 * 2.0),
                false => (x_high * 1.1).max(1e-9),
            },
            from: LEFT,
            to: SIZE[0] - RIGHT,
            is_logarithmic: self.is_logarithmic,
        };
        let y = Axis {
            low: y_low - margin,
            high: y_high + margin,
            from: bottom,
            to: TOP,
            is_logarithmic: false,
        };
        (x, y)
    }
}

fn grid(text: &mut String, x: &Axis, y: &Axis) {
    let line = |text: &mut String, from: (f64, f64), to: (f64, f64), colour: &str| {
        let _ = writeln!(
            text,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
            from.0, from.1, to.0, to.1
        );
    };
    for tick in x.ticks() {
        let at = x.place(tick);
        line(text, (at, y.from), (at, y.to), "#e5e5e5");
        write_text(text, (at, y.from + 18.0), "middle", &number(tick), "");
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        line(text, (x.from, at), (x.to, at), "#e5e5e5");
        write_text(text, (x.from - 8.0, at + 4.0), "end", &number(tick), "");
    }
    line(text, (x.from, y.from), (x.to, y.from), "#444444");
    line(text, (x.from, y.from), (x.from, y.to), "#444444");
}

fn number(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{} M", n / 1e6),
        n if n >= 1e4 => format!("{} k", n / 1e3),
        n => format!("{}", (n * 1e4).round() / 1e4),
    }
}

fn draw_series(text: &mut String, series: &Series, colour: &str, x: &Axis, y: &Axis) {
    let places: Vec<(f64, f64)> = series
        .points
        .iter()
        .map(|point| (x.place(point.x), y.place(point.y)))
        .collect();
    if series.mark == Mark::Line {
        let path: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            path.join(" ")
        );
    }
    for place in places {
        let mark = match series.mark {
            Mark::Line => Mark::Dots,
            other => other,
        };
        draw_mark(text, mark, colour, place);
    }
}

fn draw_mark(text: &mut String, mark: Mark, colour: &str, (x, y): (f64, f64)) {
    let _ = match mark {
        Mark::Dots => writeln!(
            text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\" fill-opacity=\"0.85\"/>"
        ),
        Mark::Diamonds => writeln!(
            text,
            "<path d=\"M{:.1} {y:.1} L{x:.1} {:.1} L{:.1} {y:.1} L{x:.1} {:.1} Z\" fill=\"{colour}\"/>",
            x - 6.0,
            y - 6.0,
            x + 6.0,
            y + 6.0
        ),
        Mark::Line => writeln!(
            text,
            "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" \
             stroke-width=\"2\"/>",
            x - 8.0,
            x + 8.0
        ),
    };
}

/// A place beside a point where a text meets nothing that is there, if there is one near.
fn free(label: &str, (x, y): (f64, f64), taken: &mut Vec<Taken>, bottom: f64) -> (f64, f64) {
    let width = LETTER * label.chars().count() as f64;
    let right = SIZE[0] - RIGHT;
    let mut tried = Vec::new();
    for rise in [0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0, -4.0, 4.0] {
        for left in [x + 8.0, x - 8.0 - width, x - width / 2.0] {
            let base = y + 4.0 + rise * LINE;
            let place = [left, base - LINE + 3.0, left + width, base + 3.0];
            let is_inside =
                LEFT <= left && place[2] <= right && TOP <= place[1] && place[3] <= bottom;
            if is_inside {
                tried.push(place);
            }
        }
    }
    let is_free = |place: &&Taken| !taken.iter().any(|other| meets(place, other));
    let place = tried.iter().find(is_free).or(tried.first()).copied();
    let place = place.unwrap_or([x + 8.0, y - LINE, x + 8.0 + width, y]);
    taken.push(place);
    (place[0], place[3] - 3.0)
}

fn write_text(text: &mut String, (x, y): (f64, f64), anchor: &str, content: &str, more: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)], is_logarithmic: bool) -> Chart {
        let points = points.iter().map(|&(x, y)| Point {
            x,
            y,
            label: "a <b>".into(),
        });
        Chart {
            title: "t".into(),
            x: "x".into(),
            y: "y".into(),
            is_logarithmic,
            series: vec![Series {
                name: "s".into(),
                mark: Mark::Line,
                points: points.collect(),
            }],
        }
    }

    #[test]
    fn any_points_make_a_picture_without_strange_numbers() {
        let many = [(1.0, 90.0), (1.0, 90.0), (1e6, 95.0)];
        for points in [&[][..], &[(0.0, 0.0)], &[(5.0, 93.0)], &many] {
            for is_logarithmic in [false, true] {
                let text = chart(points, is_logarithmic).draw();
                assert!(text.ends_with("</svg>\n"));
                assert!(!text.contains("NaN") && !text.contains("inf\""), "{text}");
                assert!(!text.contains("<b>"));
            }
        }
    }

    #[test]
    fn labels_keep_out_of_each_others_way() {
        let mut taken = Vec::new();
        for _ in 0..5 {
            free("label", (300.0, 200.0), &mut taken, 400.0);
        }
        for (at, one) in taken.iter().enumerate() {
            assert!(
                !taken[..at].iter().any(|other| meets(one, other)),
                "{taken:?}"
            );
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis {
            low: 0.0,
            high: 31.8,
            from: 0.0,
            to: 1.0,
            is_logarithmic: false,
        };
        assert_eq!(axis.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
        let axis = Axis {
            low: 300.0,
            high: 2500.0,
            is_logarithmic: true,
            ..axis
        };
        assert_eq!(axis.ticks(), [500.0, 1000.0, 2000.0]);
    }
}
