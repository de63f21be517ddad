//! The operator's command line: the part of `juju` that a story needs, with
//! its words and its printing.

mod actions;
mod arguments;
mod deploy;
mod look;
pub mod server;
mod status;
mod users;
mod yaml;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::model::{Controller, Model};
use arguments::Arguments;

/// Where a command prints; an error means that nobody reads any more.
pub trait Printer {
    fn out(&mut self, text: &str) -> Result<()>;
    fn err(&mut self, text: &str) -> Result<()>;

    /// What the caller typed into the command's standard input.
    fn input(&mut self) -> Result<String> {
        bail!("nothing can be read from here")
    }
}

/// One call of `juju`.
pub(crate) struct Call<'a> {
    controller: &'a Controller,
    model: Model,
    /// Relative paths start here.
    folder: PathBuf,
    arguments: Arguments,
    printer: &'a mut dyn Printer,
}

const HELP: &str = "\
juju, as far as this emulator of a model plays it:
  status  show-unit  debug-log  models  switch  model-config
  deploy  add-unit  remove-unit  remove-application  refresh  attach-resource  config  resolved
  integrate (relate)  remove-relation  offer  consume
  run  show-task  show-operation  operations  cancel-task  exec  ssh
  add-secret  update-secret  grant-secret  revoke-secret  secrets
  add-user  change-user-password  disable-user  enable-user  grant  revoke
  disable-command  enable-command
Each takes the options of the real command that a story needs; -m names a model.
";

/// Runs one command line (without the leading `juju`) and returns its exit
/// code. `current` is the model that `switch` chose.
pub fn execute(
    controller: &Controller,
    current: &mut String,
    words: &[String],
    folder: &Path,
    printer: &mut dyn Printer,
) -> i32 {
    match run(controller, current, words, folder, printer) {
        Ok(code) => code,
        Err(error) => {
            // Without a reader there is nobody to tell.
            let _nobody_reads = printer.err(&format!("ERROR {error:#}\n"));
            1
        }
    }
}

fn run(
    controller: &Controller,
    current: &mut String,
    words: &[String],
    folder: &Path,
    printer: &mut dyn Printer,
) -> Result<i32> {
    let Some((command, rest)) = words.split_first() else {
        printer.out(HELP)?;
        return Ok(0);
    };
    match command.as_str() {
        "help" | "--help" | "-h" => {
            printer.out(HELP)?;
            return Ok(0);
        }
        "version" | "--version" => {
            printer.out(&format!("{} (emulator)\n", controller.version()))?;
            return Ok(0);
        }
        "models" => {
            for name in controller.models() {
                let star = if name == *current { "*" } else { "" };
                printer.out(&format!("{name}{star}\n"))?;
            }
            return Ok(0);
        }
        "add-model" => {
            let [name] = rest else { bail!("model name is required") };
            controller.add_model(name)?;
            *current = name.clone();
            return Ok(0);
        }
        "switch" => {
            if let [name] = rest {
                controller.model(name)?;
                *current = name.clone();
            }
            printer.out(&format!("{current}\n"))?;
            return Ok(0);
        }
        _ => {}
    }
    let arguments = Arguments::parse(command, rest)?;
    let model = controller.model(arguments.value("model").unwrap_or(current))?;
    let mut call = Call { controller, model, folder: folder.to_owned(), arguments, printer };
    match command.as_str() {
        "status" => call.status(),
        "show-unit" => call.show_unit(),
        "debug-log" => call.debug_log(),
        "model-config" => call.model_config(),
        "deploy" => call.deploy(),
        "add-unit" => call.add_unit(),
        "remove-unit" => call.remove_unit(),
        "remove-application" => call.remove_application(),
        "refresh" => call.refresh(),
        "attach-resource" => call.attach_resource(),
        "config" => call.config(),
        "resolved" => call.resolved(),
        "integrate" | "relate" => call.integrate(),
        "remove-relation" => call.remove_relation(),
        "offer" => call.offer(),
        "consume" => call.consume(),
        "run" => call.run_action(),
        "show-task" => call.show_task(),
        "show-operation" => call.show_operation(),
        "operations" => call.operations(),
        "cancel-task" => call.cancel_task(),
        "exec" => call.exec(),
        "ssh" => call.ssh(),
        "add-secret" => call.add_secret(),
        "update-secret" => call.update_secret(),
        "grant-secret" => call.grant_secret(true),
        "revoke-secret" => call.grant_secret(false),
        "secrets" => call.secrets(),
        "add-user" => call.add_user(),
        "change-user-password" => call.change_user_password(),
        "disable-user" => call.disable_user(true),
        "enable-user" => call.disable_user(false),
        "grant" => call.grant(),
        "revoke" => call.revoke(),
        "disable-command" => call.disable_command(),
        "enable-command" => call.enable_command(),
        other => bail!("unrecognized command: juju {other}; this emulator plays the commands of `juju help`"),
    }
}

impl Call<'_> {
    fn argument(&self, place: usize, what: &str) -> Result<String> {
        self.arguments.positional(place, what)
    }

    fn out(&mut self, text: &str) -> Result<()> {
        self.printer.out(text)
    }
}
