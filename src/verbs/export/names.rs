//! File names for collections of any name.
//!
//! A collection's name is used unchanged if it is unique, ignoring case, and safe on every system:
//! short, of letters, digits, dots, hyphens and underscores, and not reserved by Windows. Other
//! names have unsafe characters replaced, and the collection's id appended.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::catalog::Collection;

/// Limit on the bytes of a name. File systems allow 255, which the id, a number and the extension
/// must fit into as well.
const MAX_NAME: usize = 150;

/// Limit on the bytes of an id in a name. Chroma's ids are UUIDs of 36 characters.
const MAX_ID: usize = 64;

/// Names that Windows reserves for devices, with any extension. COM and LPT are reserved with a
/// digit.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// Returns a file name without extension for each collection, in order.
pub(super) fn of_files(collections: &[&Collection]) -> Vec<String> {
    let mut holders = BTreeMap::<String, usize>::new();
    for collection in collections {
        *holders.entry(collection.name.to_lowercase()).or_default() += 1;
    }
    let mut taken = BTreeSet::new();
    let is_plain = |name: &str| is_safe(name) && holders.get(&name.to_lowercase()) == Some(&1);
    // Names that are used unchanged have precedence over generated ones.
    for collection in collections {
        if is_plain(&collection.name) {
            taken.insert(collection.name.to_lowercase());
        }
    }
    let mut numbers = BTreeMap::new();
    collections
        .iter()
        .map(|collection| {
            if is_plain(&collection.name) {
                return collection.name.clone();
            }
            let name = safe(&collection.name, MAX_NAME);
            let id = safe(&collection.id, MAX_ID);
            let base = format!("{name}-{id}");
            let mut unique = base.clone();
            // Collections that share both name and id are numbered. The counter is kept, so that
            // many of them do not take quadratic time.
            let number = numbers.entry(base.to_lowercase()).or_insert(1_u64);
            while !taken.insert(unique.to_lowercase()) {
                *number += 1;
                unique = format!("{base}-{number}");
            }
            unique
        })
        .collect()
}

fn is_safe(name: &str) -> bool {
    !name.is_empty() && safe(name, MAX_NAME) == name
}

/// Replaces unsafe characters, and keeps at most `max` characters. All of them are ASCII
/// afterwards, so that characters are bytes.
fn safe(name: &str, max: usize) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut safe: String = name
        .chars()
        .take(max)
        .map(|c| if is_plain(&c) { c } else { '_' })
        .collect();
    let device = safe.split('.').next().unwrap_or_default().to_lowercase();
    let device = device.trim_end_matches(|c: char| c.is_ascii_digit());
    // A leading dot would hide the file, and `..` would leave the directory.
    if safe.starts_with('.') || RESERVED.contains(&device) {
        safe.insert(0, '_');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(name: &str, id: &str) -> Collection {
        Collection {
            rowid: None,
            id: id.into(),
            name: name.into(),
            database: "default_database".into(),
            tenant: "default_tenant".into(),
            dimension: None,
            impossible_dimension: None,
            metadata: Default::default(),
            space: Default::default(),
            space_in_metadata: None,
            vector_segment: None,
            metadata_segment: None,
            m: None,
            ef_construction: None,
            configured_by_rust: false,
            is_lost: false,
        }
    }

    fn names(pairs: &[(&str, &str)]) -> Vec<String> {
        let collections: Vec<_> = pairs
            .iter()
            .map(|(name, id)| collection(name, id))
            .collect();
        of_files(&collections.iter().collect::<Vec<_>>())
    }

    #[test]
    fn safe_names_are_kept() {
        assert_eq!(
            names(&[("articles", "1"), ("edge.name_-", "2"), ("manifest", "3")]),
            ["articles", "edge.name_-", "manifest"]
        );
    }

    #[test]
    fn shared_names_get_the_id_appended() {
        assert_eq!(
            names(&[("a", "1"), ("A", "2"), ("a", "3"), ("b", "4")]),
            ["a-1", "A-2", "a-3", "b"]
        );
    }

    #[test]
    fn names_never_leave_the_directory_or_name_a_device() {
        assert_eq!(
            names(&[
                ("../../etc/passwd", "1"),
                ("", "2"),
                ("..", "3"),
                ("a/b\0c\\d", "../x"),
                ("con", "5"),
                ("COM1.x", "6"),
                (".hidden", "7"),
                ("é", "8"),
            ]),
            [
                "_.._.._etc_passwd-1",
                "-2",
                "_..-3",
                "a_b_c_d-_.._x",
                "_con-5",
                "_COM1.x-6",
                "_.hidden-7",
                "_-8"
            ]
        );
    }

    #[test]
    fn long_names_are_truncated_and_stay_unique() {
        let (long, longer) = ("n".repeat(400), "n".repeat(401));
        let names = names(&[
            (&long, "1"),
            (&longer, "1"),
            (&format!("{}-1", "n".repeat(150)), "9"),
        ]);
        assert_eq!(names[0], format!("{}-1", "n".repeat(150)));
        assert_eq!(names[1], format!("{}-1-2", "n".repeat(150)));
        assert_eq!(names[2], format!("{}-9", "n".repeat(150)));
        assert!(names.iter().all(|name| name.len() < 240));
    }

    #[test]
    fn many_collections_may_share_name_and_id() {
        let same: Vec<_> = (0..20_000).map(|_| collection("a b", "id")).collect();
        let names = of_files(&same.iter().collect::<Vec<_>>());
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert_eq!(
            (names[0].as_str(), names[1].as_str()),
            ("a_b-id", "a_b-id-2")
        );
    }
}
