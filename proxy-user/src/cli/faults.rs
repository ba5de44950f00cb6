//! Faults of config and policy files as a command reports them.

use std::fmt::Write as _;

use proxy_core::diagnostic::{Diagnostic, FileDiagnostic};

/// All faults of one file as one error, each on its line.
pub(super) fn as_error(file: &str, found: Vec<Diagnostic>) -> anyhow::Error {
    let in_file = |diagnostic| FileDiagnostic { file: file.to_owned(), diagnostic };
    anyhow::anyhow!("{}", list(&found.into_iter().map(in_file).collect::<Vec<_>>()))
}

/// `2 faults` and the faults, each as `file:line:column: /pointer: message`.
pub(super) fn list(faults: &[FileDiagnostic]) -> String {
    let mut text = match faults.len() {
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    };
    for fault in faults {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{fault}");
    }
    text
}
