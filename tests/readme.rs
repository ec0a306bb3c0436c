//! The READMEs show only what is there: subcommands and options of the command, targets of the Makefile, files linked to.
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::Command;

const DOCUMENTS: [&str; 5] =
    ["README.md", "tests/README.md", "tests/peers/README.md", "www/README.md", "www/bench/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Lines of the code blocks without comments, with continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let fenced = text.split("```").skip(1).step_by(2).flat_map(|block| block.lines().skip(1));
    let indented = text.lines().filter(|line| line.starts_with("    "));
    let mut commands = Vec::new();
    let mut begun = String::new();
    for line in fenced.chain(indented) {
        let line = line.split(" #").next().unwrap_or_default().trim();
        begun.push_str(line.trim_end_matches('\\'));
        if !line.ends_with('\\') {
            commands.push(std::mem::take(&mut begun));
        }
    }
    commands
}

/// What `samlora [subcommand] --help` prints.
fn help(subcommand: Option<&str>) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_samlora")).args(subcommand).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "there is no samlora {}", subcommand.unwrap_or_default());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_command_and_option_exists() {
    let mut shown = std::collections::BTreeSet::new();
    for document in DOCUMENTS {
        for command in commands(&read(document)) {
            let Some(arguments) = command.strip_prefix("samlora ").filter(|a| !a.starts_with('=')) else { continue };
            let mut words = arguments.split_whitespace();
            let subcommand = words.next().unwrap_or_default();
            let help = help(Some(subcommand));
            for option in words.filter(|w| w.starts_with("--")) {
                let known = help.split_whitespace().any(|word| word == option);
                assert!(known, "{document}: samlora {subcommand} has no {option}");
            }
            shown.insert(subcommand.to_owned());
        }
    }
    let all = help(None);
    let listed = all.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1).take_while(|l| l.starts_with("  "));
    let known: Vec<&str> = listed.filter_map(|l| l.split_whitespace().next()).filter(|c| *c != "help").collect();
    assert!(known.len() > 5, "{all}");
    for command in known {
        assert!(shown.contains(command), "no README shows samlora {command}");
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = read("Makefile");
    let targets: Vec<&str> = makefile.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name).collect();
    for document in DOCUMENTS {
        let text = read(document);
        let lines = commands(&text);
        let quoted = text.split('`').skip(1).step_by(2).map(str::to_owned);
        for command in lines.into_iter().chain(quoted) {
            let Some(words) = command.strip_prefix("make ") else { continue };
            for target in words.split_whitespace().filter(|w| !w.contains('=')) {
                let known = targets.iter().any(|names| names.split_whitespace().any(|name| name == target));
                assert!(known, "{document}: there is no make {target}");
            }
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    for document in DOCUMENTS {
        let folder = root().join(document).parent().map(Path::to_owned).unwrap_or_default();
        let text = read(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|l| !l.starts_with("http") && !l.starts_with('#')) {
            assert!(folder.join(link).exists(), "{document} links to {link}, which is not there");
        }
    }
}
