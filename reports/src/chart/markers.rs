//! Labels of moments above a plot, none over another and none cut off.

use plotters::style::text_anchor::HPos;

use super::timeline::Marker;
use super::{LEFT, RIGHT, WIDTH, px, text_px};

/// More rows of labels than this push the plot out of sight.
const ROWS_MAX: usize = 5;

/// The size of the labels, in user units.
pub(super) const SIZE: i32 = 12;

/// Between a line and its label, and between two labels; in pixels of plotters.
const GAP: i32 = 16;

/// Where the labels of some markers stand.
pub(super) struct Placement {
    pub(super) labels: Vec<Label>,
    /// How many rows they take.
    pub(super) rows: usize,
    /// What the numbers mean, where there was no room for words.
    pub(super) key: Vec<String>,
}

/// A label beside the top of its marker's line.
pub(super) struct Label {
    /// Where the line is, in pixels of plotters.
    pub(super) x: i32,
    /// Which row the text stands in, and at which the line starts: zero is the top.
    pub(super) row: usize,
    pub(super) text: String,
    /// Which end of the text is at the line.
    pub(super) anchor: HPos,
}

/// Places the words of markers that are at the given pixels; numbers, if there is no room; lines alone, if not even that.
pub(super) fn place(markers: &[(i32, Marker)]) -> Placement {
    let words = || markers.iter().map(|(x, marker)| (*x, marker.text.clone()));
    let numbers = || markers.iter().enumerate().map(|(index, (x, _))| (*x, (index + 1).to_string()));
    if let Some(labels) = in_rows(words()) {
        return Placement { rows: rows(&labels), labels, key: Vec::new() };
    }
    let key = numbers().zip(markers).map(|((_, number), (_, marker))| format!("{number}  {}", marker.text));
    if let Some(labels) = in_rows(numbers()) {
        return Placement { rows: rows(&labels), labels, key: key.collect() };
    }
    let bare = |(x, _): &(i32, Marker)| Label { x: *x, row: 0, text: String::new(), anchor: HPos::Left };
    Placement { labels: markers.iter().map(bare).collect(), rows: 1, key: Vec::new() }
}

fn rows(labels: &[Label]) -> usize {
    labels.iter().map(|label| label.row + 1).max().unwrap_or(0)
}

/// Gives each text, from left to right, the highest row in which it touches neither a text nor a line.
fn in_rows(texts: impl Iterator<Item = (i32, String)>) -> Option<Vec<Label>> {
    let mut placed: Vec<(Label, std::ops::Range<i32>)> = Vec::new();
    for (x, text) in texts {
        let width = text_px(&text, SIZE) + GAP;
        let right = x + width <= px(WIDTH - RIGHT / 2);
        let extent = if right { x..x + width } else { x - width..x };
        if !right && extent.start < px(LEFT) {
            return None;
        }
        let free = |row: &usize| {
            placed.iter().all(|(other, taken)| {
                let texts_apart = other.row != *row || taken.end < extent.start || extent.end < taken.start;
                let line_passes_beside = other.row < *row || !taken.contains(&x);
                let beside_line = other.row > *row || !(extent.start < other.x && other.x < extent.end);
                texts_apart && line_passes_beside && beside_line
            })
        };
        let row = (0..ROWS_MAX).find(free)?;
        let anchor = if right { HPos::Left } else { HPos::Right };
        placed.push((Label { x, row, text, anchor }, extent));
    }
    Some(placed.into_iter().map(|(label, _)| label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markers(places: &[i32], text: &str) -> Vec<(i32, Marker)> {
        places.iter().map(|&x| (x, Marker { at: 0.0, text: text.into() })).collect()
    }

    #[test]
    fn labels_that_would_touch_stand_in_rows_of_their_own() {
        let placement = place(&markers(&[px(100), px(120), px(140), px(700)], "key-2 published, active"));
        assert_eq!(placement.labels.iter().map(|label| label.row).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(placement.rows, 3);
    }

    #[test]
    fn a_label_at_the_right_end_stands_left_of_its_line() {
        let placement = place(&markers(&[px(WIDTH - RIGHT - 2)], "key-2 published"));
        assert!(matches!(placement.labels[0].anchor, HPos::Right));
    }

    #[test]
    fn without_room_for_words_there_are_numbers_with_a_key() {
        let many: Vec<i32> = (0..20).map(|index| px(100 + 40 * index)).collect();
        let placement = place(&markers(&many, "key-2 published, active; key-1 removed"));
        assert_eq!(placement.labels[6].text, "7");
        assert_eq!(placement.key[6], "7  key-2 published, active; key-1 removed");
    }

    #[test]
    fn without_room_for_numbers_there_are_lines() {
        let many: Vec<i32> = (0..2_000).map(|index| px(100) + index).collect();
        let placement = place(&markers(&many, "x"));
        assert!(placement.labels.iter().all(|label| label.text.is_empty()));
        assert!(placement.key.is_empty());
    }
}
