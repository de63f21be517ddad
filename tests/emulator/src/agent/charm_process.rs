//! One process of a charm: started, watched, its output read line by line.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::world::{Shared, UnitKey};

/// How a process ended and what it printed.
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ended {
    /// SIGTERM or SIGKILL: for Juju, an agent's end rather than a failure.
    pub fn was_terminated(&self) -> bool {
        matches!(self.status.signal(), Some(9 | 15))
    }
}

/// What to start.
pub(crate) struct Plan {
    pub program: std::path::PathBuf,
    pub arguments: Vec<String>,
    pub folder: std::path::PathBuf,
    pub variables: Vec<(String, String)>,
    /// juju-exec commands have a process group of their own.
    pub own_group: bool,
    /// The log module of output lines; None does not log them.
    pub module: Option<String>,
}

/// Runs the process to its end.
pub(crate) fn run(shared: &Arc<Shared>, key: &UnitKey, plan: Plan) -> Result<Ended> {
    let mut command = Command::new(&plan.program);
    command.args(&plan.arguments).current_dir(&plan.folder).env_clear().envs(plan.variables);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if plan.own_group {
        command.process_group(0);
    }
    let mut child = spawn(&mut command).with_context(|| format!("cannot start {}", plan.program.display()))?;
    announce(shared, key, &child);
    let stopped = Arc::new(AtomicBool::new(false));
    let log = |level| plan.module.clone().map(|module| (module, level));
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let (out, out_done) = read_lines(shared, key, stdout, log("DEBUG"), &stopped);
    let (err, err_done) = read_lines(shared, key, stderr, log("WARNING"), &stopped);
    let status = child.wait()?;
    // Juju waits 100 ms for the last output; a child that keeps the pipe open
    // is not waited for, and gets EPIPE after its next line.
    for done in [out_done, err_done] {
        let _closed = done.recv_timeout(Duration::from_millis(100));
    }
    stopped.store(true, Ordering::SeqCst);
    let text = |bytes: Arc<Mutex<Vec<u8>>>| bytes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Ended { status, stdout: text(out), stderr: text(err) })
}

/// Starts a process. A freshly copied executable can be busy for a moment:
/// another thread's child still holds the descriptor it was written with.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < 100 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn announce(shared: &Arc<Shared>, key: &UnitKey, child: &Child) {
    if let Some(running) = shared.lock().unit_mut(key).and_then(|unit| unit.running.as_mut()) {
        running.pid = Some(child.id());
    }
    shared.ring();
}

type Collected = Arc<Mutex<Vec<u8>>>;

fn read_lines(
    shared: &Arc<Shared>,
    key: &UnitKey,
    pipe: impl Read + Send + 'static,
    log: Option<(String, &'static str)>,
    stopped: &Arc<AtomicBool>,
) -> (Collected, mpsc::Receiver<()>) {
    let collected = Collected::default();
    let (done, is_done) = mpsc::channel();
    let (shared, key, stopped, into) = (shared.clone(), key.clone(), stopped.clone(), collected.clone());
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) && !stopped.load(Ordering::SeqCst) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&line);
            if let Some((module, level)) = &log {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.lock().log(&key, level, module, &text);
            }
            line.clear();
        }
        drop(pipe);
        let _nobody_waits = done.send(());
    });
    (collected, is_done)
}
