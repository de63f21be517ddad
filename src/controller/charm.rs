//! Charms: where one comes from, which one a channel or a revision means, what is in it.

use super::error::{Error, ErrorDetail, Result};
use super::login::Session;
use super::wire::null_as_default;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a charm runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Base {
    /// `ubuntu`.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// `22.04/stable`, at times only `22.04`.
    #[serde(deserialize_with = "null_as_default")]
    pub channel: String,
}

impl Base {
    /// The same system and release, however the risk is written.
    pub fn is_like(&self, other: &Self) -> bool {
        let track = |base: &Self| base.channel.split('/').next().unwrap_or_default().to_owned();
        self.name == other.name && track(self) == track(other)
    }
}

/// A channel of Charmhub: `<track>/<risk>`, with a branch perhaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The track; `latest` where it was left out.
    pub track: String,
    /// stable, candidate, beta or edge.
    pub risk: String,
    /// A short-lived branch.
    pub branch: Option<String>,
}

impl Channel {
    const RISKS: [&'static str; 4] = ["stable", "candidate", "beta", "edge"];

    /// Reads `<track>/<risk>`, `<risk>`, `<track>` or `<track>/<risk>/<branch>`.
    pub fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_risk = |part: &str| Self::RISKS.contains(&part);
        let (track, risk, branch) = match parts.as_slice() {
            [risk] if is_risk(risk) => ("latest", *risk, None),
            [track] if !track.is_empty() => (*track, "stable", None),
            [risk, branch] if is_risk(risk) => ("latest", *risk, Some(*branch)),
            [track, risk] if is_risk(risk) && !track.is_empty() => (*track, *risk, None),
            [track, risk, branch] if is_risk(risk) && !track.is_empty() => (*track, *risk, Some(*branch)),
            _ => return None,
        };
        let branch = branch.map(str::to_owned);
        Some(Self { track: track.to_owned(), risk: risk.to_owned(), branch })
    }
}

/// Where a charm comes from. What is not known is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct CharmOrigin {
    /// `charm-hub` or `local`.
    #[serde(deserialize_with = "null_as_default")]
    pub source: String,
    /// `charm`.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// Charmhub's id of the charm; empty while a download has not finished.
    #[serde(deserialize_with = "null_as_default")]
    pub id: String,
    /// SHA-256 of the charm. From Charmhub both `id` and `hash` are set, or neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The channel's risk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// The charm's revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The channel's track.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
    /// The channel's branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// `amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// What it runs on.
    #[serde(deserialize_with = "null_as_default")]
    pub base: Base,
    /// Charmhub's key of the installation; kept when only the channel changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_key: Option<String>,
}

impl CharmOrigin {
    /// The same charm from another channel: id, hash, revision and key stay, so that Charmhub knows who asks.
    #[must_use]
    pub fn by_channel(&self, channel: &Channel) -> Self {
        Self {
            kind: "charm".to_owned(),
            track: Some(channel.track.clone()),
            risk: Some(channel.risk.clone()),
            branch: channel.branch.clone(),
            ..self.clone()
        }
    }

    /// One revision of the charm: id, hash and key are left out, or Charmhub answers with the channel's newest
    /// instead (python-libjuju#1067).
    #[must_use]
    pub fn by_revision(&self, channel: &Channel, revision: i64) -> Self {
        Self {
            source: self.source.clone(),
            track: Some(channel.track.clone()),
            risk: Some(channel.risk.clone()),
            branch: channel.branch.clone(),
            revision: Some(revision),
            architecture: self.architecture.clone(),
            base: self.base.clone(),
            ..Self::default()
        }
    }

    /// A charm that was uploaded. Id and hash stay out: 3.6.27 and later give a hash and refuse it when it is sent
    /// back.
    #[must_use]
    pub fn uploaded(&self, revision: i64) -> Self {
        Self {
            source: "local".to_owned(),
            kind: "charm".to_owned(),
            revision: Some(revision),
            architecture: self.architecture.clone(),
            base: self.base.clone(),
            ..Self::default()
        }
    }

