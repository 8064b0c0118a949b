//! Tables for terminals.

/// Lays rows out under a head, columns as wide as their widest cell.
pub(super) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Lays names and values out in two columns.
pub(super) fn fields(pairs: &[(String, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| format!("{}\n", format!("{name:<width$}  {value}").trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let rows = [
            vec!["1".to_owned(), "alpha".to_owned()],
            vec!["200".to_owned(), String::new()],
        ];
        assert_eq!(
            columns(&["ID", "NAME"], &rows),
            "ID   NAME\n1    alpha\n200\n"
        );
        assert_eq!(columns(&["ID", "NAME"], &[]), "ID  NAME\n");
    }

    #[test]
    fn fields_line_up() {
        let pairs = [
            ("id".to_owned(), "1".to_owned()),
            ("status".to_owned(), "ACTIVE".to_owned()),
        ];
        assert_eq!(fields(&pairs), "id      1\nstatus  ACTIVE\n");
    }
}
