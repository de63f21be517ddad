//! A mail server that takes everything and remembers it.

use anyhow::Context;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A mail server on a loopback port; it ends with the process.
#[derive(Debug, Clone)]
pub struct MailSink {
    port: u16,
    subjects: Arc<Mutex<Vec<String>>>,
}

impl MailSink {
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for mail")?;
        let sink = Self { port: listener.local_addr()?.port(), subjects: Arc::default() };
        let subjects = Arc::clone(&sink.subjects);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let subjects = Arc::clone(&subjects);
                std::thread::spawn(move || {
                    // A client that hangs up has sent what it had.
                    let _hung_up = take(&connection, &subjects);
                });
            }
        });
        Ok(sink)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The subjects of what was delivered, in its order.
    pub fn subjects(&self) -> Vec<String> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One client's session, as RFC 5321 has it.
fn take(connection: &TcpStream, subjects: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut out = connection;
    let mut say = |line: &str| out.write_all(format!("{line}\r\n").as_bytes());
    say("220 mail.example")?;
    let mut lines = BufReader::new(connection).lines();
    while let Some(line) = lines.next().transpose()? {
        match line.to_ascii_uppercase().split(' ').next() {
            Some("DATA") => {
                say("354 go on")?;
                let mut subject = String::new();
                for line in lines.by_ref() {
                    let line = line?;
                    if let Some(found) = line.strip_prefix("Subject: ") {
                        found.clone_into(&mut subject);
                    }
                    if line == "." {
                        break;
                    }
                }
                subjects.lock().unwrap_or_else(PoisonError::into_inner).push(subject);
                say("250 taken")?;
            }
            Some("QUIT") => return say("221 bye"),
            _ => say("250 well")?,
        }
    }
    Ok(())
}
