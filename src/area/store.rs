//! A job's folder: `plan.json`, and `blocks/ROW/COLUMN.block` for each block that is finished.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::block::{self, BlockFile};
use super::grid::Block;
use super::plan::{Plan, differences, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Window;
use crate::source::write::{atomic, is_unfinished};

const PLAN: &str = "plan.json";
/// The largest plan that is read; one of a country's outline takes a megabyte.
const MAX_PLAN_BYTES: u64 = 256 << 20;
/// A file that was begun so long ago and is not finished is one of a process that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What a folder has of a block.
#[derive(Debug)]
pub enum State {
    /// All of it.
    Whole,
    /// Nothing.
    Missing,
    /// A file that cannot be used, and why.
    Damaged(Error),
}

/// The folder of a job. Every file in it appears whole or not at all, so that several processes may share it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    plan: [u8; 32],
}

impl Store {
    /// The folder of a job of this plan: made if it is not there, else one whose plan is the same.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is the folder of another plan, naming what differs, or of something else;
    /// [`ErrorKind::Io`] if it cannot be written.
    pub fn open(folder: &Path, plan: &Plan) -> Result<Self> {
        let text = plan.text()?;
        let file = folder.join(PLAN);
        if file.exists() {
            let theirs = read_plan(&file)?;
            if theirs != text {
                let what = format!("is the folder of another job: {}", differences(&text, &theirs));
                return Err(Error::new(ErrorKind::Invalid, what)
                    .at(folder.display())
                    .remedy("choose another folder, or remove this one"));
            }
        } else {
            let cannot = |e: std::io::Error| {
                Error::new(ErrorKind::Io, "the job's folder cannot be made")
                    .source(e)
                    .at(folder.display())
                    .remedy("choose a folder that may be written")
            };
            fs::create_dir_all(folder).map_err(cannot)?;
            let mut entries = fs::read_dir(folder).map_err(cannot)?.flatten().map(|e| e.file_name());
            // Another process may be making the same folder now.
            if entries.any(|name| !is_unfinished(&name) && name != "blocks" && name != PLAN) {
                return Err(Error::new(ErrorKind::Invalid, "holds other files and no job")
                    .at(folder.display())
                    .remedy("choose an empty folder"));
            }
            if file.exists() {
                return Self::open(folder, plan);
            }
            atomic(&file, |out| Ok(std::io::Write::write_all(out, text.as_bytes())?))?;
        }
        let store = Self { folder: folder.to_owned(), plan: hash(&text) };
        store.sweep();
        Ok(store)
    }

    /// The folder of a job that is there, and its plan.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Format`] if its plan is damaged.
    pub fn existing(folder: &Path) -> Result<(Self, Plan)> {
        let file = folder.join(PLAN);
        if !file.is_file() {
            return Err(
                Error::new(ErrorKind::NotFound, format!("is no job's folder: it has no {PLAN}")).at(folder.display())
            );
        }
        let text = read_plan(&file)?;
        let plan = Plan::parse(&text).map_err(|e| e.at(file.display()))?;
        Ok((Self { folder: folder.to_owned(), plan: hash(&text) }, plan))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses a folder of another plan.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], naming what differs.
    pub fn same_plan(&self, other: &Self) -> Result<()> {
        if self.plan == other.plan {
            return Ok(());
        }
        let (ours, theirs) = (read_plan(&self.folder.join(PLAN))?, read_plan(&other.folder.join(PLAN))?);
        let what = format!("is of another job than {}: {}", self.folder.display(), differences(&ours, &theirs));
        Err(Error::new(ErrorKind::Invalid, what).at(other.folder.display()).remedy("merge the shares of one job"))
    }

    fn path(&self, block: Block) -> PathBuf {
        self.folder.join("blocks").join(block.row.to_string()).join(format!("{}.block", block.column))
    }

    /// Whether a file of the block is there, of whatever content.
    pub(super) fn has(&self, block: Block) -> bool {
        self.path(block).is_file()
    }

    /// Opens a block.
    ///
    /// # Errors
    /// As [`BlockFile::open`], naming the file.
    fn read(&self, block: Block, part: Window) -> Result<BlockFile> {
        let path = self.path(block);
        let file = File::open(&path).map_err(|e| Error::from(e).at(path.display()))?;
        BlockFile::open(file, &self.plan, part).map_err(|e| e.at(path.display()))
    }

    /// [`BlockFile::stripe`] of a block that is `part` of the raster, naming the file.
    pub(super) fn stripe(&self, block: Block, part: Window, stripe: usize) -> Result<Vec<u8>> {
        self.read(block, part)?.stripe(stripe).map_err(|e| e.at(self.path(block).display()))
    }

    /// What there is of a block that is `part` of the raster; reads it all.
    pub fn state(&self, block: Block, part: Window) -> State {
        if !self.has(block) {
            return State::Missing;
        }
        match self.read(block, part).and_then(|mut file| file.verify().map_err(|e| e.at(self.path(block).display()))) {
            Ok(()) => State::Whole,
            Err(error) => State::Damaged(error),
        }
    }

    /// Keeps a finished block.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], naming the file, for instance if the disk is full.
    pub fn put(&self, block: Block, part: Window, classes: &[u8], confidence: &[u8]) -> Result<()> {
        let path = self.path(block);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|e| Error::from(e).at(folder.display()).remedy("check the job's folder"))?;
        }
        atomic(&path, |out| block::write(out, &self.plan, part, classes, confidence))
    }

    /// Removes the folder with all that a job keeps there, and nothing else.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if that fails.
    pub fn remove(self) -> Result<()> {
        let place = |e: std::io::Error| Error::from(e).at(self.folder.display());
        if self.folder.join("blocks").exists() {
            fs::remove_dir_all(self.folder.join("blocks")).map_err(place)?;
        }
        fs::remove_file(self.folder.join(PLAN)).map_err(place)?;
        // What else somebody put there stays.
        let _ = fs::remove_dir(&self.folder);
        Ok(())
    }

    /// Removes what processes that were killed left behind.
    fn sweep(&self) {
        let Ok(rows) = fs::read_dir(self.folder.join("blocks")) else { return };
        let folders = rows.flatten().map(|e| e.path()).chain([self.folder.clone()]);
        for entry in folders.filter_map(|f| fs::read_dir(f).ok()).flat_map(Iterator::flatten) {
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if is_unfinished(&entry.file_name()) && age.is_some_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn read_plan(file: &Path) -> Result<String> {
    let place = |e: Error| e.at(file.display());
    let length = fs::metadata(file).map_err(|e| place(e.into()))?.len();
    if length > MAX_PLAN_BYTES {
        return Err(place(Error::new(ErrorKind::Limit, format!("a plan of {length} bytes is too large"))));
    }
    let bytes = fs::read(file).map_err(|e| place(e.into()))?;
    String::from_utf8(bytes)
        .map_err(|_| place(Error::new(ErrorKind::Format, "is no plan of a job").remedy("start a new job")))
}
