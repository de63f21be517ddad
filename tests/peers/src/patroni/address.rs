//! One address that follows the primary, as the Service `<app>-primary` of Charmed PostgreSQL does.

use super::api::Api;
use crate::proxy::Proxy;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the members are asked who leads.
const PERIOD: Duration = Duration::from_millis(200);

/// A proxy that leads to the primary, and a thread that keeps asking who that is.
pub struct Address {
    port: u16,
    ended: Arc<AtomicBool>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

/// A member as the follower needs it: where to ask, where to lead.
type Candidate = (Api, u16);

impl Address {
    pub fn start(members: Vec<Candidate>) -> anyhow::Result<Self> {
        let proxy = Proxy::start("127.0.0.1", members.first().map_or(0, |member| member.1), &Arc::default())?;
        proxy.refuse();
        let (port, ended) = (proxy.port(), Arc::new(AtomicBool::new(false)));
        let inside = Arc::clone(&ended);
        let follower = std::thread::spawn(move || {
            let mut leads_to = None;
            while !inside.load(Ordering::Relaxed) {
                leads_to = follow(&proxy, &members, leads_to);
                std::thread::sleep(PERIOD);
            }
        });
        Ok(Self { port, ended, follower: Mutex::new(Some(follower)) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(follower) = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = follower.join();
        }
    }
}

/// One round; takes and returns the member that the address leads to.
fn follow(proxy: &Proxy, members: &[Candidate], leads_to: Option<usize>) -> Option<usize> {
    let first = leads_to.map(|nth| (nth, members[nth].0.is_primary()));
    if matches!(first, Some((_, Ok(true)))) {
        return leads_to;
    }
    let others = members.iter().enumerate().filter(|(nth, _)| Some(*nth) != leads_to);
    for (nth, (api, port)) in others {
        if api.is_primary().is_ok_and(|is| is) {
            proxy.lead_to("127.0.0.1", *port);
            proxy.pass();
            return Some(nth);
        }
    }
    // Without a primary there is nothing behind the Service. A member that does not answer keeps its place until
    // another has the lock, since nobody takes its label away.
    if matches!(first, Some((_, Ok(false)))) {
        proxy.refuse();
        return None;
    }
    leads_to
}
