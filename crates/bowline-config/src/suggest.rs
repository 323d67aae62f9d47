//! "Did you mean": the nearest of the names that would have been right.

/// The nearest candidate, if it is near enough to be a slip of the pen: an edit for every three letters, at least one.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The mend for a wrong name: the nearest right one, or all of them if they are few.
pub(crate) fn hint(name: &str, candidates: &[&str]) -> String {
    if let Some(near) = nearest(name, candidates) {
        return format!("did you mean `{near}`?");
    }
    match candidates {
        [] => "nothing can be set here".into(),
        few if few.len() <= 12 => format!("use one of {}", list(few)),
        many => format!("use one of {} and {} more", list(&many[..12]), many.len() - 12),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Optimal string alignment: insertions, deletions, substitutions, and swaps of neighbours, one each.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["addr", "timeout", "max_body"];
        assert_eq!(nearest("adrr", &names), Some("addr"));
        assert_eq!(nearest("timeuot", &names), Some("timeout"));
        assert_eq!(nearest("max-body", &names), Some("max_body"));
        assert_eq!(nearest("Addr", &names), Some("addr"));
        assert_eq!(nearest("zone", &names), None);
        assert_eq!(hint("zone", &names), "use one of `addr`, `timeout`, `max_body`");
    }
}
