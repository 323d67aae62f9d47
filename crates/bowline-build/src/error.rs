//! What generation reports: every problem found, each with its place and its mend.

use std::fmt;

/// Where something stands in a `.proto` file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file as the user knows it: the path on disk, or the import name of a bundled file.
    pub(crate) file: String,
    /// One-based; absent when the descriptor carries no source information.
    pub(crate) line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One thing that is wrong: `place: what; mend`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    place: Option<Place>,
    text: String,
}

/// Collects problems so that one run reports all of them.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, place: &Place, text: impl Into<String>) {
        let problem = Problem { place: Some(place.clone()), text: text.into() };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Nothing wrong, or all that is, in the order of the files and lines.
    pub(crate) fn into_result(mut self) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        Err(Error { problems: self.0 })
    }
}

/// Why code could not be generated.
///
/// `Display` prints one line per problem, `file:line: what is wrong; how to mend it`. `Debug` prints
/// the same, because that is what cargo shows of an error returned by a build script's `main`.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    /// A problem that belongs to no line of a file.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { problems: vec![Problem { place: None, text: text.into() }] }
    }

    /// How many problems are reported; at least one.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(place) = &problem.place {
                write!(f, "{place}: ")?;
            }
            f.write_str(&problem.text)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line break first keeps cargo's `Error: ` from hiding the file name.
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Error {}
