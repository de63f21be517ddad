//! A TCP proxy before a PostgreSQL server that misbehaves when told to: it loses a reply after the server acted, cuts
//! what is open, refuses, is slow, says nothing any more, or leads to another server. It reads the framing of the
//! protocol's messages (PostgreSQL's documentation, "Frontend/Backend Protocol"), so it knows where a reply ends; it
//! does not speak TLS.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The server's message that ends a reply.
const READY_FOR_QUERY: u8 = b'Z';

/// How the proxy behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It passes everything on.
    Pass,
    /// It passes everything on, after a while.
    Slow(Duration),
    /// It keeps connections open and passes nothing on, not even that one side closed its end.
    Silent,
    /// It closes every new connection at once.
    Refuse,
}

/// Counts replies over all proxies that share it, and loses some.
#[derive(Debug, Default)]
pub struct Replies {
    state: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    passed: u64,
    /// How many replies pass before each that is lost, the next one last.
    lose_after: Vec<u64>,
    lost: usize,
}

impl Replies {
    /// The reply that follows `n` more is lost: the server acted, its answer never arrives and the connection is cut.
    pub fn lose_after(&self, n: u64) {
        self.lose_in_turn(&[n]);
    }

    /// One reply after the other is lost, each when so many more have passed.
    pub fn lose_in_turn(&self, passing: &[u64]) {
        *lock(&self.state) = Count { lose_after: passing.iter().rev().copied().collect(), ..Count::default() };
    }

    /// No reply will be lost; answers whether one was since it was asked for.
    pub fn lose_none(&self) -> bool {
        std::mem::take(&mut *lock(&self.state)).lost > 0
    }

    /// How many were lost since it was asked for.
    pub fn lost(&self) -> usize {
        lock(&self.state).lost
    }

    /// True when this very reply is the one to lose.
    fn loses_this(&self) -> bool {
        let mut state = lock(&self.state);
        let this = state.lose_after.last() == Some(&state.passed);
        state.passed += 1;
        if this {
            state.passed = 0;
            state.lost += 1;
            state.lose_after.pop();
        }
        this
    }
}