    /// The previous download has not finished: ask again.
    pub fn is_unfinished(&self) -> bool {
        self.source == "charm-hub" && self.id.is_empty()
    }
}

/// The charm that an application has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharmAt {
    /// Its URL.
    pub url: String,
    /// Where it comes from.
    pub origin: CharmOrigin,
}

/// A charm that a channel or a revision means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its URL, with the revision.
    pub url: String,
    /// For `AddCharm` only: by revision on 4.0 it has a hash without an id.
    pub origin: CharmOrigin,
    /// What it runs on.
    pub supported_bases: Vec<Base>,
}

/// A resource as a charm declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceMeta {
    /// The name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// `oci-image` or `file`.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// The file's name; empty for an image.
    #[serde(deserialize_with = "null_as_default")]
    pub path: String,
    /// For people.
    #[serde(deserialize_with = "null_as_default")]
    pub description: String,
}

/// An endpoint as a charm declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The interface.
    #[serde(deserialize_with = "null_as_default")]
    pub interface: String,
    /// `provider`, `requirer` or `peer`.
    #[serde(deserialize_with = "null_as_default")]
    pub role: String,
    /// How many relations it takes; 0 is any number.
    #[serde(deserialize_with = "null_as_default")]
    pub limit: u32,
}

/// A charm's metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CharmMeta {
    /// The charm's name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// Its resources, by name.
    #[serde(deserialize_with = "null_as_default")]
    pub resources: BTreeMap<String, ResourceMeta>,
    /// Its storage, as it is declared: on Kubernetes no refresh may change it.
    #[serde(deserialize_with = "null_as_default")]
    pub storage: BTreeMap<String, Value>,
    /// Endpoints that provide.
    #[serde(deserialize_with = "null_as_default")]
    pub provides: BTreeMap<String, Endpoint>,
    /// Endpoints that require.
    #[serde(deserialize_with = "null_as_default")]
    pub requires: BTreeMap<String, Endpoint>,
    /// Peer endpoints.
    #[serde(deserialize_with = "null_as_default")]
    pub peers: BTreeMap<String, Endpoint>,
}

/// What is in a charm.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CharmInfo {
    /// Its URL, with the architecture even where the question had none.
    #[serde(deserialize_with = "null_as_default")]
    pub url: String,
    /// Its revision.
    #[serde(deserialize_with = "null_as_default")]
    pub revision: i64,
    /// Its metadata.
    #[serde(deserialize_with = "null_as_default")]
    pub meta: CharmMeta,
    /// Its config options, as declared.
    #[serde(deserialize_with = "null_as_default")]
    pub config: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct OriginReply {
    #[serde(deserialize_with = "null_as_default")]
    url: String,
    #[serde(deserialize_with = "null_as_default")]
    charm_origin: CharmOrigin,
    #[serde(deserialize_with = "null_as_default")]
    supported_bases: Vec<Base>,
    error: Option<ErrorDetail>,
}

#[derive(Deserialize)]
struct ResolveReply {
    #[serde(rename = "Results", default, deserialize_with = "null_as_default")]
    results: Vec<OriginReply>,
}

impl Session {
    /// The charm that an application has, and where it came from. Needs access `write` on 3.6, `read` on 4.0.
    ///
    /// # Errors
    /// As every call.
    pub async fn charm_url_origin(&self, application: &str) -> Result<CharmAt> {
        let doing = format!("read where the charm of {application} comes from");
        let params = json!({"application": application, "branch": ""});
        let reply: OriginReply = self.call("Application", "GetCharmURLOrigin", &params, &doing).await?;
        match reply.error {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(CharmAt { url: reply.url, origin: reply.charm_origin }),
        }
    }

