//! The daemon's control socket and its client: a command line in, printed
//! pieces and an exit code out, a JSON line each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Printer, execute};
use crate::model::Controller;

/// The variable that names the control socket.
pub const SOCKET_VARIABLE: &str = "JUJU_EMULATOR_SOCKET";

#[derive(Serialize, Deserialize)]
struct Request {
    words: Vec<String>,
    folder: PathBuf,
    /// Read only for a command that asks for it.
    input: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Piece {
    Out(String),
    Err(String),
    Exit(i32),
}

/// Serves commands from a thread for as long as the process lives; `model` is
/// the one that commands mean first.
pub fn serve(controller: Arc<Controller>, model: &str, socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let current = Arc::new(Mutex::new(model.to_owned()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (controller, current) = (controller.clone(), current.clone());
            std::thread::spawn(move || {
                let _client_gone = answer(&controller, &current, stream);
            });
        }
    });
    Ok(())
}

fn answer(controller: &Controller, current: &Mutex<String>, stream: UnixStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut model = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut printer = Pieces { stream, input: request.input };
    let code = execute(controller, &mut model, &request.words, &request.folder, &mut printer);
    *current.lock().unwrap_or_else(PoisonError::into_inner) = model;
    printer.send(&Piece::Exit(code))
}

struct Pieces {
    stream: UnixStream,
    input: Option<String>,
}

impl Pieces {
    fn send(&mut self, piece: &Piece) -> Result<()> {
        let mut line = serde_json::to_string(piece)?;
        line.push('\n');
        Ok(self.stream.write_all(line.as_bytes())?)
    }
}

impl Printer for Pieces {
    fn out(&mut self, text: &str) -> Result<()> {
        self.send(&Piece::Out(text.to_owned()))
    }

    fn err(&mut self, text: &str) -> Result<()> {
        self.send(&Piece::Err(text.to_owned()))
    }

    fn input(&mut self) -> Result<String> {
        self.input.take().context("nothing came on standard input")
    }
}

/// Sends this process's command line to the daemon and prints what it says.
pub fn client() -> Result<i32> {
    let socket = std::env::var_os(SOCKET_VARIABLE)
        .with_context(|| format!("cannot find the emulated model: {SOCKET_VARIABLE} is not set; open `make shell`"))?;
    let mut stream = UnixStream::connect(&socket)
        .with_context(|| format!("cannot reach the emulated model at {}", Path::new(&socket).display()))?;
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let asks = words.iter().any(|word| word == "--no-prompt") && words[0] == "change-user-password";
    let input = if asks { std::io::stdin().lines().next().transpose()? } else { None };
    let request = Request { words, folder: std::env::current_dir()?, input };
    stream.write_all(format!("{}\n", serde_json::to_string(&request)?).as_bytes())?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Piece::Out(text) => {
                print!("{text}");
                std::io::stdout().flush()?;
            }
            Piece::Err(text) => eprint!("{text}"),
            Piece::Exit(code) => return Ok(code),
        }
    }
    anyhow::bail!("the emulated model went away")
}
