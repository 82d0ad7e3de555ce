//! Instructions for swapping in the repaired directory.

use std::path::Path;

use crate::base::path::{with_suffix, Shell};

/// Returns the steps that replace `index_dir` with `new_dir`. `exists` is true if there is an old
/// directory.
pub(super) fn steps(shell: Shell, index_dir: &Path, new_dir: &Path, exists: bool) -> Vec<String> {
    let rename = shell.rename();
    // Chroma ignores directories that are not named for a segment.
    let aside = with_suffix(index_dir, ".before-repair");
    let [aside, index_dir, new_dir] =
        [&*aside, index_dir, new_dir].map(|path| shell.quote_path(path));
    let mut steps = vec!["stop every program that has the collection open".into()];
    if exists {
        steps.push(format!("{rename} {index_dir} {aside}"));
    }
    steps.push(format!("{rename} {new_dir} {index_dir}"));
    steps.push(match exists {
        true => format!("start Chroma, check the collection, and only then delete {aside}"),
        false => "start Chroma and check the collection".into(),
    });
    steps
}

/// Returns the command that runs an SQL statement on a database.
#[cfg(feature = "database")]
pub(super) fn run_sql(shell: Shell, database: &Path, statement: &str) -> String {
    let database = shell.quote_path(database);
    format!("sqlite3 {database} {}", shell.quote(statement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_its_commands() {
        let (old, new) = (Path::new("my index"), Path::new("new"));
        let posix = steps(Shell::Posix, old, new, true);
        assert_eq!(posix[1], "mv 'my index' 'my index.before-repair'");
        assert_eq!(posix[2], "mv new 'my index'");
        let cmd = steps(Shell::Cmd, old, new, true);
        assert_eq!(cmd[1], r#"move "my index" "my index.before-repair""#);
        assert_eq!(cmd[2], r#"move new "my index""#);
    }

    #[cfg(feature = "database")]
    #[test]
    fn sql_with_a_strangers_segment_id_runs_nothing_else() {
        let sql = "UPDATE t SET a = 1 WHERE id = '$(touch x)`touch x`';";
        assert_eq!(
            run_sql(Shell::Posix, Path::new("chroma.sqlite3"), sql),
            r"sqlite3 chroma.sqlite3 'UPDATE t SET a = 1 WHERE id = '\''$(touch x)`touch x`'\'';'"
        );
        assert_eq!(
            run_sql(Shell::Cmd, Path::new("chroma.sqlite3"), "SELECT '%A%';"),
            r#"sqlite3 chroma.sqlite3 "SELECT '"^%"A"^%"';""#
        );
    }
}
