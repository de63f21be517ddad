//! A certificate authority and a server certificate for one cluster, made with the openssl program.

use crate::places::{give_away, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Puts `server.crt` and `server.key` into `folder` and returns the certificate of the CA that signed them.
pub fn certificate(folder: &Path) -> anyhow::Result<String> {
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cluster-ca -keyout ca.key -out ca.crt \
        -addext keyUsage=critical,keyCertSign,cRLSign",
    )?;
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=postgresql -keyout server.key -out server.csr")?;
    fs::write(
        folder.join("server.ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n",
    )?;
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
        -out server.crt",
    )?;
    let key = folder.join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    give_away(&key)?;
    Ok(fs::read_to_string(folder.join("ca.crt"))?)
}

fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<()> {
    run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder)).map(drop)
}
