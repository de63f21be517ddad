//! Where log lines go: through `juju-log` in a hook or action, to a file in the worker.
//!
//! Only our own lines pass below the level of a warning: libraries may log statements,
//! and those may hold a password.

use super::hook_tool::{Call, HookTools};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Linux refuses a longer argument (128 KiB); also when lines waiting for `juju-log` are sent.
const LONGEST: usize = 100 * 1024;
/// The worker's log is moved aside at this size, in bytes, and one older file is kept.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Sends lines to `juju-log` for the rest of this hook or action. Lines below a warning wait for
/// [`log::Log::flush`], because each `juju-log` is a process: call `log::logger().flush()` before the end.
pub fn start_in_hook(tools: HookTools, level: LevelFilter) {
    install(Box::new(HookLog { tools, waiting: Mutex::default() }), level);
}

/// Writes lines to a file for the rest of this process: at most 1 MiB, and as much in `<file>.1`.
///
/// # Errors
/// When the file cannot be opened.
pub fn start_in_worker(file: &Path, level: LevelFilter) -> std::io::Result<()> {
    install(Box::new(FileLog::open(file, LARGEST_FILE)?), level);
    Ok(())
}

fn install(logger: Box<dyn Log>, level: LevelFilter) {
    // A second logger in one process (only tests do that) leaves the first in place.
    let _ = log::set_boxed_logger(logger);
    log::set_max_level(level);
}

fn wanted(metadata: &Metadata<'_>) -> bool {
    let ours = ["coordinator", "dispatch"];
    let root = metadata.target().split("::").next().unwrap_or_default();
    metadata.level() <= log::max_level() && (ours.contains(&root) || metadata.level() <= Level::Warn)
}

/// A lock whose holder panicked still guards sound data here: lines of text.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct HookLog {
    tools: HookTools,
    waiting: Mutex<Vec<(Level, String)>>,
}

impl Log for HookLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !wanted(record.metadata()) {
            return;
        }
        let mut waiting = locked(&self.waiting);
        waiting.push((record.level(), record.args().to_string()));
        let size: usize = waiting.iter().map(|(_, line)| line.len()).sum();
        if record.level() <= Level::Warn || size > LONGEST {
            drop(waiting);
            self.flush();
        }
    }

    fn flush(&self) {
        let lines = std::mem::take(&mut *locked(&self.waiting));
        for (level, text) in joined(lines) {
            // A lost log line must not fail a hook, and there is nowhere else to tell it.
            let _ = self.tools.run(Call::new("juju-log", ["-l", level.as_str(), "--", text.as_str()]));
        }
    }
}

/// Neighbouring lines of one level, joined and cut into pieces that fit into an argument.
fn joined(lines: Vec<(Level, String)>) -> Vec<(Level, String)> {
    let mut pieces: Vec<(Level, String)> = Vec::new();
    for (level, line) in lines {
        let mut rest = line.replace('\0', "");
        loop {
            let end = (0..=rest.len().min(LONGEST)).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(0);
            let tail = rest.split_off(end);
            match pieces.last_mut() {
                Some((last, text)) if *last == level && text.len() + rest.len() < LONGEST => {
                    text.push('\n');
                    text.push_str(&rest);
                }
                _ => pieces.push((level, rest)),
            }
            if tail.is_empty() {
                break;
            }
            rest = tail;
        }
    }
    pieces
}

struct FileLog {
    path: PathBuf,
    largest: u64,
    open: Mutex<(File, u64)>,
}

impl FileLog {
    fn open(path: &Path, largest: u64) -> std::io::Result<Self> {
        let file = appending(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), largest, open: Mutex::new((file, size)) })
    }

    fn write(&self, line: &str) -> std::io::Result<()> {
        let mut open = locked(&self.open);
        if open.1 + line.len() as u64 > self.largest {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            *open = (appending(&self.path)?, 0);
        }
        open.0.write_all(line.as_bytes())?;
        open.1 += line.len() as u64;
        Ok(())
    }
}

fn appending(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Log for FileLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if wanted(record.metadata()) {
            let line = format!("{} {} {}\n", utc(SystemTime::now()), record.level(), record.args());
            // A full disk must not stop a migration.
            let _ = self.write(&line);
        }
    }

    fn flush(&self) {}
}

/// `2026-11-23T19:00:02Z`.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map(|passed| passed.as_secs()).unwrap_or_default();
    let (days, day) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is the last of a year, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (day / 3_600, day / 60 % 60, day % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;
    use super::*;
    use std::time::Duration;

    fn send(logger: &dyn Log, target: &str, level: Level, text: &str) {
        log::set_max_level(LevelFilter::Info);
        logger.log(&Record::builder().target(target).level(level).args(format_args!("{text}")).build());
    }

    #[test]
    fn a_hook_sends_few_processes_and_nothing_of_libraries() {
        let scripts = Scripts::new().tool("juju-log", "exit 0");
        let logger = HookLog { tools: scripts.tools(), waiting: Mutex::default() };
        send(&logger, "coordinator::charm", Level::Info, "-one");
        send(&logger, "coordinator", Level::Info, "two");
        send(&logger, "coordinator", Level::Debug, "not asked for");
        send(&logger, "tokio_postgres::connection", Level::Info, "password=hunter2");
        assert!(scripts.calls("juju-log").is_empty());
        send(&logger, "rustls::client", Level::Warn, "three");
        let calls = scripts.calls("juju-log");
        assert_eq!(calls, ["-l", "INFO", "--", "-one", "two", "-l", "WARN", "--", "three"]);
    }

    #[test]
    fn long_lines_are_cut_into_pieces() {
        let pieces = joined(vec![(Level::Info, "ü".repeat(LONGEST))]);
        assert!(pieces.len() >= 2 && pieces.iter().all(|(_, text)| text.len() <= LONGEST));
        assert_eq!(pieces.iter().map(|(_, text)| text.chars().count()).sum::<usize>(), LONGEST);
    }

    #[test]
    fn the_file_stays_small_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let scripts = Scripts::new();
        let path = scripts.folder().join("worker.log");
        let logger = FileLog::open(&path, 400).unwrap();
        for number in 0..100 {
            send(&logger, "coordinator::worker", Level::Info, &format!("line {number}"));
        }
        let older = scripts.folder().join("worker.log.1");
        for file in [&path, &older] {
            let metadata = std::fs::metadata(file).unwrap();
            assert!(metadata.len() <= 400 && metadata.len() > 0);
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("INFO line 99\n"));
    }

    #[test]
    fn times_are_utc() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_826_210), "2000-02-29T12:10:10Z");
        assert_eq!(at(1_795_460_402), "2026-11-23T19:00:02Z");
    }
}
