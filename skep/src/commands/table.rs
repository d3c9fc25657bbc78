//! Columns for people.

/// `rows` under `head`, each column as wide as its widest cell; empty cells are dashes.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let lines: Vec<Vec<String>> = std::iter::once(&head)
        .chain(rows)
        .map(|row| {
            assert_eq!(row.len(), head.len(), "{row:?} does not fit under {head:?}");
            row.iter().map(|text| cell(text)).collect()
        })
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out += padded.join("  ").trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(&["A", "LONG", "C"], &[row(["wide cell", "", "x"]), row(["ü", "y", ""])]);
        assert_eq!(text, "A          LONG  C\nwide cell  -     x\nü          y     -\n");
    }
}
