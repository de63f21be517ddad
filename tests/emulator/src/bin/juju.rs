//! `juju` against an emulated model: passes its command line to the daemon.

fn main() -> std::process::ExitCode {
    match emulator::cli::server::client() {
        Ok(code) => u8::try_from(code).unwrap_or(1).into(),
        Err(error) => {
            eprintln!("ERROR {error:#}");
            1.into()
        }
    }
}
