//! Finds which modules a source file imports from, and which modules of a folder import from each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

/// Names of modules and items, from the crate's root to the module or item.
pub type Name = Vec<String>;

/// Returns the part of a file before its unit tests.
pub fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// Returns the text without its line comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns everything that `text`, the source of `module`, names through `crate`, `self` or `super`.
pub fn imports(module: &[String], text: &str) -> Vec<Name> {
    let (own, inline) = split_inline(&code(text));
    let mut found = paths(&own).into_iter().filter_map(|path| resolve(module, &path)).collect::<Vec<_>>();
    for (name, body) in inline {
        let inner: Name = module.iter().cloned().chain([name]).collect();
        found.extend(paths(&body).into_iter().filter_map(|path| resolve(&inner, &path)));
    }
    found
}

/// Splits off the modules that have their body in the same file: `super` means something else there.
fn split_inline(code: &str) -> (String, Vec<(String, String)>) {
    let (mut own, mut inline, mut inner) = (String::new(), Vec::new(), None::<(String, String)>);
    for line in code.lines() {
        let head = line.strip_prefix("pub mod ").or(line.strip_prefix("mod "));
        match &mut inner {
            None => match head.and_then(|head| head.strip_suffix(" {")) {
                Some(name) => inner = Some((name.to_owned(), String::new())),
                None => own.extend([line, "\n"]),
            },
            Some(_) if line == "}" => inline.extend(inner.take()),
            Some((_, body)) => body.extend([line, "\n"]),
        }
    }
    inline.extend(inner);
    (own, inline)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the paths that begin with `crate`, `self` or `super`; of a path with braces, each alternative.
fn paths(code: &str) -> Vec<Name> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = ["crate::", "self::", "super::"].iter().filter_map(|root| code[from..].find(root)).min() {
        let start = from + at;
        let goes_on = code[..start].ends_with(|c| is_of_name(c) || c == ':');
        let end = code.len() - tree(&code[start..], &[], &mut found, !goes_on).len();
        from = end.max(start + 1);
    }
    found
}

/// Reads one path, and everything in its braces; returns what comes after it.
fn tree<'a>(mut rest: &'a str, before: &[String], found: &mut Vec<Name>, counts: bool) -> &'a str {
    let mut path = before.to_vec();
    loop {
        rest = rest.trim_start();
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                inside = inside.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if inside.is_empty() || inside.starts_with('}') {
                    return inside.strip_prefix('}').unwrap_or(inside);
                }
                let after = tree(inside, &path, found, counts);
                inside = &after[after.find([',', '}']).unwrap_or(after.len())..];
            }
        }
        let name: String = rest.chars().take_while(|c| is_of_name(*c)).collect();
        rest = &rest[name.len()..];
        if !(name.is_empty() || name == "self" && !path.is_empty()) {
            path.push(name);
        }
        match rest.strip_prefix("::") {
            Some(after) if after.starts_with(|c| is_of_name(c) || c == '{' || c == '*') => rest = after,
            _ => break,
        }
    }
    if counts {
        found.push(path);
    }
    rest
}

/// Returns what `path` means in `module`, or none if it leads out of the crate.
fn resolve(module: &[String], path: &[String]) -> Option<Name> {
    let mut at: Name = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => return None,
    };
    for name in path {
        match name.as_str() {
            "super" => drop(at.pop()?),
            "crate" | "self" => {}
            name => at.push(name.to_owned()),
        }
    }
    Some(at)
}

/// Returns the circles of each folder: sets of modules of one folder that all import from each other, directly or
/// through others of the set. Each is the folder and the names; a folder's own file is called `mod`. `files` has each
/// module with its source.
pub fn circles(files: &BTreeMap<Name, String>) -> BTreeSet<(String, Vec<String>)> {
    let mut edges: BTreeMap<Name, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, text) in files {
        for import in imports(module, product(text)) {
            let shared = module.iter().zip(&import).take_while(|(a, b)| a == b).count();
            let (folder, rest) = import.split_at(shared);
            let is_module = |name: &String| files.contains_key(&[folder, std::slice::from_ref(name)].concat());
            let from = module.get(shared).cloned().unwrap_or("mod".into());
            let to = rest.first().filter(|name| is_module(name)).cloned().unwrap_or("mod".into());
            if from != to && shared > 0 {
                edges.entry(folder.to_vec()).or_default().entry(from).or_default().insert(to);
            }
        }
    }
    edges.iter().flat_map(|(folder, edges)| knots(edges).into_iter().map(|knot| (folder.join("/"), knot))).collect()
}

/// Returns the strongly connected components with more than one member.
fn knots(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(edges.get(at).into_iter().flatten().filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let all: BTreeMap<_, _> = edges.keys().map(|from| (from, reached(from))).collect();
    let returns = |from: &String, to: &String| all.get(to).is_some_and(|back| back.contains(from));
    let knot = |from| all[from].iter().filter(|to| returns(from, to)).cloned().collect::<Vec<_>>();
    edges.keys().map(knot).filter(|knot| knot.len() > 1).collect()
}

fn name(path: &str) -> Name {
    path.split("::").map(str::to_owned).collect()
}

#[test]
fn imports_are_seen_in_braces_in_bodies_and_through_super() {
    let text = "use crate::{pool, zswap::{area::Area, *}, os as system};\nuse super::{self, core::Core};\n\
                // crate::comment\nfn f() { crate::sync::lock(); super::super::units::page::<u8>() }\n\
                mod inner {\n    use super::own;\n}\n";
    let mut found: Vec<_> = imports(&name("pager::guest"), text).into_iter().map(|name| name.join("::")).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "os",
            "pager",
            "pager::core::Core",
            "pager::guest::own",
            "pool",
            "sync::lock",
            "units::page",
            "zswap",
            "zswap::area::Area",
        ]
    );
}

#[test]
fn a_circle_inside_a_folder_is_found() {
    let files = |sources: &[(&str, &str)]| {
        sources.iter().map(|(module, text)| (name(module), (*text).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let straight = [("a", "mod x; mod y;"), ("a::x", "use super::y::Y;"), ("a::y", ""), ("b", "use crate::a::X;")];
    assert!(circles(&files(&straight)).is_empty());
    let direct = [("a", ""), ("a::x", "use super::{y::Y, Item};"), ("a::y", "fn f() { crate::a::x::g() }")];
    assert_eq!(circles(&files(&direct)), BTreeSet::from([("a".to_owned(), vec!["x".to_owned(), "y".to_owned()])]));
    let by_a_third = [("a", ""), ("a::x", "use super::y;"), ("a::y", "use super::z;"), ("a::z", "use super::x;")];
    assert_eq!(circles(&files(&by_a_third)).iter().next().unwrap().1, ["x", "y", "z"]);
    let deeper = [("a", ""), ("a::x", ""), ("a::x::p", "use crate::a::y;"), ("a::y", "use super::x::Q;")];
    assert_eq!(circles(&files(&deeper)).iter().next().unwrap().1, ["x", "y"]);
    let over_the_folder = [("a", "use self::x::X;"), ("a::x", "use super::Item;")];
    assert_eq!(circles(&files(&over_the_folder)).iter().next().unwrap().1, ["mod", "x"]);
    let only_in_tests = [("a", ""), ("a::x", "use super::y;"), ("a::y", "#[cfg(test)]\nmod tests { use super::x; }")];
    assert!(circles(&files(&only_in_tests)).is_empty());
}
