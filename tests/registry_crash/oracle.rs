//! The log of what was begun and what was acknowledged, outside the data folder.
//! A line is one write: the system keeps it when the process is killed.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::operation::Operation;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    Begun { writer: usize, operation: Operation },
    Answered { writer: usize, refusal: Option<String> },
}

#[derive(Clone)]
pub(crate) struct Oracle(Arc<File>);

impl Oracle {
    pub(crate) fn path(root: &Path) -> PathBuf {
        root.join("oracle")
    }

    pub(crate) fn length(root: &Path) -> u64 {
        fs::metadata(Self::path(root)).map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn open(root: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(Self::path(root));
        Self(Arc::new(file.unwrap()))
    }

    pub(crate) fn write(&self, line: &Line) {
        let text = serde_json::to_string(line).unwrap() + "\n";
        (&*self.0).write_all(text.as_bytes()).unwrap();
    }

    /// Every line but one that was cut.
    pub(crate) fn read(root: &Path) -> Vec<Line> {
        let text = fs::read_to_string(Self::path(root)).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
