//! The data's text files: one line a system (`numNodes`, `numClasses`, `capacity`) or a chain
//! (`arrival`, `path`, `service`, `resptRatio`, `tputRatio`), numbers with spaces between.

use std::{collections::BTreeSet, str::FromStr};

use super::{ChainSpec, System};

/// Most systems that are read.
const SYSTEMS: usize = 100_000;
/// Most chains of a system, fragments of a chain, devices of a system.
const WIDTH: usize = 256;

/// The texts of the files.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// `numNodes.txt`: devices of each system.
    pub nodes: &'a str,
    /// `numClasses.txt`: chains of each system.
    pub classes: &'a str,
    /// `capacity.txt`: capacities of each system's devices.
    pub capacity: &'a str,
    /// `arrival.txt`: mean time between arrivals of each chain.
    pub arrival: &'a str,
    /// `path.txt`: devices of each chain, counted from 1.
    pub path: &'a str,
    /// `service.txt`: service times of each chain.
    pub service: &'a str,
    /// `resptRatio.txt`: latency ratio of each chain.
    pub latency: &'a str,
    /// `tputRatio.txt`: throughput ratio of each chain.
    pub throughput: &'a str,
}

impl Texts<'_> {
    /// The files' names, in the order of the fields.
    pub const NAMES: [&'static str; 8] = [
        "numNodes.txt",
        "numClasses.txt",
        "capacity.txt",
        "arrival.txt",
        "path.txt",
        "service.txt",
        "resptRatio.txt",
        "tputRatio.txt",
    ];
}

/// What is wrong with the data, with file and line (counted from 1).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct ReadError {
    /// Which file.
    pub file: &'static str,
    /// Which line.
    pub line: usize,
    /// What.
    pub what: String,
}

struct Lines<'a> {
    file: &'static str,
    lines: std::str::Lines<'a>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(file: &'static str, text: &'a str) -> Self {
        Self {
            file,
            lines: text.lines(),
            at: 0,
        }
    }

    fn wrong(&self, what: impl Into<String>) -> ReadError {
        ReadError {
            file: self.file,
            line: self.at,
            what: what.into(),
        }
    }

    fn row<T: FromStr>(&mut self) -> Result<Vec<T>, ReadError> {
        self.at += 1;
        let line = self
            .lines
            .next()
            .ok_or_else(|| self.wrong("the file ends too early"))?;
        let words = line.split_whitespace();
        let row = words
            .take(WIDTH + 1)
            .map(|word| {
                word.parse()
                    .map_err(|_| self.wrong(format!("{word:?} is no number here")))
            })
            .collect::<Result<Vec<T>, _>>()?;
        if WIDTH < row.len() {
            return Err(self.wrong(format!("more than {WIDTH} numbers")));
        }
        Ok(row)
    }

    fn one<T: FromStr + Copy>(&mut self) -> Result<T, ReadError> {
        match self.row()?[..] {
            [only] => Ok(only),
            ref row => Err(self.wrong(format!("{} numbers where one belongs", row.len()))),
        }
    }

    fn amount(&mut self, least: f64) -> Result<f64, ReadError> {
        let value: f64 = self.one()?;
        if value.is_finite() && least <= value {
            Ok(value)
        } else {
            Err(self.wrong(format!("{value} must be finite and at least {least}")))
        }
    }
}

