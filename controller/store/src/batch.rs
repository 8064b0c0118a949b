//! Statements about many rows at once: a round trip for each would cost more than all else.

use std::fmt::Write as _;

/// `items` in pieces, each for one statement. Their lengths are powers of two, so that there are few different statements,
/// which connections remember prepared.
pub(crate) fn pieces<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let most = rest.len().min(ROWS_MAX);
        let length = 1 << most.checked_ilog2()?;
        let (piece, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(piece)
    })
}

/// `(VALUES ($1, $2), ($3, $4))`: a table in a statement, whose columns are called `column1`, `column2` and so on.
pub(crate) fn rows(rows: usize, columns: usize) -> String {
    let mut text = "(VALUES ".to_owned();
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            let comma = if column == 1 { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}${}", row * columns + column);
        }
        text.push(')');
    }
    text.push(')');
    text
}

/// Rows in one statement: six values each are far fewer than engines take (32,766), and more rows would save nothing.
const ROWS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_of_it_and_of_few_lengths() {
        let items: Vec<usize> = (0..1_003).collect();
        for length in [0, 1, 2, 3, 255, 256, 257, 1_003] {
            let all: Vec<&[usize]> = pieces(&items[..length]).collect();
            assert_eq!(all.concat(), items[..length]);
            let fits = |piece: &&[usize]| piece.len().is_power_of_two() && piece.len() <= ROWS_MAX;
            assert!(all.iter().all(fits), "{length}");
        }
    }

    #[test]
    fn each_value_has_a_number_of_its_own() {
        assert_eq!(rows(2, 3), "(VALUES ($1, $2, $3), ($4, $5, $6))");
    }
}
