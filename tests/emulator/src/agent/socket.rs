//! The unit's two sockets: hook tools talk to `agent.socket`, juju-exec to
//! `run.socket`. One JSON line in, one JSON line out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, mpsc};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::session::Session;
use crate::tools::{self, Call};
use crate::world::{ExecuteRequest, ExecuteResult, Life, Shared, UnitKey};

/// What a hook tool asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToolRequest {
    pub context: String,
    pub tool: String,
    pub arguments: Vec<String>,
    /// Read by the tool only when an argument asks for it.
    pub stdin: Option<String>,
}

/// What juju-exec asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecuteAsk {
    pub command: String,
    pub relation: Option<String>,
}

/// What a tool prints and its exit code.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Opens both sockets of a unit and serves them until the emulator stops.
pub(crate) fn listen(shared: &Arc<Shared>, key: &UnitKey) -> Result<()> {
    let folder = shared.lock().agent_folder(key);
    for name in ["agent.socket", "run.socket"] {
        let path = folder.join(name);
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let (shared, key) = (shared.clone(), key.clone());
        let for_tools = name == "agent.socket";
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.lock().stopping {
                    break;
                }
                let (shared, key) = (shared.clone(), key.clone());
                std::thread::spawn(move || {
                    let _client_gone = if for_tools {
                        serve_tool(&shared, &key, stream)
                    } else {
                        serve_execute(&shared, &key, stream)
                    };
                });
            }
        });
    }
    Ok(())
}

fn read_line<T: for<'a> Deserialize<'a>>(stream: &UnixStream) -> Result<T> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn answer(mut stream: UnixStream, reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_string(reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    Ok(())
}

fn serve_tool(shared: &Arc<Shared>, key: &UnitKey, stream: UnixStream) -> Result<()> {
    let request: ToolRequest = read_line(&stream)?;
    let reply = {
        let mut world = shared.lock();
        // Taken out while the tool runs; the lock makes tools of one context
        // run one at a time.
        match world.contexts.remove(&request.context).filter(|context| context.key == *key) {
            None => Reply {
                code: 1,
                stderr: format!("ERROR bad request: wrong context ID; got \"{}\"\n", request.context),
                ..Reply::default()
            },
            Some(mut context) => {
                let call = Call { tool: &request.tool, arguments: &request.arguments, stdin: request.stdin.as_deref() };
                let reply = tools::answer(&mut Session { world: &mut world, context: &mut context }, &call);
                world.contexts.insert(request.context, context);
                reply
            }
        }
    };
    shared.ring();
    answer(stream, &reply)
}

fn serve_execute(shared: &Arc<Shared>, key: &UnitKey, stream: UnixStream) -> Result<()> {
    let ask: ExecuteAsk = read_line(&stream)?;
    let result = execute(shared, key, ask);
    answer(stream, &Reply { code: result.code, stdout: result.stdout, stderr: result.stderr })
}

/// Queues a command in the unit's context and waits for its end.
pub(crate) fn execute(shared: &Arc<Shared>, key: &UnitKey, ask: ExecuteAsk) -> ExecuteResult {
    let refused = |text: String| ExecuteResult { code: 1, stdout: String::new(), stderr: format!("ERROR {text}\n") };
    let (done, result) = mpsc::channel();
    {
        let mut world = shared.lock();
        let id = world.next_execute;
        world.next_execute += 1;
        match world.unit_mut(key).filter(|unit| unit.life != Life::Dead) {
            Some(unit) => {
                unit.execute.push_back(ExecuteRequest { id, command: ask.command, relation: ask.relation, done });
            }
            None => return refused(format!("unit \"{}\" not found on this machine", key.unit_name())),
        }
    }
    shared.ring();
    result.recv().unwrap_or_else(|_| refused("command execution aborted".into()))
}

/// Reads `key=value` pairs of a YAML map of strings.
pub(crate) fn parse_pairs_file(text: &str) -> Result<BTreeMap<String, String>, String> {
    let parsed: BTreeMap<String, serde_yaml::Value> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    parsed
        .into_iter()
        .map(|(key, value)| match value {
            serde_yaml::Value::String(text) => Ok((key, text)),
            serde_yaml::Value::Null => Ok((key, String::new())),
            serde_yaml::Value::Bool(flag) => Ok((key, flag.to_string())),
            serde_yaml::Value::Number(number) => Ok((key, number.to_string())),
            _ => Err(format!("{key}: expected a scalar")),
        })
        .collect()
}
