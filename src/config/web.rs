//! The web configuration: the file that all exporters share, about TLS, client
//! certificates, passwords, headers and a rate limit. `file` is the mirror of its
//! keys, `validate` judges them.
//!
//! `exporter_web` reads the file, and those that it names, again and again.

mod file;
mod validate;

use std::path::Path;

use exporter_web::{WebConfig, WebSource};

use super::Mistake;

/// Watches the file at `path`.
///
/// # Errors
///
/// Where a file cannot be read or what it says cannot be used.
pub fn open(path: &Path) -> Result<WebSource, exporter_web::Error> {
    WebSource::open(path, parse)
}

/// Judges the content of the file at `path`; relative paths in it are relative to
/// that file's folder.
///
/// # Errors
///
/// The first mistake of syntax or shape alone, or else every other one, one line
/// each.
pub fn parse(bytes: &[u8], path: &Path) -> Result<WebConfig, Vec<String>> {
    let file_name = path.display().to_string();
    let judged = super::text(bytes, path).and_then(|text| {
        file::parse(text)
            .map_err(|mistake| vec![mistake])
            .and_then(|file| validate::validate(file, &file_name, path))
            .map_err(|found| super::mistakes(found, &file_name))
    });
    judged.map_err(|error| match error {
        super::Error::Mistakes(mistakes) => mistakes.iter().map(Mistake::to_string).collect(),
        error @ super::Error::Io { .. } => vec![error.to_string()],
    })
}
