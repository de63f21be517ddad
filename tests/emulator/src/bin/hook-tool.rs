//! One executable under the name of every hook tool, and of juju-exec: it
//! passes its command line to the unit agent and prints the answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use emulator::protocol::{ExecuteAsk, Reply, ToolRequest};

fn main() {
    let reply =
        answer().unwrap_or_else(|error| Reply { code: 1, stdout: String::new(), stderr: format!("ERROR {error}\n") });
    print!("{}", reply.stdout);
    eprint!("{}", reply.stderr);
    std::process::exit(reply.code);
}

fn answer() -> anyhow::Result<Reply> {
    let executable = std::env::current_exe()?;
    let called: PathBuf = std::env::args().next().unwrap_or_default().into();
    let name = called.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if name == "juju-exec" {
        return execute(&executable, &arguments);
    }
    let Ok(context) = std::env::var("JUJU_CONTEXT_ID") else { anyhow::bail!("JUJU_CONTEXT_ID not set") };
    let Ok(socket) = std::env::var("JUJU_AGENT_SOCKET_ADDRESS") else {
        anyhow::bail!("JUJU_AGENT_SOCKET_ADDRESS not set")
    };
    let request = ToolRequest { context, tool: name, stdin: read_stdin(&arguments)?, arguments };
    talk(Path::new(&socket), &serde_json::to_string(&request)?)
}

/// Standard input is read only when `--file -` asks for it.
fn read_stdin(arguments: &[String]) -> anyhow::Result<Option<String>> {
    let asked = arguments.iter().any(|word| word == "--file=-")
        || arguments.windows(2).any(|words| words[0] == "--file" && words[1] == "-");
    if !asked {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(Some(text))
}

fn execute(executable: &Path, arguments: &[String]) -> anyhow::Result<Reply> {
    if let Ok(context) = std::env::var("JUJU_CONTEXT_ID") {
        anyhow::bail!("juju-exec cannot be called from within a hook, have context \"{context}\"");
    }
    let mut unit = None;
    let mut relation = None;
    let mut command = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-u" | "--unit" => unit = rest.next().cloned(),
            "-r" | "--relation" => relation = rest.next().cloned(),
            "--remote-unit" | "--remote-app" => {
                rest.next();
            }
            "--no-context" | "--force-remote-unit" => {}
            "--" => command.extend(rest.by_ref().cloned()),
            _ if unit.is_none() => unit = Some(word.clone()),
            _ => {
                command.push(word.clone());
                command.extend(rest.by_ref().cloned());
            }
        }
    }
    let tools = executable.parent().unwrap_or(Path::new("/"));
    let own = tools.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let tag = match unit.as_deref() {
        None | Some("") => own,
        Some(unit) => format!("unit-{}", unit.replace('/', "-")),
    };
    let agents = tools.parent().and_then(Path::parent).unwrap_or(Path::new("/")).join("agents");
    let socket = agents.join(&tag).join("run.socket");
    if !socket.exists() {
        anyhow::bail!("unit \"{}\" not found on this machine", unit.unwrap_or_default());
    }
    talk(&socket, &serde_json::to_string(&ExecuteAsk { command: command.join(" "), relation })?)
}

fn talk(socket: &Path, request: &str) -> anyhow::Result<Reply> {
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| anyhow::anyhow!("dialing juju run socket: dial unix {}: {error}", socket.display()))?;
    stream.write_all(request.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        anyhow::bail!("connection is shut down");
    }
    Ok(serde_json::from_str(&line)?)
}
