//! Generated files: shell completions and manual pages.

use std::process::{Command, Output};

use crate::support::{names, BINARY};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

#[track_caller]
fn printed(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.is_empty(), "{error}");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands listed by `--help`.
fn commands() -> Vec<String> {
    let help = printed(run(&["--help"]));
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let lines = list.lines().filter_map(|line| line.strip_prefix("  "));
    let mut commands: Vec<_> = lines
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(String::from)
        .collect();
    commands.sort();
    commands
}

#[test]
fn every_shell_gets_commands_options_and_values() {
    for shell in SHELLS {
        let script = printed(run(&["completions", shell]));
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("salvage"), "{shell}");
        // PowerShell and elvish do not complete values.
        if !["elvish", "powershell"].contains(&shell) {
            assert!(script.contains("arrow_ipc"), "{shell}");
        }
    }
    let output = run(&["completions", "cmd"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cmd"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_the_names_of_formats() {
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("script");
    std::fs::write(&script, printed(run(&["completions", "bash"]))).unwrap();
    let completed = Command::new("bash")
        .args(["--norc", "-c"])
        .arg(
            // `complete -p` ends with the function and the command.
            "source \"$1\"; words=($(complete -p hnsw-toolbox)); \
             COMP_WORDS=(hnsw-toolbox extract --format a); COMP_CWORD=3; \
             \"${words[-2]}\" hnsw-toolbox a --format; echo \"${COMPREPLY[@]}\"",
        )
        .arg("bash")
        .arg(&script)
        .output()
        .unwrap();
    assert_eq!(printed(completed), "arrow_ipc\n");
}

#[test]
fn each_command_has_a_manual_page() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("new/man1");
    for _ in 0..2 {
        assert_eq!(printed(run(&["man", dir.to_str().unwrap()])), "");
    }
    let mut expected = vec!["hnsw-toolbox.1".to_string()];
    let pages = commands().into_iter();
    expected.extend(pages.map(|command| format!("hnsw-toolbox-{command}.1")));
    expected.sort();
    assert_eq!(names(&dir), expected);
    let page = std::fs::read_to_string(dir.join("hnsw-toolbox-extract.1")).unwrap();
    assert!(page.contains(".TH"), "{page}");
    assert!(page.contains("salvage"), "{page}");
}

#[test]
fn unwritable_manual_pages_give_status_1() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let output = run(&["man", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    assert!(error.contains("cannot write the manual pages"), "{error}");
}
