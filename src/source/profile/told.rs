//! What people are told about a plan: one sentence.

use super::Profile;
use super::SKIP_COLUMN;
use super::plan::{Output, Piece, Plan, Take};

/// Most columns that are named as not carried.
const NAMES_SHOWN_MAX: usize = 20;

impl Plan {
    /// Returns whether it makes a password or a hash.
    fn has_passwords(&self) -> bool {
        let is_one = |name: &str| matches!(name, "password" | "password_hash");
        self.outputs.iter().any(|output| is_one(&output.name))
    }

    /// Returns what the file is read as, what becomes of its columns, and which are not carried;
    /// `names` are the header's, `left` are others that nothing looks at.
    pub fn told(&self, names: &[String], left: &[String]) -> String {
        let mut used = vec![false; names.len()];
        let mut parts = Vec::new();
        for output in &self.outputs {
            let cells = output.cells();
            for cell in &cells {
                if let Some(used) = used.get_mut(*cell) {
                    *used = true;
                }
            }
            let from: Vec<&str> = cells
                .iter()
                .filter_map(|cell| names.get(*cell))
                .map(String::as_str)
                .collect();
            match (output.name.as_str(), from.as_slice()) {
                (SKIP_COLUMN, _) => {}
                (name, [from]) if *from == name => parts.push(name.to_owned()),
                (name, []) => parts.push(format!("{name} from the profile")),
                (name, from) => parts.push(format!("{name} from {}", from.join(", "))),
            }
        }
        let unused = names.iter().zip(used);
        let unused = unused.filter(|(name, used)| !used && !name.is_empty());
        let unused = unused.map(|(name, _)| name);
        let left: Vec<&str> = unused.chain(left).map(String::as_str).collect();
        format!(
            "read as {} export: {}{}",
            with_article(&self.name),
            parts.join(", "),
            not_carried(&left)
        )
    }
}

impl Profile {
    /// Says that an export holds no passwords, when that is so.
    pub fn without_passwords(&self, plan: &Plan) -> Option<String> {
        let built_in = !self.detect.is_empty();
        (built_in && !plan.has_passwords()).then(|| {
            let words = "users come without passwords: the export holds none";
            match self.join {
                Some(_) => format!("{words}; --password-hashes FILE joins them by user id"),
                None => words.to_owned(),
            }
        })
    }
}

fn not_carried(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().copied().take(NAMES_SHOWN_MAX).collect();
    match (shown.as_slice(), names.len() - shown.len()) {
        ([], _) => String::new(),
        (shown, 0) => format!("; not carried: {}", shown.join(", ")),
        (shown, more) => format!("; not carried: {} and {more} more", shown.join(", ")),
    }
}

fn with_article(name: &str) -> String {
    let vowel = name.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

impl Output {
    /// Returns the cells it is made of, each once; conditions are not counted in.
    pub(super) fn cells(&self) -> Vec<usize> {
        let mut cells = match &self.rule.take {
            Take::First(cells) | Take::Join(cells, _) => cells.clone(),
            Take::FirstOrHalf(cells, whole, _) => cells.iter().copied().chain([*whole]).collect(),
            Take::Constant(_) => Vec::new(),
            Take::Template(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Cell(cell, _) => Some(*cell),
                    Piece::Text(_) | Piece::Blank => None,
                })
                .collect(),
            Take::Split(cell, _) => vec![*cell],
            Take::Listed(item, list) => vec![*item, *list],
            Take::Object(members) => members.iter().map(|(_, cell)| *cell).collect(),
            Take::Reason(rules) => rules
                .iter()
                .flat_map(|(_, tests)| tests)
                .filter_map(|test| test.cell)
                .collect(),
        };
        cells.sort_unstable();
        cells.dedup();
        cells
    }
}
