//! Principals in a folder: one TOML file each, as Kubernetes mounts the keys of a secret.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::ErrorCollector;
use super::keys::{Keys, PRINCIPAL};
use super::raw::{RawPrincipal, all_rights, all_topics};
use super::secrets::shown_as;
use super::sources::{read_text, take_out_unknown_fields};
use super::syntax;

/// The key that names the folder.
pub(super) const KEY: &str = "principals_dir";

/// A file of the folder.
pub(super) struct PrincipalFile {
    /// Its name with the folder, for errors.
    pub(super) name: String,
    pub(super) principal: RawPrincipal,
    folder: PathBuf,
}

impl PrincipalFile {
    /// The file of this name in `token_file`: a relative name is one of the folder.
    pub(super) fn resolve(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The principal as an entry of `principals`.
    pub(super) fn to_entry(&self) -> RawPrincipal {
        let mut entry = self.principal.clone();
        if !entry.token_file.is_empty() {
            entry.token_file = self.resolve(&entry.token_file).display().to_string();
        }
        entry
    }
}

/// Reads the files of the folder in the order of their names; nothing without a folder.
pub(super) fn read(folder: &str, keys: &Keys, complaints: &mut ErrorCollector) -> Vec<PrincipalFile> {
    if folder.is_empty() {
        return Vec::new();
    }
    let folder = Path::new(folder);
    let files = match files(folder) {
        Ok(files) => files,
        Err(error) => {
            complaints.add(KEY, format_args!("cannot read {}: {error}", shown_as("folder", folder)));
            return Vec::new();
        }
    };
    let mut read = Vec::with_capacity(files.len());
    for file in files {
        let name = file.display().to_string();
        match principal(&file, &name, keys) {
            Ok(principal) => read.push(PrincipalFile { name, principal, folder: folder.to_owned() }),
            Err(problems) => complaints.lines.extend(problems),
        }
    }
    read
}

/// The files of principals in a folder, sorted.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if is_of_principal(&name) {
            files.push(folder.join(name));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Kubernetes keeps the content of a mounted secret in hidden folders, and links to it from names
/// that are not hidden.
fn is_of_principal(name: &OsStr) -> bool {
    let is_hidden = name.as_encoded_bytes().starts_with(b".");
    !is_hidden && Path::new(name).extension().is_some_and(|extension| extension == "toml")
}

/// The principal in a file, or all problems of the file.
fn principal(file: &Path, name: &str, keys: &Keys) -> Result<RawPrincipal, Vec<String>> {
    let text = read_text(file).map_err(|problem| vec![format!("{name}: {problem}")])?;
    let table =
        text.parse::<toml::Table>().map_err(|error| vec![syntax::explain(name, &text, &error, keys)])?;
    let mut fields = Fields { file: name, table, problems: Vec::new() };
    fields.take_out_unknown();
    let principal = RawPrincipal {
        id: fields.text("id").unwrap_or_default(),
        token: fields.text("token").unwrap_or_default(),
        token_file: fields.text("token_file").unwrap_or_default(),
        rights: fields.texts("rights").unwrap_or_else(all_rights),
        topics: fields.texts("topics").unwrap_or_else(all_topics),
    };
    if !fields.table.contains_key("id") {
        fields.add("id", "is missing");
    }
    if fields.problems.is_empty() { Ok(principal) } else { Err(fields.problems) }
}

/// The fields of a file, and what is wrong with them. The errors of a parser would repeat values,
/// which may be secrets.
struct Fields<'a> {
    file: &'a str,
    table: toml::Table,
    problems: Vec<String>,
}

impl Fields<'_> {
    fn add(&mut self, field: &str, problem: &str) {
        self.problems.push(format!("{field} ({}): {problem}", self.file));
    }

    fn take_out_unknown(&mut self) {
        let Self { file, table, problems } = self;
        take_out_unknown_fields(table, &PRINCIPAL, |field, problem| {
            problems.push(format!("{field} ({file}): {problem}"));
        });
    }

    /// A text; `None` if it is not set, or of another type.
    fn text(&mut self, field: &str) -> Option<String> {
        let text = self.table.get(field)?.as_str().map(str::to_owned);
        if text.is_none() {
            self.add(field, "this value is not allowed; expected: a text");
        }
        text
    }

    /// A list of texts; `None` if it is not set, or of another type.
    fn texts(&mut self, field: &str) -> Option<Vec<String>> {
        let list = self.table.get(field)?.as_array();
        let texts = list.and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        if texts.is_none() {
            self.add(field, "this value is not allowed; expected: a list of texts");
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a folder with these files, without the path of the folder.
    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let mut complaints = ErrorCollector::default();
        let path = folder.path().to_str().unwrap();
        read(path, &Keys::of_defaults(), &mut complaints);
        complaints.lines.iter().map(|line| line.replace(&format!("{path}/"), "")).collect()
    }

    #[test]
    fn only_toml_files_that_are_not_hidden_hold_principals() {
        for name in ["a.toml", "a b.toml", "a.b.toml"] {
            assert!(is_of_principal(OsStr::new(name)), "{name}");
        }
        for name in ["..data", "..2026_10_04.toml", ".a.toml", ".toml", "toml", "a.TOML", "a.toml~"] {
            assert!(!is_of_principal(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn each_problem_of_each_file_is_named_without_the_value() {
        let found = problems(&[
            ("b.toml", "id = 1\ntoken = ['secret']\nrights = 'issue'\ntopics = [7]\nright = ['issue']"),
            ("a.toml", "token = 12345678"),
            ("c.toml", "id = 'c"),
            ("README", "no TOML"),
        ]);
        let expected = [
            "token (a.toml): this value is not allowed; expected: a text",
            "id (a.toml): is missing",
            "right (b.toml): unknown key; did you mean rights?",
            "id (b.toml): this value is not allowed; expected: a text",
            "token (b.toml): this value is not allowed; expected: a text",
            "rights (b.toml): this value is not allowed; expected: a list of texts",
            "topics (b.toml): this value is not allowed; expected: a list of texts",
        ];
        assert_eq!(found[..expected.len()], expected);
        assert!(found[expected.len()].starts_with("c.toml, line 1, column "), "{found:?}");
        assert_eq!(found.len(), expected.len() + 1, "{found:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_an_error_and_none_is_no_error() {
        let mut complaints = ErrorCollector::default();
        assert!(read("", &Keys::of_defaults(), &mut complaints).is_empty());
        assert!(complaints.is_empty());
        assert!(read("/nonexistent/principals", &Keys::of_defaults(), &mut complaints).is_empty());
        let [line] = &complaints.lines[..] else { panic!("{:?}", complaints.lines) };
        assert!(line.starts_with("principals_dir"), "{line}");
        assert!(line.contains("cannot read the folder /nonexistent/principals: "), "{line}");
        // A credential by mistake.
        read("c0ffee11c0ffee22c0ffee33c0ffee44", &Keys::of_defaults(), &mut complaints);
        assert!(!complaints.lines[1].contains("c0ffee"), "{}", complaints.lines[1]);
    }
}
