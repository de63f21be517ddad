//! A wall clock that jumps, for one process and what it starts: libfaketime (the package of that name) between the
//! program and the C library. Durations that programs measure with the monotonic clock stay what they are.

use crate::folder::Folder;
use crate::places::give_away;
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian and Ubuntu have it, in a folder per architecture; the variant for programs with several threads.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// One clock; programs that were started with it see its jumps at once.
#[derive(Debug)]
pub struct Clock {
    folder: Folder,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right as yet.
    pub fn new() -> anyhow::Result<Self> {
        let libraries = fs::read_dir(LIBRARIES).context("cannot look for libfaketime")?;
        let library = libraries.flatten().map(|entry| entry.path().join(LIBRARY)).find(|path| path.is_file());
        let library = library.context("cannot find libfaketime; run tests/peers/setup")?;
        let clock = Self { folder: Folder::create()?, library };
        clock.jump(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds before or behind the machine's.
    pub fn jump(&self, seconds: i64) -> anyhow::Result<()> {
        let beside = self.folder.path().join("offset.new");
        fs::write(&beside, format!("{seconds:+}\n"))?;
        give_away(&beside)?;
        Ok(fs::rename(beside, self.offset())?)
    }

    /// Has a program and its children see this clock.
    pub fn rule(&self, command: &mut Command) {
        command.envs(self.variables());
    }

    /// Puts a script in a program's place that starts it with this clock; the program is moved beside it.
    pub fn rule_program(&self, program: &Path) -> anyhow::Result<()> {
        let moved = program.with_extension("itself");
        fs::rename(program, &moved)?;
        let set: Vec<String> = self.variables().iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        let script = format!("#!/bin/sh\nexec env {} '{}' \"$@\"\n", set.join(" "), moved.display());
        fs::write(program, script)?;
        Ok(fs::set_permissions(program, fs::metadata(&moved)?.permissions())?)
    }

    fn offset(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}
