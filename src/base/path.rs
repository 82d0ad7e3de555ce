//! Escapes paths for display, and quotes them for shells.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Formats a path on one line. Control characters, and characters that change the writing
/// direction, become escapes such as `\n` and `\u{1b}`. Bytes that are not UTF-8 become `\xFF`.
///
/// A file name may contain any of them. Printed raw, they could move a terminal's cursor or forge a
/// line of a log. Every [`Error`](crate::Error) formats its paths this way.
///
/// ```
/// let shown = hnsw_toolbox::display_path("index\u{1b}[2J\n.parquet".as_ref());
/// assert_eq!(shown.to_string(), r"index\u{1b}[2J\n.parquet");
/// ```
pub fn display_path(path: &Path) -> impl fmt::Display + '_ {
    DisplayPath(path)
}

/// Appends text to the last part of a path.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
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

/// Shell for which printed commands are quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Any POSIX shell.
    Posix,
    /// `cmd.exe`, at its prompt. A batch file would need `%%` for `%`.
    Cmd,
}

impl Shell {
    /// The shell of this system.
    #[must_use]
    pub fn of_system() -> Self {
        match cfg!(windows) {
            true => Self::Cmd,
            false => Self::Posix,
        }
    }

    /// Command that renames a file or a directory.
    pub(crate) fn rename(self) -> &'static str {
        match self {
            Self::Posix => "mv",
            Self::Cmd => "move",
        }
    }

    /// Quotes a path as one argument of a command.
    #[must_use]
    pub fn quote_path(self, path: &Path) -> String {
        let path = path.as_os_str();
        match self {
            // A leading `-` would make it an option.
            Self::Posix if path.as_encoded_bytes().starts_with(b"-") => {
                let mut relative = OsStr::new("./").to_owned();
                relative.push(path);
                self.quote(&relative)
            }
            _ => self.quote(path),
        }
    }

    /// Quotes text as one argument of a command. Characters that act on a terminal are escaped.
    #[must_use]
    pub fn quote(self, text: impl AsRef<OsStr>) -> String {
        let text = text.as_ref();
        match self {
            Self::Posix => quote_for_posix(text.as_encoded_bytes()),
            Self::Cmd => quote_for_cmd(&display_path(Path::new(text)).to_string()),
        }
    }
}

fn quote_for_posix(bytes: &[u8]) -> String {
    let hidden = |character: char| character.is_control() || changes_direction(character);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
        if !text.is_empty() && text.chars().all(is_plain) {
            return text.to_string();
        }
        if text.contains('\'') && !text.contains(|c| hidden(c) || "\"$`\\!".contains(c)) {
            return format!("\"{text}\"");
        }
        if !text.contains(hidden) {
            return format!("'{}'", text.replace('\'', r"'\''"));
        }
    }
    // A format for printf, because not every shell has $'…'. The shell drops a trailing newline;
    // with a slash after it, the path leads to the same directory.
    let mut format = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '%' => format.push_str("%%"),
                '\\' => format.push_str(r"\\"),
                '\'' => format.push_str(r"\047"),
                character if hidden(character) => {
                    let mut buffer = [0; 4];
                    octal(character.encode_utf8(&mut buffer).as_bytes(), &mut format);
                }
                character => format.push(character),
            }
        }
        octal(chunk.invalid(), &mut format);
    }
    if bytes.ends_with(b"\n") {
        format.push('/');
    }
    format!("\"$(printf '{format}')\"")
}

/// Appends bytes as octal escapes of printf.
fn octal(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push_str(&format!("\\{byte:03o}"));
    }
}

fn quote_for_cmd(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || r"\/._-+:".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_string();
    }
    // A caret between quotes stops the expansion of variables, and programs read two quotes as one.
    let text = text.replace('"', "\"\"").replace('%', "\"^%\"");
    format!("\"{text}\"")
}

/// Returns true for characters that disguise the text after them: line separators, and the marks,
/// embeddings, overrides and isolates of the Unicode bidirectional algorithm.
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
    fn ordinary_paths_are_not_escaped() {
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
    fn a_shell_reads_a_quoted_path_unchanged() {
        use std::os::unix::ffi::OsStrExt;

        let directory = tempfile::tempdir().unwrap();
        for name in [
            &b"plain-1.2_3"[..],
            b"two words",
            b"it's",
            b"$(touch x) `touch x` \"$HOME\" \\",
            b"-rf",
            b"~",
            b"100%d \x1b[31m\n",
            b"a\nb'c\\d",
            "näive \u{202e}数据".as_bytes(),
            b"latin-1 \xe9\xff",
            b"\x01",
            b"*?[a]{b,c};&|<>()#!",
        ] {
            let path = Path::new(OsStr::from_bytes(name));
            std::fs::create_dir(directory.path().join(path)).unwrap();
            let quoted = Shell::Posix.quote_path(path);
            assert!(!quoted.contains(char::is_control), "{quoted:?}");
            let removed = std::process::Command::new("sh")
                .args(["-c", &format!("rmdir {quoted}")])
                .current_dir(directory.path())
                .status()
                .unwrap();
            assert!(removed.success(), "{quoted}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn cmd_paths_are_quoted_for_cmd() {
        for (path, quoted) in [
            (r"C:\chroma\new", r"C:\chroma\new"),
            (r"C:\my chroma", r#""C:\my chroma""#),
            (r"C:\it's & that", r#""C:\it's & that""#),
            (r"C:\100%TEMP%", r#""C:\100"^%"TEMP"^%"""#),
            ("", r#""""#),
        ] {
            assert_eq!(Shell::Cmd.quote_path(Path::new(path)), quoted);
        }
        assert_eq!(Shell::Cmd.quote("a \"b\""), r#""a ""b""""#);
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf_8_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(b"a\xFFb\xC3");
        assert_eq!(display_path(path.as_ref()).to_string(), "a\\xFFb\\xC3");
    }
}
