//! The addresses of one server.

use super::Application;
use crate::ports::Port;
use serde_json::{Value, json};
use std::marker::PhantomData;

/// The two ports of a server; a server that is restarted on the same ports keeps its addresses.
#[derive(Debug)]
pub struct Ports<A> {
    public: Port,
    admin: Port,
    of: PhantomData<A>,
}

impl<A: Application> Ports<A> {
    pub fn reserve() -> anyhow::Result<Self> {
        Ok(Self { public: Port::reserve()?, admin: Port::reserve()?, of: PhantomData })
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.public.number())
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin.number())
    }

    /// A client for the server on these ports.
    pub fn client(&self) -> A::Client {
        A::client(&self.public_url(), &self.admin_url())
    }

    /// Where a server listens, as both applications are configured with it.
    pub(crate) fn listen(&self) -> Value {
        json!({
            "public": {"host": "127.0.0.1", "port": self.public.number()},
            "admin": {"host": "127.0.0.1", "port": self.admin.number()},
        })
    }
}
