//! Paths for people.

use std::fmt::{self, Write};
use std::path::Path;

/// Shows a path on one line: control characters, and characters that change the direction of
/// writing, appear as escapes such as `\n` and `\u{1b}`, and bytes that are not UTF-8 as `\xFF`.
///
/// A file name may hold any of them. Printed as they are, they could move a terminal's cursor or
/// forge a line of a log. Every [`Error`](crate::Error) shows its paths this way.
///
/// ```
/// let shown = hnsw_toolbox::display_path("index\u{1b}[2J\n.parquet".as_ref());
/// assert_eq!(shown.to_string(), r"index\u{1b}[2J\n.parquet");
/// ```
pub fn display_path(path: &Path) -> impl fmt::Display + '_ {
    DisplayPath(path)
}

struct DisplayPath<'a>(&'a Path);

impl fmt::Display for DisplayPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() || changes_direction(character) {
                    write!(f, "{}", character.escape_debug())?;
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// Whether the character makes what follows look like something else: line separators, and the
/// marks, embeddings, overrides and isolates of the Unicode bidirectional algorithm.
fn changes_direction(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_shown_as_they_are() {
        for path in ["/data/in.parquet", "C:\\data", "näive/数据", "a b", ""] {
            assert_eq!(display_path(Path::new(path)).to_string(), path);
        }
    }

    #[test]
    fn characters_that_act_on_a_terminal_are_escaped() {
        for (path, shown) in [
            ("a\u{1b}]0;title\u{7}", "a\\u{1b}]0;title\\u{7}"),
            ("a\r\n\tb", "a\\r\\n\\tb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("gpj\u{202e}.exe", "gpj\\u{202e}.exe"),
        ] {
            assert_eq!(display_path(Path::new(path)).to_string(), shown);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf_8_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(b"a\xFFb\xC3");
        assert_eq!(display_path(path.as_ref()).to_string(), "a\\xFFb\\xC3");
    }
}