/// A proxy on a free loopback port.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    replies: Arc<Replies>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    upstream: (String, u16),
    manner: Manner,
    ended: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// Stands before `host:port`; its replies are counted by `replies`.
    pub fn start(host: &str, port: u16, replies: &Arc<Replies>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let shared = Arc::new(Shared {
            replies: Arc::clone(replies),
            state: Mutex::new(State {
                upstream: (host.to_owned(), port),
                manner: Manner::Pass,
                ended: false,
                open: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let port = listener.local_addr()?.port();
        let inside = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if lock(&inside.state).ended {
                    return;
                }
                // A connection that cannot be passed on is closed, which is what the client then sees.
                if let Ok(client) = client {
                    let _closed = inside.accept(client);
                }
            }
        });
        Ok(Self { port, shared })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every open connection, on both sides; answers how many there were.
    pub fn cut(&self) -> usize {
        cut(&mut lock(&self.shared.state))
    }

    /// Connections stay open and nothing arrives any more; new ones are accepted and hear nothing.
    pub fn fall_silent(&self) {
        self.shared.behave(Manner::Silent);
    }

    /// Whatever passes takes this long at least.
    pub fn slow_down(&self, delay: Duration) {
        self.shared.behave(Manner::Slow(delay));
    }

    /// New connections are closed at once; open ones are cut.
    pub fn refuse(&self) {
        self.shared.behave(Manner::Refuse);
        self.cut();
    }

    /// Leads to another server from now on: open connections are cut, new ones go there.
    pub fn lead_to(&self, host: &str, port: u16) {
        let mut state = lock(&self.shared.state);
        state.upstream = (host.to_owned(), port);
        cut(&mut state);
    }

    /// Everything is passed on again. What was held back while silent is passed on too.
    pub fn pass(&self) {
        self.shared.behave(Manner::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.ended = true;
        cut(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        // The listener's thread looks at `ended` when it next accepts.
        let _woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn behave(&self, manner: Manner) {
        lock(&self.state).manner = manner;
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let upstream = {
            let state = lock(&self.state);
            if state.manner == Manner::Refuse {
                return client.shutdown(Shutdown::Both);
            }
            state.upstream.clone()
        };
        let server = TcpStream::connect((upstream.0.as_str(), upstream.1))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        {
            let mut state = lock(&self.state);
            if state.upstream != upstream {
                return client.shutdown(Shutdown::Both);
            }
            // Those that ended by themselves need no cutting.
            state.open.retain(|stream| stream.peer_addr().is_ok());
            state.open.extend([client.try_clone()?, server.try_clone()?]);
        }
        let (from_client, to_client) = (client.try_clone()?, client);
        let (from_server, to_server) = (server.try_clone()?, server);
        let (there, back) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || there.carry(from_client, to_server));
        std::thread::spawn(move || back.carry_replies(from_server, to_client));
        Ok(())
    }

    /// Waits while the proxy is silent; false when it ended.
    fn may_pass(&self) -> bool {
        let mut state = lock(&self.state);
        while state.manner == Manner::Silent && !state.ended {
            let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Manner::Slow(delay) = state.manner {
            drop(state);
            std::thread::sleep(delay);
            return true;
        }
        !state.ended
    }

    /// Carries bytes until either end is closed.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            if !self.may_pass() || to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        // Where nothing passes, an end does not either.
        self.may_pass();
        end(&from, &to);
    }

    /// Carries the server's bytes, and loses the reply that is to be lost.
    fn carry_replies(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut framing = Framing::default();
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let ends = framing.replies_in(&bytes[..read]);
            if (0..ends).any(|_| self.replies.loses_this()) {
                return end(&from, &to);
            }
            if !self.may_pass() || to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        self.may_pass();
        end(&from, &to);
    }
}

/// Where a stream of the server's messages stands.
#[derive(Default)]
struct Framing {
    /// False before the first byte.
    begun: bool,
    /// Bytes of the current message that are still to come.
    left: usize,
    /// The head of a message that came in pieces: its type and its length.
    head: Vec<u8>,
}

impl Framing {
    /// How many replies end in these bytes.
    fn replies_in(&mut self, mut bytes: &[u8]) -> usize {
        let mut ends = 0;
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let Some((&first, rest)) = bytes.split_first() else { break };
            bytes = rest;
            // A stream that begins so refuses a request for TLS, with this one byte; no message does.
            if !std::mem::replace(&mut self.begun, true) && first == b'N' {
                continue;
            }
            self.head.push(first);
            if let [kind, a, b, c, d] = self.head[..] {
                ends += usize::from(kind == READY_FOR_QUERY);
                // The length counts itself.
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.head.clear();
            }
        }
        ends
    }
}

fn cut(state: &mut State) -> usize {
    // Of the two streams of a connection that ended by itself, the other one may still stand.
    let cut = state.open.iter().filter(|stream| stream.peer_addr().is_ok()).count() / 2;
    for stream in state.open.drain(..) {
        // Already closed is as good.
        let _closed = stream.shutdown(Shutdown::Both);
    }
    cut
}

fn end(one: &TcpStream, other: &TcpStream) {
    for stream in [one, other] {
        let _closed = stream.shutdown(Shutdown::Both);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;

    #[test]
    fn replies_are_counted_however_the_bytes_are_cut() {
        let mut stream = vec![b'N'];
        let message = |kind: u8, body: &[u8]| {
            let mut bytes = vec![kind];
            bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend(body);
            bytes
        };
        stream.extend(message(b'N', b"a notice with a Z"));
        stream.extend(message(b'Z', b"I"));
        stream.extend(message(b'D', &[b'Z'; 300]));
        stream.extend(message(b'Z', b"T"));
        for size in [1, 2, 3, 7, 1000] {
            let mut framing = Framing::default();
            let found: usize = stream.chunks(size).map(|chunk| framing.replies_in(chunk)).sum();
            assert_eq!(found, 2, "in chunks of {size}");
        }
    }

    #[test]
    fn the_server_acts_and_its_reply_is_lost() {
        let cluster = Cluster::start(16).unwrap();
        cluster.psql("postgres", "CREATE TABLE done (n int)").unwrap();
        let replies = Arc::new(Replies::default());
        let proxy = Proxy::start(cluster.host(), cluster.port(), &replies).unwrap();
        let (user, password) = cluster.superuser();
        let uri = format!("host=127.0.0.1 port={} user={user} password={password} dbname=postgres", proxy.port());
        let count = || cluster.psql("postgres", "SELECT count(*) FROM done").unwrap();
        let lost = crate::blocking::blocking(async {
            let client = crate::cluster::connect(&uri).await?;
            client.batch_execute("INSERT INTO done VALUES (1)").await?;
            replies.lose_after(0);
            let lost = client.batch_execute("INSERT INTO done VALUES (2)").await;
            Ok(lost.is_err())
        });
        assert!(lost.unwrap());
        assert_eq!(count(), "2", "the server acted");
        assert!(replies.lose_none());
        proxy.refuse();
        assert!(crate::blocking::blocking(crate::cluster::connect(&uri)).is_err());
        proxy.pass();
        crate::blocking::blocking(crate::cluster::connect(&uri)).unwrap();
    }
}
