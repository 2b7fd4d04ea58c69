//! Sources of the configuration: file and variables, without unknown keys.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::Path;

use config::{ConfigError, File, FileFormat};

use super::environment::{self, Variable};
use super::keys::{Fields, Keys, LISTS_OF_TABLES, closest, is_secret};
use super::{DEFAULTS, syntax};

/// Longest value that an error shows in full.
const LONGEST_VALUE: usize = 80;
/// Length of a run of letters and digits that may be a credential, in any key.
const LIKE_A_CREDENTIAL: usize = 16;

/// File and variables; both are optional.
#[derive(Default)]
pub(super) struct Sources {
    file: Option<Written>,
    variables: BTreeMap<String, Variable>,
}

/// The known keys of a file.
struct Written {
    name: String,
    table: toml::Table,
}

/// A key of the file that was left out, and the reason.
pub(super) struct Misplaced {
    pub(super) key: String,
    pub(super) problem: String,
}

impl Sources {
    /// Reads file and variables.
    ///
    /// # Errors
    /// The file cannot be read or is no TOML.
    pub(super) fn read(
        file: Option<&Path>,
        environment: &HashMap<String, String>,
        keys: &Keys,
    ) -> Result<(Self, Vec<Misplaced>), String> {
        let variables = environment::set(environment, keys);
        let Some(file) = file else {
            return Ok((Self { file: None, variables }, Vec::new()));
        };
        let name = file.display().to_string();
        let text = read(file).map_err(|problem| format!("{name}: {problem}"))?;
        let mut table = text.parse().map_err(|error| syntax::explain(&name, &text, &error, keys))?;
        let misplaced = take_out_unknown(&mut table, keys);
        Ok((Self { file: Some(Written { name, table }), variables }, misplaced))
    }

    /// The defaults overridden by file and variables, except for some keys that keep their default.
    pub(super) fn merged(&self, without: &BTreeSet<String>) -> Result<config::Config, ConfigError> {
        let mut sources = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = &self.file {
            let mut table = file.table.clone();
            for key in without {
                remove(&mut table, key);
            }
            sources = sources.add_source(File::from_str(&table.to_string(), FileFormat::Toml));
        }
        for (key, variable) in self.variables.iter().filter(|(key, _)| !without.contains(*key)) {
            sources = sources.set_override(key, variable.value.as_str())?;
        }
        sources.build()
    }

    /// The key with its source, or with its short name.
    pub(super) fn describe(&self, key: &str) -> String {
        match self.set_by(key).or_else(|| environment::short_name(key)) {
            Some(source) => format!("{key} ({source})"),
            None => key.to_owned(),
        }
    }

    /// The variable or file that sets this key.
    pub(super) fn set_by(&self, key: &str) -> Option<&str> {
        if let Some(variable) = self.variables.get(key) {
            return Some(&variable.name);
        }
        self.file.as_ref().filter(|file| value(&file.table, root(key)).is_some()).map(|file| &*file.name)
    }

    /// The name of the file, if there is one.
    pub(super) fn file_name(&self) -> &str {
        self.file.as_ref().map_or("", |file| &file.name)
    }

    /// The value of this key for an error, if it may be shown.
    pub(super) fn shown(&self, key: &str) -> Option<String> {
        if is_secret(key) {
            return None;
        }
        if let Some(variable) = self.variables.get(key) {
            return quoted(&variable.value);
        }
        match value(&self.file.as_ref()?.table, key)? {
            toml::Value::String(text) => quoted(text),
            toml::Value::Array(_) | toml::Value::Table(_) => None,
            other => Some(other.to_string()),
        }
    }
}

/// Beginning of an error: the value in quotes, or a note that it is not shown.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(quoted(self.0).as_deref().unwrap_or("this value"))
    }
}

