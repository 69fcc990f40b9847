//! Finds the functions of a source file, as rustfmt lays them out.

/// Returns whether a line begins a function, with any visibility and qualifiers.
fn begins(code: &str) -> bool {
    let mut rest = code;
    if let Some(after) = rest.strip_prefix("pub") {
        rest = match after.strip_prefix('(') {
            Some(scope) => scope.split_once(')').map_or("", |(_, after)| after),
            None => after,
        };
        let Some(after) = rest.strip_prefix(' ') else { return false };
        rest = after;
    }
    let qualifiers = ["default ", "const ", "async ", "safe ", "unsafe ", "extern \"C\" ", "extern "];
    while let Some(after) = qualifiers.iter().find_map(|qualifier| rest.strip_prefix(qualifier)) {
        rest = after;
    }
    rest.starts_with("fn ")
}

/// Returns the line on which each function with a body begins, from 1 on, and how many lines it has. A function inside
/// another one counts as part of it.
pub fn lengths(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open = None;
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        match open {
            None if begins(code) && code.ends_with('}') => found.push((number + 1, 1)),
            None if begins(code) && !code.ends_with(';') => open = Some((number, indent)),
            // A declaration of several lines, such as one of a foreign function.
            Some((_, at)) if at == indent && code.starts_with(')') && code.ends_with(';') => open = None,
            Some((start, at)) if at == indent && code.starts_with('}') => {
                found.push((start + 1, number + 1 - start));
                open = None;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_kind_of_function_is_measured() {
    let heads = [
        "fn f() {",
        "pub fn f() {",
        "pub const fn f() {",
        "pub(super) unsafe fn f() {",
        "pub(in crate::pool) fn f() {",
        "extern \"C\" fn f() {",
        "pub unsafe extern \"C\" fn f() {",
        "async fn f() {",
        "pub(crate) const unsafe fn f(\n    a: u8,\n) -> u8 {",
    ];
    for head in heads {
        let text = format!("impl X {{\n{head}\n    body();\n}}\n}}\n");
        assert_eq!(lengths(&text), [(2, head.lines().count() + 2)], "{head}");
    }
}

#[test]
fn declarations_and_other_items_are_not_measured() {
    let text = "pub const F: fn() = g;\nfn f();\nfn g(\n    a: u8,\n) -> u8;\npublic fn\nfn h() {}\nlet fn_ = 1;\n}\n";
    assert_eq!(lengths(text), [(7, 1)]);
}
