//! What is left to do once the new directory is there.

use std::path::{Path, PathBuf};

/// How Chroma gets to use the new directory, in the place of the old one if there is one.
pub(super) fn steps(index_dir: &Path, new_dir: &Path, exists: bool) -> Vec<String> {
    let aside = aside(index_dir);
    let mut steps = vec!["stop every program that has the collection open".into()];
    if exists {
        steps.push(format!("mv {} {}", quoted(index_dir), quoted(&aside)));
    }
    steps.push(format!("mv {} {}", quoted(new_dir), quoted(index_dir)));
    steps.push(match exists {
        true => format!(
            "start Chroma, check the collection, and only then delete {}",
            quoted(&aside)
        ),
        false => "start Chroma and check the collection".into(),
    });
    steps
}

/// Where the old directory is kept: Chroma ignores directories that no segment has the name of.
fn aside(index_dir: &Path) -> PathBuf {
    let mut name = index_dir.as_os_str().to_owned();
    name.push(".before-repair");
    name.into()
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain && !path.is_empty() {
        path
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
