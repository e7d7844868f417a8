//! Columns of text, aligned.

/// Returns `rows` under `head`, each column as wide as its widest cell.
pub fn aligned(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = line(&widths, head.iter().copied());
    for row in rows {
        out.push_str(&line(&widths, row.iter().map(String::as_str)));
    }
    out
}

fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let padded: Vec<String> = widths
        .iter()
        .zip(cells)
        .map(|(width, cell)| format!("{cell:<width$}"))
        .collect();
    let mut out = padded.join("  ").trim_end().to_owned();
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "12".to_owned()]];
        assert_eq!(aligned(&["job", "n"], &rows), "job  n\na    12\n");
    }
}
