//! Systems as the text files that they are read from. Numbers come back as they were.

use std::fmt::Write as _;

use super::{System, Texts};

/// The files by name, in the order of [`Texts::NAMES`].
#[must_use]
pub fn write(systems: &[System]) -> [(&'static str, String); 8] {
    let mut texts: [String; 8] = Default::default();
    for system in systems {
        line(&mut texts[0], [system.capacities.len()]);
        line(&mut texts[1], [system.chains.len()]);
        line(&mut texts[2], &system.capacities);
        for chain in &system.chains {
            line(&mut texts[3], [chain.interarrival]);
            line(&mut texts[4], chain.path.iter().map(|device| device + 1));
            line(&mut texts[5], &chain.services);
            line(&mut texts[6], [chain.latency_ratio]);
            line(&mut texts[7], [chain.throughput_ratio]);
        }
    }
    let mut texts = texts.into_iter();
    Texts::NAMES.map(|name| (name, texts.next().unwrap_or_default()))
}

fn line<T: std::fmt::Display>(text: &mut String, numbers: impl IntoIterator<Item = T>) {
    for (at, number) in numbers.into_iter().enumerate() {
        let gap = if at == 0 { "" } else { " " };
        _ = write!(text, "{gap}{number}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, chainnet::read};

    #[test]
    fn what_is_written_is_read_again() {
        let systems: Vec<System> = (0..20)
            .map(|number| System::draw(Seed(3), number).labelled(500, Seed(4)))
            .collect();
        let files = write(&systems);
        let text = |at: usize| &files[at].1[..];
        let texts = Texts {
            nodes: text(0),
            classes: text(1),
            capacity: text(2),
            arrival: text(3),
            path: text(4),
            service: text(5),
            latency: text(6),
            throughput: text(7),
        };
        assert_eq!(read(&texts, usize::MAX).unwrap(), systems);
    }
}