/// The value in quotes, escaped and cut; `None` if it may be a credential.
pub(super) fn quoted(value: &str) -> Option<String> {
    let mut words = value.split(|c: char| !c.is_ascii_alphanumeric());
    let may_be_secret = value.contains('@') || words.any(|word| word.len() >= LIKE_A_CREDENTIAL);
    let cut: String = value.chars().take(LONGEST_VALUE).collect();
    let more = if cut.len() < value.len() { "…" } else { "" };
    (!may_be_secret).then(|| format!("{cut:?}{more}"))
}

/// The name of an unknown key for an error, unless it may be a secret.
fn label(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match quoted(name) {
        None => "a key that is not shown".into(),
        Some(_) if name.len() <= LONGEST_VALUE && name.chars().all(is_plain) => name.into(),
        Some(quoted) => quoted.into(),
    }
}

fn read(file: &Path) -> Result<String, String> {
    if file.is_dir() {
        return Err("is a folder; --config expects a TOML file".to_owned());
    }
    read_text(file)
}

/// Content of a file; otherwise the problem.
pub(super) fn read_text(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        io::ErrorKind::InvalidData => "is no text in UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    })
}

/// The key of the defaults that contains this one: `principals` for `principals[0].id`.
pub(super) fn root(key: &str) -> &str {
    key.split('[').next().unwrap_or(key)
}

/// The value of the key with this full name.
pub(super) fn value<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        Some((section, key)) => table.get(section)?.as_table()?.get(key),
        None => table.get(key),
    }
}

fn remove(table: &mut toml::Table, key: &str) {
    match key.split_once('.') {
        Some((section, key)) => {
            let section = table.get_mut(section).and_then(toml::Value::as_table_mut);
            section.and_then(|section| section.remove(key));
        }
        None => drop(table.remove(key)),
    }
}

/// Removes unknown keys.
fn take_out_unknown(table: &mut toml::Table, keys: &Keys) -> Vec<Misplaced> {
    let mut misplaced = Vec::new();
    let mut found = |key: String, problem: String| misplaced.push(Misplaced { key, problem });
    table.retain(|name, value| {
        if keys.is_section(name) {
            let Some(section) = value.as_table_mut() else {
                found(name.to_owned(), format!("this value is not allowed; expected: a section, [{name}]"));
                return false;
            };
            section.retain(|key, _| {
                let full = format!("{name}.{key}");
                let is_known = keys.contains(&full);
                if !is_known {
                    let allowed = || format!("keys of {name} are {}", join(keys.of_section(name)));
                    found(format!("{name}.{}", label(key)), unknown(keys.meant_by(&full), allowed));
                }
                is_known
            });
            return true;
        }
        if !keys.contains(name) || name.contains('.') {
            let allowed = || {
                let (keys, sections) = (join(keys.outside_sections()), join(keys.sections().into_iter()));
                format!("allowed here are {keys} and the sections {sections}")
            };
            found(label(name).into_owned(), unknown(keys.meant_by(name), allowed));
            return false;
        }
        let Some((_, fields)) = LISTS_OF_TABLES.iter().find(|(list, _)| *list == name) else { return true };
        let entries = value.as_array_mut().into_iter().flatten().enumerate();
        for (number, entry) in entries.filter_map(|(number, entry)| Some((number, entry.as_table_mut()?))) {
            take_out_unknown_fields(entry, fields, |field, problem| {
                found(format!("{name}[{number}].{field}"), problem);
            });
        }
        true
    });
    misplaced
}

/// Removes unknown fields of an entry; `found` gets each with the problem.
pub(super) fn take_out_unknown_fields(
    entry: &mut toml::Table,
    fields: &Fields,
    mut found: impl FnMut(&str, String),
) {
    entry.retain(|field, _| {
        let names = || fields.names.iter().copied();
        let is_known = names().any(|name| name == field);
        if !is_known {
            let allowed = || format!("fields of {} are {}", fields.entry, join(names()));
            found(&label(field), unknown(closest(field, names()), allowed));
        }
        is_known
    });
}

fn unknown(meant: Option<&str>, allowed: impl FnOnce() -> String) -> String {
    match meant {
        Some(meant) => format!("unknown key; did you mean {meant}?"),
        None => format!("unknown key; {}", allowed()),
    }
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
