//! Checks the models, weakenings and locks that `docs/protocols.md` names against the repository.

use super::{read, repository, skip};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A table of the document.
struct Table {
    /// The heading of its section, `## ...`.
    section: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

fn cells(line: &str) -> Vec<String> {
    let inside = line.trim().trim_start_matches('|').trim_end_matches('|');
    inside.split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn tables(text: &str) -> Vec<Table> {
    let (mut found, mut section, mut open) = (Vec::<Table>::new(), String::new(), false);
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.to_owned();
        }
        let is_row = line.starts_with('|');
        match found.last_mut().filter(|_| open) {
            _ if !is_row => {}
            None => found.push(Table { section: section.clone(), columns: cells(line), rows: Vec::new() }),
            Some(_) if line.starts_with("|---") => {}
            Some(table) => table.rows.push(cells(line)),
        }
        open = is_row;
    }
    found
}

/// Returns the words between backticks.
fn ticked(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn document() -> Vec<Table> {
    tables(&read("docs/protocols.md"))
}

/// Returns the weakenings of `.ci/weaken`, each with the models that must fail with it.
fn weakenings() -> Option<BTreeMap<String, String>> {
    let script = repository().join(".ci/weaken");
    if !script.exists() {
        skip::skip("weakenings", "this is a packaged crate, which has no .ci/weaken");
        return None;
    }
    let text = fs::read_to_string(script).unwrap();
    let list = text.split("<<'LIST'\n").nth(1).unwrap().split("\nLIST\n").next().unwrap();
    let row = |line: &str| {
        let parts: Vec<_> = line.split('@').map(str::trim).collect();
        assert_eq!(parts.len(), 4, "{line}");
        (parts[0].to_owned(), parts[3].strip_prefix("models::").expect("models fail").to_owned())
    };
    Some(list.lines().map(row).collect())
}

/// Returns the rows that say what verifies a step: its name, its models, and its weakenings.
fn holds(document: &[Table]) -> Vec<[String; 3]> {
    let mut found = Vec::new();
    for table in document {
        let Some(columns) = ["Step", "Models", "Weakenings"].iter().map(|name| table.column(name)).collect() else {
            continue;
        };
        let columns: Vec<usize> = columns;
        found.extend(table.rows.iter().map(|row| std::array::from_fn(|at| row[columns[at]].clone())));
    }
    assert!(found.len() > 40, "{} steps", found.len());
    found
}

#[test]
fn every_weakening_stands_beside_a_step_and_the_model_that_fails() {
    let Some(weakenings) = weakenings() else { return };
    let mut named = BTreeSet::new();
    for [step, models, broken] in holds(&document()) {
        for name in ticked(&broken) {
            let failing = weakenings.get(name).unwrap_or_else(|| panic!("{step}: .ci/weaken has no {name}"));
            let is_of_it = |model: &str| failing.starts_with(model) || model.starts_with(failing.as_str());
            assert!(ticked(&models).any(is_of_it), "{step}: {name} must fail in {failing}, which is not named");
            named.insert(name.to_owned());
        }
    }
    let unnamed: Vec<_> = weakenings.keys().filter(|name| !named.contains(*name)).collect();
    assert!(unnamed.is_empty(), "docs/protocols.md names no step for these rows of .ci/weaken: {unnamed:?}");
}

/// Returns the source of a module of `src/models`.
fn module(path: &str) -> Option<String> {
    let folder = repository().join("src/models").join(path.replace("::", "/"));
    fs::read_to_string(folder.with_extension("rs")).or_else(|_| fs::read_to_string(folder.join("mod.rs"))).ok()
}

/// Returns whether there is a module or a test of this name.
fn is_model(name: &str) -> bool {
    let has = |text: String, test: &str| {
        let test_line = |line: &str| line.strip_prefix(test).is_some_and(|rest| rest.starts_with([':', ',']));
        text.contains(&format!("fn {test}(")) || text.lines().any(|line| test_line(line.trim_start()))
    };
    let in_module = |(path, test): (&str, &str)| module(path).is_some_and(|text| has(text, test));
    module(name).is_some() || name.rsplit_once("::").is_some_and(in_module)
}

/// Returns the modules below a folder that have models.
fn modules_with_models(folder: &Path, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = match entry.file_stem().unwrap().to_str().unwrap() {
            "mod" => path.trim_end_matches("::").to_owned(),
            stem => format!("{path}{stem}"),
        };
        if entry.is_dir() {
            found.extend(modules_with_models(&entry, &format!("{name}::")));
        } else if fs::read_to_string(&entry).unwrap().contains("#[test]") {
            found.push(name);
        }
    }
    found
}

#[test]
fn every_model_is_named_and_is_there() {
    let holds = holds(&document());
    let named: BTreeSet<_> = holds.iter().flat_map(|[_, models, _]| ticked(models)).collect();
    let gone: Vec<_> = named.iter().filter(|name| !is_model(name)).collect();
    assert!(gone.is_empty(), "docs/protocols.md names models that are not there: {gone:?}");
    let is_named =
        |module: &String| named.iter().any(|name| *name == module || name.starts_with(&format!("{module}::")));
    let all = modules_with_models(&repository().join("src/models"), "");
    let unnamed: Vec<_> = all.iter().filter(|module| !is_named(module)).collect();
    assert!(all.len() > 10 && unnamed.is_empty(), "docs/protocols.md does not name these models: {unnamed:?}");
}

/// Each section has two tables with the same steps: what a step does, and what verifies it.
#[test]
fn steps_are_the_same_in_both_tables_of_a_section() {
    let mut steps = BTreeMap::<String, [Vec<String>; 2]>::new();
    for table in document() {
        let Some(step) = table.column("Step") else { continue };
        let of_kind = [table.column("Ordering, and its partner"), table.column("Weakenings")];
        let kind = of_kind.iter().position(Option::is_some).expect("a table of steps has orderings or weakenings");
        let names = table.rows.iter().map(|row| row[step].clone());
        steps.entry(table.section.clone()).or_default()[kind].extend(names);
    }
    assert!(steps.len() > 8, "{:?}", steps.keys());
    for (section, [told, held]) in steps {
        assert_eq!(told, held, "{section}");
    }
}

#[test]
fn lock_ranks_are_those_of_the_code_in_their_order() {
    let code = read("src/sync.rs");
    let variants = code.split("pub enum Rank {").nth(1).unwrap().split("\n}").next().unwrap();
    let ranks: Vec<_> = variants.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let document = document();
    let table = document.iter().find(|table| table.column("Rank").is_some()).expect("a table of ranks");
    let named: Vec<_> = table.rows.iter().map(|row| ticked(&row[0]).next().unwrap()).collect();
    assert_eq!(named, ranks);
}

#[test]
fn tables_are_read_row_by_row() {
    let text =
        "## One\n\n| Step | Models |\n|---|---|\n| a | `x`, `y::z` |\n| b | none |\n\n## Two\n\n| Rank |\n|---|\n";
    let found = tables(text);
    assert_eq!((found.len(), found[0].section.as_str(), found[1].section.as_str()), (2, "One", "Two"));
    assert_eq!((found[0].column("Models"), found[0].column("Rank"), found[0].rows.len()), (Some(1), None, 2));
    assert_eq!(ticked(&found[0].rows[0][1]).collect::<Vec<_>>(), ["x", "y::z"]);
    assert!(is_model("mover::map_and_free") && is_model("pages::pairs::load_vs_take") && is_model("pages::extents"));
    assert!(is_model("pages::extents::take_vs_writeback") && !is_model("mover::no_such") && !is_model("no_such"));
}
