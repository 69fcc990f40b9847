//! Turns the header into a C file whose shared library has all that the header declares.
//!
//! Functions are defined, so that they are exported with their types. Each constant becomes an exported variable of an
//! enum that has its value. A struct that may grow stays incomplete for the functions, and each of its members becomes
//! two exported variables: one has the member's type, the other its offset. So a member that is added at the end, or
//! that takes the place of reserved ones, is an added variable, and all other changes are changed or removed ones.

/// A struct that begins with `struct_size` may grow. This one is the last member of such structs, and grows with them.
const GROWS_INSIDE: &str = "zswap_counts";

/// The parts of the header that programs are compiled with.
pub struct Declarations {
    /// The constants, without the version.
    pub constants: Vec<String>,
    /// The functions.
    pub functions: Vec<String>,
    /// The structs that have members, and their members. None: the struct never grows.
    pub structs: Vec<(String, Option<Vec<String>>)>,
    /// The C file.
    pub source: String,
}

impl Declarations {
    /// Reads a header.
    pub fn of(header: &str) -> Self {
        let source = "#include <stddef.h>\n#include <stdint.h>\n".to_owned();
        let mut read = Self { constants: Vec::new(), functions: Vec::new(), structs: Vec::new(), source };
        let code = without_comments(header);
        let items = items(&code);
        let growing: Vec<_> = items.iter().filter_map(|item| growing(item)).collect();
        code.lines().filter_map(|line| line.strip_prefix("#define ")).for_each(|line| read.constant(line));
        items.iter().for_each(|item| read.item(item, &growing));
        read
    }

    fn constant(&mut self, line: &str) {
        if let Some((name, value)) = line.split_once(' ').filter(|(name, _)| !name.starts_with("ZS_VERSION_")) {
            self.constants.push(name.to_owned());
            self.number(&format!("value_of_{name}"), value);
        }
    }

    /// Adds a variable whose type has a number.
    fn number(&mut self, name: &str, value: &str) {
        self.source += &format!("enum enum_{name} {{ is_{name} = {value} }};\nenum enum_{name} {name};\n");
    }

    fn item(&mut self, item: &str, growing: &[&str]) {
        match members(item) {
            _ if item.starts_with("typedef ") => self.source += &format!("{item};\n"),
            Some((name, body)) if growing.contains(&name) => self.growing(name, body, growing),
            Some((name, _)) => {
                self.structs.push((name.to_owned(), None));
                self.source += &format!("{item};\n");
            }
            None if !item.contains('(') => self.source += &format!("{item};\n"),
            None => {
                let name = item.split('(').next().and_then(|part| part.rsplit([' ', '*']).next());
                self.functions.push(name.expect("a function has a name").to_owned());
                self.source += &format!("{item}\n{{\n    for (;;)\n        ;\n}}\n");
            }
        }
    }

    fn growing(&mut self, name: &str, body: &str, growing: &[&str]) {
        let whole = |member: &str| match member.strip_prefix("struct ") {
            Some(rest) if growing.iter().any(|name| rest.starts_with(&format!("{name} "))) && !rest.contains('*') => {
                format!("struct members_of_{rest}")
            }
            _ => member.to_owned(),
        };
        let members: Vec<_> = body.split(';').map(str::trim).filter(|member| !member.is_empty()).collect();
        let all: String = members.iter().map(|member| format!("    {};\n", whole(member))).collect();
        self.source += &format!("struct {name};\nstruct members_of_{name} {{\n{all}}};\n");
        let mut names = Vec::new();
        for member in members {
            let at = member.rfind([' ', '*']).expect("a member has a type") + 1;
            let (kind, member) = member.split_at(at);
            let (bare, elements) = member.split_at(member.find('[').unwrap_or(member.len()));
            if bare != "reserved" {
                self.source += &format!("{kind}(*type_of_{name}__{bare}){elements};\n");
                let offset = format!("offsetof(struct members_of_{name}, {bare})");
                self.number(&format!("offset_of_{name}__{bare}"), &offset);
                names.push(bare.to_owned());
            }
        }
        self.structs.push((name.to_owned(), Some(names)));
    }
}

fn without_comments(header: &str) -> String {
    let mut parts = header.split("/*");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |code, part| code + part.split_once("*/").expect("a comment ends").1)
}

/// Returns the declarations and definitions, each without its semicolon.
fn items(code: &str) -> Vec<String> {
    let mut for_cxx = false;
    let mut plain = String::new();
    for line in code.lines() {
        for_cxx = line.starts_with("#ifdef __cplusplus") || for_cxx && !line.starts_with("#endif");
        if !for_cxx && !line.starts_with('#') {
            plain += line;
            plain.push('\n');
        }
    }
    let (mut items, mut item, mut depth) = (Vec::new(), String::new(), 0);
    for letter in plain.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ';' && depth == 0 {
            items.push(std::mem::take(&mut item).trim().to_owned());
        } else {
            item.push(letter);
        }
    }
    assert!(item.trim().is_empty(), "the header ends within: {item}");
    items
}

/// Splits the definition of a struct in its name and its members.
fn members(item: &str) -> Option<(&str, &str)> {
    let (name, body) = item.strip_prefix("struct ")?.split_once(" {")?;
    Some((name, body.strip_suffix('}')?))
}

/// Returns the name of a struct that may grow.
fn growing(item: &str) -> Option<&str> {
    let (name, body) = members(item)?;
    (body.trim_start().starts_with("size_t struct_size;") || name == GROWS_INSIDE).then_some(name)
}
