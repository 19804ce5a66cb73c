//! The rules, and what they find.

use std::fmt;

use super::files::{File, Tree};
use super::{links, manifests, text};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root.
    pub path: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Lines of one Rust file: more tell more than one story.
const LINES_MAX: usize = 800;

/// What the root holds, besides names that start with a dot.
const ROOT: [&str; 15] = [
    "Cargo.toml",
    "Cargo.lock",
    "node",
    "protocols",
    "compute",
    "storage",
    "contracts",
    "coordinator",
    "simulations",
    "installers",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "SECURITY.md",
    "rust-toolchain.toml",
];

/// Checks a tree; an empty list is a tidy one.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = root(tree);
    for file in &tree.files {
        findings.extend(text::check(file));
        if file.path.ends_with(".rs") {
            findings.extend(rust(file));
        }
        if file.path.ends_with("Cargo.toml") {
            findings.extend(manifests::check(file));
        }
        if file.path.ends_with(".md") {
            findings.extend(links::check(file, tree));
        }
    }
    findings.sort();
    findings
}

/// A finding about a line of a file; line 0 is the file.
pub(super) fn finding(file: &File, line: usize, what: impl Into<String>) -> Finding {
    Finding { path: file.path.clone(), line, what: what.into() }
}

fn root(tree: &Tree) -> Vec<Finding> {
    let about =
        |name: &str, what: &str| Finding { path: name.to_owned(), line: 0, what: what.to_owned() };
    let extra =
        tree.root.iter().filter(|name| !name.starts_with('.') && !ROOT.contains(&name.as_str()));
    let missing = ROOT.iter().filter(|name| !tree.root.iter().any(|found| found == *name));
    extra
        .map(|name| about(name, "does not belong in the root; move it into a folder of the house"))
        .chain(missing.map(|name| about(name, "is missing in the root")))
        .collect()
}

fn rust(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//!") {
        findings.push(finding(file, 1, "does not start with `//!`; say what the module is for"));
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        let what = format!("has {lines} lines, more than {LINES_MAX}; split it");
        findings.push(finding(file, 0, what));
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for (pattern, remedy) in FORBIDDEN {
            if text::code_contains(code, pattern) {
                findings.push(finding(file, number, format!("{pattern}: {remedy}")));
            }
        }
    }
    if file.path.ends_with("/lib.rs") {
        findings.extend(declares_only(file));
    }
    findings
}

/// Patterns of code that are not allowed, with what to do instead. Written in halves, so that this
/// file does not hold them.
const FORBIDDEN: [(&str, &str); 5] = [
    (concat!("to", "do!("), "finish it"),
    (concat!("unimple", "mented!("), "finish it"),
    (concat!("#[ig", "nore"), "mend or remove the test"),
    (concat!("#[al", "low("), "use `#[expect(.., reason = ..)]`"),
    (concat!("#![al", "low("), "use `#![expect(.., reason = ..)]`"),
];

/// A crate's root lists and re-exports, nothing else.
fn declares_only(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open: Option<usize> = None;
    let mut statement = String::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let line = line.split("//").next().unwrap_or_default().trim();
        if line.is_empty()
            || (open.is_none() && (line.starts_with("#[") || line.starts_with("#![")))
        {
            continue;
        }
        let start = *open.get_or_insert(number);
        statement.push_str(line);
        statement.push(' ');
        if !line.ends_with(';') {
            continue;
        }
        let words = statement.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if !words.starts_with("mod ") && !words.starts_with("use ") {
            findings.push(finding(
                file,
                start,
                "holds more than declarations and re-exports; move it into a module",
            ));
        }
        statement.clear();
        open = None;
    }
    if let Some(start) = open {
        findings.push(finding(
            file,
            start,
            "holds more than declarations and re-exports; move it into a module",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let root = ROOT.iter().map(|name| (*name).to_owned()).collect();
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        Tree { root, paths, files: files.iter().map(file).collect() }
    }

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&tree(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_tidy_file_passes() {
        assert!(found("node/app/src/a.rs", "//! What it is for.\n\nfn a() {}\n").is_empty());
        let lib = "//! A crate.\n#![cfg_attr(not(test), deny(x))]\n\npub mod a;\nmod b;\n\npub use a::{\n    B,\n};\n";
        assert_eq!(found("node/app/src/lib.rs", lib), Vec::<String>::new());
    }

    #[test]
    fn each_rule_of_rust_files_is_kept() {
        let say = |text: &str, part: &str| {
            let said = found("node/app/src/a.rs", text);
            assert!(said.iter().any(|line| line.contains(part)), "{part} in {said:?}");
        };
        say("fn a() {}\n", "//!");
        say(&format!("//! x\n{}", "\n".repeat(801)), "802 lines");
        for (pattern, _) in FORBIDDEN {
            say(&format!("//! x\n{pattern}\n"), pattern);
        }
        let quoted = format!("//! x\nconst A: &str = \"{}\";\n", FORBIDDEN[0].0);
        assert!(found("node/app/src/a.rs", &quoted).is_empty(), "quoted");
    }

    #[test]
    fn a_crate_root_with_code_is_found() {
        for code in ["fn a() {}\n", "pub struct A {\n    b: u8,\n}\n", "const A: u8 = 1;\n"] {
            let said = found("node/app/src/lib.rs", &format!("//! x\npub mod a;\n{code}"));
            assert_eq!(said.len(), 1, "{code}: {said:?}");
            assert!(said[0].contains("node/app/src/lib.rs:3"), "{said:?}");
        }
    }

    #[test]
    fn strangers_in_the_root_and_missing_names_are_found() {
        let mut strange = tree(&[]);
        strange.root.push("notes.txt".to_owned());
        strange.root.push(".ci".to_owned());
        strange.root.retain(|name| name != "README.md");
        let said: Vec<String> = check(&strange).iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
    }
}
