//! What Patroni's REST API says of a member and of the cluster.

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// The API of one member.
#[derive(Debug, Clone)]
pub struct Api {
    url: String,
    agent: ureq::Agent,
}

/// The cluster as a member sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub members: Vec<MemberView>,
}

/// A member as another, or itself, sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct MemberView {
    pub name: String,
    /// `leader`, `replica`, `sync_standby` and so on.
    pub role: String,
    /// `running`, `streaming`, `stopped` and so on.
    pub state: String,
    #[serde(default)]
    pub timeline: Option<u32>,
}

impl View {
    /// The member that holds the lock.
    pub fn leader(&self) -> Option<&MemberView> {
        self.members.iter().find(|member| member.role == "leader")
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, member) in self.members.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{} {} {}", member.name, member.role, member.state)?;
            if let Some(timeline) = member.timeline {
                write!(f, " on timeline {timeline}")?;
            }
        }
        Ok(())
    }
}

impl Api {
    pub fn new(port: u16) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(3)))
            .build()
            .new_agent();
        Self { url: format!("http://127.0.0.1:{port}"), agent }
    }

    /// Whether the member is the primary and holds the lock.
    pub fn is_primary(&self) -> anyhow::Result<bool> {
        match self.agent.get(format!("{}/primary", self.url)).call()?.status().as_u16() {
            200 => Ok(true),
            503 => Ok(false),
            status => anyhow::bail!("{}/primary answered {status}", self.url),
        }
    }

    /// The cluster as this member sees it.
    pub fn view(&self) -> anyhow::Result<View> {
        let mut response = self.agent.get(format!("{}/cluster", self.url)).call()?;
        let body = response.body_mut().read_to_string()?;
        serde_json::from_str(&body).with_context(|| format!("{}/cluster answered {body}", self.url))
    }

    /// Asks the leader to hand over to `candidate`; Patroni answers when that is done.
    pub fn switchover(&self, leader: &str, candidate: &str) -> anyhow::Result<()> {
        let request = self.agent.post(format!("{}/switchover", self.url));
        let request = request.config().timeout_global(Some(Duration::from_secs(60))).build();
        let mut response = request.send_json(json!({"leader": leader, "candidate": candidate}))?;
        let body = response.body_mut().read_to_string()?;
        anyhow::ensure!(response.status().as_u16() == 200, "Patroni answered {}: {body}", response.status());
        Ok(())
    }
}
