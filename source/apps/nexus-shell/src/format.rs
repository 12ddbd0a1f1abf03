//! Figures and tables as text.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::limits::PAGE_SIZE;

/// Pages as KiB or MiB.
pub fn pages(pages: u64) -> String {
    let kib = pages.saturating_mul(PAGE_SIZE as u64) / 1024;
    if kib < 10 * 1024 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1024) }
}

/// A time as seconds, minutes or hours.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{:03} s", duration.subsec_millis()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min {} s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Rows as columns, each as wide as its widest cell; the first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(pages(3), "12 KiB");
        assert_eq!(pages(32_768), "128 MiB");
        assert_eq!(time(Duration::from_millis(1_234)), "1.234 s");
        assert_eq!(time(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(time(Duration::from_secs(3_725)), "1 h 2 min 5 s");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| vec![String::from(a), String::from(b)];
        assert_eq!(table(&[row("PID", "NAME"), row("12345", "x")]), "PID    NAME\n12345  x\n");
        assert_eq!(table(&[]), "");
    }
}
