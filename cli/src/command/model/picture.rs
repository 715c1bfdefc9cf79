//! A picture of a network in the terminal: what crosses, and what is computed, from input to output.

use splitplace_graph::Graph;

/// Eighths of a block, from nothing to full.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Rows of each curve.
const ROWS: usize = 4;

/// Curves of the bytes that cross between layers (the most of each column) and of the
/// multiply-accumulates (the sum of each column), both from nothing to their largest.
pub(super) fn draw(graph: &Graph, width: usize) -> String {
    let count = graph.layers().len();
    if count == 0 || width == 0 {
        return String::new();
    }
    let width = width.min(count);
    let mut bytes = vec![0u64; width];
    let mut macs = vec![0u64; width];
    for position in 0..count {
        let column = position * width / count;
        let crossing = graph.prefix_cut(position + 1);
        let crossing = crossing.map_or(0, |cut| cut.bytes(graph));
        bytes[column] = bytes[column].max(crossing);
        macs[column] = macs[column].saturating_add(graph.layers()[position].macs);
    }
    let largest = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
    let (most_bytes, most_macs) = (largest(&bytes), largest(&macs));
    format!(
        "bytes that cross, at most {}\n{}multiply-accumulates, at most {} in a column\n{}{}\ninput{}output\n",
        crate::output::bytes(most_bytes),
        curve(&bytes),
        super::macs(most_macs),
        curve(&macs),
        "─".repeat(width),
        " ".repeat(width.saturating_sub("inputoutput".len())),
    )
}

fn curve(values: &[u64]) -> String {
    let largest = values.iter().copied().max().unwrap_or(0).max(1);
    let eighths = |value: u64| {
        let full = (ROWS * 8) as u128;
        usize::try_from((u128::from(value) * full).div_ceil(u128::from(largest))).unwrap_or(0)
    };
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        let line: String = values
            .iter()
            .map(|&value| BLOCKS[eighths(value).saturating_sub(row * 8).min(8)])
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fills_its_column_and_nothing_stays_empty() {
        let text = curve(&[0, 1, 32]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["  █", "  █", "  █", " ▁█"]);
    }
}