/// Reads at most `most` systems, fewer when the files end.
///
/// # Errors
/// [`ReadError`] for the first thing that is wrong: files that do not fit together, numbers that cannot
/// be, more than 100 000 systems or 256 of anything in one.
pub fn read(texts: &Texts<'_>, most: usize) -> Result<Vec<System>, ReadError> {
    let [
        nodes,
        classes,
        capacity,
        arrival,
        path,
        service,
        latency,
        throughput,
    ] = Texts::NAMES;
    let mut nodes = Lines::new(nodes, texts.nodes);
    let mut classes = Lines::new(classes, texts.classes);
    let mut capacity = Lines::new(capacity, texts.capacity);
    let mut arrival = Lines::new(arrival, texts.arrival);
    let mut path = Lines::new(path, texts.path);
    let mut service = Lines::new(service, texts.service);
    let mut latency = Lines::new(latency, texts.latency);
    let mut throughput = Lines::new(throughput, texts.throughput);
    let count = texts.nodes.lines().count().min(most);
    if SYSTEMS < count {
        return Err(nodes.wrong(format!("{count} systems; at most {SYSTEMS} are read")));
    }
    let mut systems = Vec::with_capacity(count);
    for _ in 0..count {
        let devices: usize = nodes.one()?;
        let capacities: Vec<usize> = capacity.row()?;
        if capacities.len() != devices || capacities.contains(&0) {
            let found = capacities.len();
            return Err(capacity.wrong(format!(
                "{devices} capacities above 0 belong here, not {found}"
            )));
        }
        let width: usize = classes.one()?;
        if !(1..=WIDTH).contains(&width) {
            return Err(classes.wrong(format!("{width} chains; 1 to {WIDTH} are read")));
        }
        let mut chains = Vec::with_capacity(width);
        for _ in 0..width {
            let interarrival = arrival.amount(f64::MIN_POSITIVE)?;
            let visited: Vec<usize> = path.row()?;
            let distinct: BTreeSet<_> = visited.iter().collect();
            let is_known = visited.iter().all(|device| (1..=devices).contains(device));
            if visited.is_empty() || !is_known || distinct.len() != visited.len() {
                return Err(path.wrong(format!("no way over {devices} devices, each once at most")));
            }
            let services: Vec<f64> = service.row()?;
            let is_time = |seconds: &f64| seconds.is_finite() && 0.0 <= *seconds;
            if services.len() != visited.len() || !services.iter().all(is_time) {
                return Err(service.wrong(format!(
                    "{} service times belong here, none negative",
                    visited.len()
                )));
            }
            chains.push(ChainSpec {
                interarrival,
                path: visited.into_iter().map(|device| device - 1).collect(),
                services,
                latency_ratio: latency.amount(0.0)?,
                throughput_ratio: throughput.amount(0.0)?,
            });
        }
        systems.push(System { capacities, chains });
    }
    Ok(systems)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Texts<'static> = Texts {
        nodes: "2\n1\n",
        classes: "1\n2\n",
        capacity: "3 4  \n5\n",
        arrival: "1.5\n2\n3\n",
        path: "2 1\n1 \n1\n",
        service: "0.5 0.25\n1\n0\n",
        latency: "0.5\n1\n1\n",
        throughput: "1\n1\n0.5\n",
    };

    #[test]
    fn files_become_systems() {
        let systems = read(&SOUND, 10).unwrap();
        assert_eq!(systems.len(), 2);
        assert_eq!(systems[0].capacities, [3, 4]);
        assert_eq!(systems[0].chains[0].path, [1, 0]);
        assert_eq!(systems[1].chains[1].throughput_ratio, 0.5);
        assert_eq!(read(&SOUND, 1).unwrap().len(), 1);
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let told = |texts: Texts<'_>| read(&texts, 10).unwrap_err().to_string();
        let cases = [
            (
                Texts {
                    nodes: "2\nx\n",
                    ..SOUND
                },
                "numNodes.txt, line 2",
            ),
            (
                Texts {
                    classes: "1\n",
                    ..SOUND
                },
                "numClasses.txt, line 2: the file ends",
            ),
            (
                Texts {
                    classes: "0\n2\n",
                    ..SOUND
                },
                "numClasses.txt, line 1",
            ),
            (
                Texts {
                    capacity: "3\n5\n",
                    ..SOUND
                },
                "capacity.txt, line 1",
            ),
            (
                Texts {
                    capacity: "3 0\n5\n",
                    ..SOUND
                },
                "capacity.txt, line 1",
            ),
            (
                Texts {
                    arrival: "0\n2\n3\n",
                    ..SOUND
                },
                "arrival.txt, line 1",
            ),
            (
                Texts {
                    arrival: "1\n2 3\n3\n",
                    ..SOUND
                },
                "arrival.txt, line 2",
            ),
            (
                Texts {
                    path: "2 3\n1\n1\n",
                    ..SOUND
                },
                "path.txt, line 1",
            ),
            (
                Texts {
                    path: "2 2\n1\n1\n",
                    ..SOUND
                },
                "path.txt, line 1",
            ),
            (
                Texts {
                    service: "0.5\n1\n1\n",
                    ..SOUND
                },
                "service.txt, line 1",
            ),
            (
                Texts {
                    service: "0.5 -1\n1\n1\n",
                    ..SOUND
                },
                "service.txt, line 1",
            ),
            (
                Texts {
                    latency: "NaN\n1\n1\n",
                    ..SOUND
                },
                "resptRatio.txt, line 1",
            ),
            (
                Texts {
                    throughput: "1\n1\n",
                    ..SOUND
                },
                "tputRatio.txt, line 3",
            ),
        ];
        for (texts, expected) in cases {
            let told = told(texts);
            assert!(told.starts_with(expected), "{told} / {expected}");
        }
        let wide = "1 ".repeat(WIDTH + 1);
        assert!(
            told(Texts {
                capacity: &wide,
                ..SOUND
            })
            .contains("more than")
        );
    }
}
