//! "A module imports from its own crate only what stands below it in these lists" (ARCHITECTURE.md §2).

use std::collections::BTreeMap;

use crate::{
    assert_none,
    source::{Rust, line_of, read, rust_files},
};

#[test]
fn a_module_imports_only_what_stands_below_it() {
    let order = Order::parse(&read("ARCHITECTURE.md"));
    assert!(
        order.ranks.len() > 20,
        "the module tables of ARCHITECTURE.md §2 were not found"
    );
    let files = rust_files();
    let mut offences = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let Some((folder, module)) = place(&file.path) else {
            continue;
        };
        let Some(own) = order.rank(folder, module) else {
            continue;
        };
        let exports = exports(&files, folder);
        let code = file.product_code();
        for (offset, name) in crate_paths(code) {
            let target = exports.get(&name).unwrap_or(&name);
            if order.rank(folder, target).is_some_and(|rank| rank < own) {
                let line = line_of(code, offset);
                offences.push(format!(
                    "{}:{line}: `{module}` imports `{target}`, which stands above it",
                    file.path
                ));
            }
        }
    }
    assert_none(&offences);
}

/// Modules of each crate, ranked from the top; those of one row share a rank.
struct Order {
    ranks: BTreeMap<(String, String), usize>,
}

impl Order {
    fn parse(text: &str) -> Self {
        let mut ranks = BTreeMap::new();
        let mut heading = "";
        for (rank, line) in text.lines().enumerate() {
            if let Some(title) = line.strip_prefix("**").filter(|line| line.ends_with("**")) {
                heading = title.trim_end_matches("**");
            } else if line.starts_with('#') || line.starts_with("Where does") {
                heading = "";
            }
            let Some(cell) = line
                .strip_prefix("| ")
                .and_then(|line| line.split(" | ").next())
            else {
                continue;
            };
            if heading.is_empty() || !cell.contains('`') {
                continue;
            }
            let folder = Self::folder(heading, cell);
            for name in cell.split('`').skip(1).step_by(2) {
                let top = name.split('/').next().unwrap_or(name);
                ranks
                    .entry((folder.clone(), top.to_owned()))
                    .or_insert(rank);
            }
        }
        Self { ranks }
    }

    /// The last heading covers several crates; its rows begin with the crate's name or belong to `controller`.
    fn folder(heading: &str, cell: &str) -> String {
        if !heading.contains('{') {
            return heading.to_owned();
        }
        let first = cell.split([' ', '`']).next().unwrap_or_default();
        if first.is_empty() {
            "controller".to_owned()
        } else {
            format!("controller/{first}")
        }
    }

    fn rank(&self, folder: &str, module: &str) -> Option<usize> {
        self.ranks
            .get(&(folder.to_owned(), module.to_owned()))
            .copied()
    }
}

/// Crate folder and top module of a source file; `None` for crate roots.
fn place(path: &str) -> Option<(&str, &str)> {
    let (folder, rest) = path.split_once("/src/")?;
    let module = rest.split('/').next()?.trim_end_matches(".rs");
    (!matches!(module, "lib" | "main" | "bin")).then_some((folder, module))
}

/// What the crate root exports, with the module it comes from: `crate::Snapshot` is `crate::snapshot::Snapshot`.
fn exports(files: &[Rust], folder: &str) -> BTreeMap<String, String> {
    let root = format!("{folder}/src/lib.rs");
    let mut found = BTreeMap::new();
    let Some(lib) = files.iter().find(|file| file.path == root) else {
        return found;
    };
    for statement in lib
        .code
        .split(';')
        .filter_map(|part| part.split("use ").nth(1))
    {
        let path: String = statement.split_whitespace().collect();
        let Some((module, names)) = path.split_once("::") else {
            continue;
        };
        for name in names.trim_matches(['{', '}']).split(',') {
            let last = name.rsplit("::").next().unwrap_or(name);
            found.insert(last.to_owned(), module.to_owned());
        }
    }
    found
}

/// First segment, with its place, of every path that begins with `crate::`; groups are opened.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (offset, matched) in code.match_indices("crate::") {
        if code[..offset].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[offset + matched.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(heads(group).into_iter().map(|name| (offset, name)));
        } else {
            found.push((offset, name(rest)));
        }
    }
    found
}

/// The first names of the comma-separated items of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let mut found = Vec::new();
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                found.push(name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

fn name(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn paths_and_groups_are_read() {
    let code = "use crate::{a::{B, c}, d, Snapshot};\nlet x = crate::e::f(); $crate::no!(); macrocrate::no";
    let names: Vec<String> = crate_paths(code)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["a", "d", "Snapshot", "e"]);
}
