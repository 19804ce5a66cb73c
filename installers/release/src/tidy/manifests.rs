//! Rules of manifests: every crate is described and keeps the one table of lints.

use toml::Table;

use super::files::File;
use super::rules::{Finding, finding};

pub(super) fn check(file: &File) -> Vec<Finding> {
    let table: Table = match file.text.parse() {
        Ok(table) => table,
        Err(e) => return vec![finding(file, 0, format!("is no manifest: {e}"))],
    };
    let Some(package) = table.get("package").and_then(|package| package.as_table()) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let description = package.get("description").and_then(|text| text.as_str());
    if description.is_none_or(|text| text.trim().is_empty()) {
        findings.push(finding(file, 0, "has no description; say in a sentence what lives there"));
    }
    let inherits = |key: &str| {
        let lints = table.get(key).and_then(|lints| lints.get("workspace"));
        lints.and_then(|value| value.as_bool()) == Some(true)
    };
    if !inherits("lints") {
        findings.push(finding(file, 0, "does not say `[lints] workspace = true`"));
    }
    for key in ["version", "edition", "rust-version", "license", "publish", "repository"] {
        let inherited = package.get(key).and_then(|value| value.get("workspace"));
        if inherited.and_then(|value| value.as_bool()) != Some(true) {
            findings.push(finding(file, 0, format!("does not say `{key}.workspace = true`")));
        }
    }
    // The union of features is written by machine, below `[target]`, with versions of its own.
    for key in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = table.get(key).and_then(|table| table.as_table()) else {
            continue;
        };
        for (name, value) in dependencies {
            if value.get("workspace").and_then(|value| value.as_bool()) != Some(true) {
                let what =
                    format!("gives {name} a version of its own; use `{name}.workspace = true`");
                findings.push(finding(file, 0, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\ndescription = \"A.\"\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\nrepository.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n";

    fn found(text: &str) -> usize {
        check(&File { path: "a/Cargo.toml".to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn manifests_inherit_from_the_workspace() {
        assert_eq!(found(GOOD), 0);
        assert_eq!(found("[workspace]\nmembers = []\n"), 0);
        assert_eq!(found(&GOOD.replace("\"A.\"", "\"\"")), 1);
        assert_eq!(found(&GOOD.replace("[lints]\nworkspace = true\n", "")), 1);
        assert_eq!(found(&GOOD.replace("serde.workspace = true", "serde = \"1\"")), 1);
        assert_eq!(found(&GOOD.replace("edition.workspace = true", "edition = \"2024\"")), 1);
        assert_eq!(found("[package"), 1);
    }
}