    /// Which charm `url` means under an origin made by [`CharmOrigin::by_channel`] (a URL without revision) or
    /// [`CharmOrigin::by_revision`] (a URL with it, and `switch`). Needs access `read`.
    ///
    /// # Errors
    /// As every call; also when the channel has no charm for the origin's base.
    pub async fn resolve_charm(&self, url: &str, origin: &CharmOrigin, switch: bool) -> Result<Resolved> {
        let doing = format!("find the charm {url}");
        let mut one = json!({"reference": url, "charm-origin": origin});
        if switch {
            one["switch-charm"] = json!(true);
        }
        let reply: ResolveReply = self.call("Charms", "ResolveCharms", &json!({"resolve": [one]}), &doing).await?;
        let mut results = reply.results.into_iter();
        let unreadable = || Error::Unreadable { doing: doing.clone(), why: "no result for one charm".to_owned() };
        let OriginReply { url, charm_origin: origin, supported_bases, error } =
            results.next().ok_or_else(unreadable)?;
        match error {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(Resolved { url, origin, supported_bases }),
        }
    }

    /// Makes a charm of Charmhub known to the model and answers the origin to use from here on; the download goes on
    /// by itself. Changes no application. Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn add_charm(&self, url: &str, origin: &CharmOrigin) -> Result<CharmOrigin> {
        let doing = format!("add the charm {url}");
        let params = json!({"url": url, "charm-origin": origin, "force": false});
        let reply: OriginReply = self.call("Charms", "AddCharm", &params, &doing).await?;
        match reply.error {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(reply.charm_origin),
        }
    }

    /// What is in a charm that the model knows. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn charm_info(&self, url: &str) -> Result<CharmInfo> {
        self.call("Charms", "CharmInfo", &json!({"url": url}), &format!("read the charm {url}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(text: &str) -> Channel {
        Channel::read(text).unwrap()
    }

    #[test]
    fn channels() {
        let made = |track: &str, risk: &str, branch: Option<&str>| {
            Some(Channel { track: track.into(), risk: risk.into(), branch: branch.map(str::to_owned) })
        };
        assert_eq!(Channel::read("1.0/stable"), made("1.0", "stable", None));
        assert_eq!(Channel::read("edge"), made("latest", "edge", None));
        assert_eq!(Channel::read("1.0"), made("1.0", "stable", None));
        assert_eq!(Channel::read("1.0/edge/fix-7"), made("1.0", "edge", Some("fix-7")));
        assert_eq!(Channel::read("edge/fix-7"), made("latest", "edge", Some("fix-7")));
        for bad in ["", "/", "1.0/", "1.0/urgent", "/stable", "a/b/c/d"] {
            assert_eq!(Channel::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_channel_keeps_the_id_and_a_revision_drops_it() {
        let current = CharmOrigin {
            source: "charm-hub".into(),
            id: "K1dEx".into(),
            hash: Some("9f2c".into()),
            revision: Some(512),
            track: Some("latest".into()),
            risk: Some("edge".into()),
            instance_key: Some("8a1f".into()),
            ..CharmOrigin::default()
        };
        let by_channel = current.by_channel(&channel("1.0/stable"));
        let text = serde_json::to_value(&by_channel).unwrap();
        for (key, value) in [("id", json!("K1dEx")), ("hash", json!("9f2c")), ("revision", json!(512))] {
            assert_eq!(text[key], value);
        }
        assert_eq!(
            (&text["track"], &text["risk"], &text["instance-key"]),
            (&json!("1.0"), &json!("stable"), &json!("8a1f"))
        );
        let text = serde_json::to_value(current.by_revision(&channel("1.0/stable"), 567)).unwrap();
        assert_eq!((&text["id"], &text["revision"]), (&json!(""), &json!(567)));
        assert!(text.get("hash").is_none() && text.get("instance-key").is_none() && text.get("branch").is_none());
        let text = serde_json::to_value(current.uploaded(3)).unwrap();
        assert_eq!((&text["id"], &text["source"]), (&json!(""), &json!("local")));
        assert!(text.get("hash").is_none() && text.get("track").is_none());
        assert!(!current.is_unfinished() && current.by_revision(&channel("edge"), 1).is_unfinished());
    }

    #[test]
    fn bases_with_and_without_a_risk_are_alike() {
        let base = |channel: &str| Base { name: "ubuntu".into(), channel: channel.into() };
        assert!(base("22.04").is_like(&base("22.04/stable")));
        assert!(!base("22.04").is_like(&base("24.04/stable")));
    }
}
