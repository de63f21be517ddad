//! Resources: without them a refreshed charm runs the old image.

use super::charm::{CharmMeta, CharmOrigin, ResourceMeta};
use super::error::{Error, ErrorDetail, Result};
use super::login::Session;
use super::wire::{application_tag, null_as_default};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A resource that an application has, or that the store offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// The name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// `oci-image` or `file`.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// `store`, or `upload` for an operator's own.
    #[serde(deserialize_with = "null_as_default")]
    pub origin: String,
    /// The store's revision of it.
    #[serde(deserialize_with = "null_as_default")]
    pub revision: i64,
    /// SHA-384 of what it holds, in base64; empty while the controller does not know it.
    #[serde(deserialize_with = "null_as_default")]
    pub fingerprint: String,
}

/// What an application has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ApplicationResources {
    /// What its units use.
    #[serde(deserialize_with = "null_as_default")]
    pub resources: Vec<Resource>,
    /// What the store had when Juju looked last.
    #[serde(deserialize_with = "null_as_default")]
    pub charm_store_resources: Vec<Resource>,
}

/// A resource to take from the store, or to upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewResource {
    /// As the new charm declares it: the path of a file resource belongs to it.
    #[serde(flatten)]
    pub meta: ResourceMeta,
    /// `store`, or `upload` for an operator's own.
    pub origin: &'static str,
    /// The store's revision; -1 is the channel's newest. An upload has 0.
    pub revision: i64,
    /// Unknown before it is there.
    pub fingerprint: Option<String>,
    /// Unknown before it is there.
    pub size: u64,
}

/// Which resources a refresh has to take from the store: those that the application lacks, and those whose store
/// revision differs. An operator's own upload is left alone. `pinned` names revisions (the way back needs them: the
/// store offers the channel's newest, whatever the charm's revision).
pub fn resources_to_change(
    charm: &CharmMeta,
    now: &ApplicationResources,
    offered: &[Resource],
    pinned: &BTreeMap<String, i64>,
) -> Vec<NewResource> {
    let wanted = |name: &str| {
        let offer = offered.iter().find(|offer| offer.name == name);
        pinned.get(name).copied().or(offer.map(|offer| offer.revision))
    };
    let needed = |meta: &&ResourceMeta| {
        let current = now.resources.iter().find(|resource| resource.name == meta.name);
        current.is_none_or(|current| {
            current.origin != "upload" && wanted(&meta.name).is_none_or(|revision| revision != current.revision)
        })
    };
    let new = |meta: &ResourceMeta| NewResource {
        meta: meta.clone(),
        origin: "store",
        revision: pinned.get(&meta.name).copied().unwrap_or(-1),
        fingerprint: None,
        size: 0,
    };
    charm.resources.values().filter(needed).map(new).collect()
}

#[derive(Deserialize)]
struct Results<T> {
    #[serde(default = "Vec::new")]
    results: Vec<T>,
}

#[derive(Deserialize)]
struct ListResult {
    #[serde(flatten)]
    found: ApplicationResources,
    error: Option<ErrorDetail>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Pending {
    #[serde(deserialize_with = "null_as_default")]
    pending_ids: Vec<String>,
    error: Option<ErrorDetail>,
}

fn first<T>(results: Vec<T>, doing: &str) -> Result<T> {
    let why = "no result for one entity".to_owned();
    results.into_iter().next().ok_or(Error::Unreadable { doing: doing.to_owned(), why })
}

impl Session {
    /// What an application has.
    ///
    /// # Errors
    /// As every call.
    pub async fn resources(&self, application: &str) -> Result<ApplicationResources> {
        let doing = format!("read the resources of {application}");
        let params = json!({"entities": [{"tag": application_tag(application)}]});
        let reply: Results<ListResult> = self.call("Resources", "ListResources", &params, &doing).await?;
        let result = first(reply.results, &doing)?;
        match result.error {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(result.found),
        }
    }

    /// What the store offers for a charm: the channel's newest, whatever the charm's revision. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn offered_resources(&self, url: &str, origin: &CharmOrigin) -> Result<Vec<Resource>> {
        let doing = format!("read the resources of the charm {url}");
        let params = json!({"entities": [{"charm-url": url, "charm-origin": origin}]});
        let reply: Results<Value> = self.call("Charms", "ListCharmResources", &params, &doing).await?;
        let listed = first(reply.results, &doing)?;
        // A list of resources, or of one error.
        if let Some(error) = listed.get(0).and_then(|item| item.get("error")).filter(|error| !error.is_null()) {
            let error: ErrorDetail = super::rpc::read_response(error.clone(), &doing)?;
            return Err(error.refused(&doing));
        }
        super::rpc::read_response::<Option<Vec<Resource>>>(listed, &doing).map(Option::unwrap_or_default)
    }

    /// Takes one resource from the store, or announces one that is uploaded, and answers its id for `SetCharm`. On 3.6 nothing changes yet; **on 4.0 it is
    /// in use at once**, under the old charm: only ask for it right before `SetCharm`, one by one.
    ///
    /// # Errors
    /// As every call; [`super::Code::NotFound`] on 4.0 for a name that only the new charm has: `SetCharm` comes first
    /// then.
    pub async fn add_pending_resource(
        &self,
        application: &str,
        url: &str,
        origin: &CharmOrigin,
        resource: &NewResource,
    ) -> Result<String> {
        let doing = format!("take the resource {} for {application}", resource.meta.name);
        let params = json!({
            "tag": application_tag(application),
            "url": url,
            "charm-origin": origin,
            "macaroon": null,
            "resources": [resource],
        });
        let reply: Pending = self.call("Resources", "AddPendingResources", &params, &doing).await?;
        match reply.error {
            Some(error) => Err(error.refused(&doing)),
            None => first(reply.pending_ids, &doing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(origin: &str, revision: i64) -> Resource {
        Resource {
            name: "oci-image".into(),
            kind: "oci-image".into(),
            origin: origin.into(),
            revision,
            ..Resource::default()
        }
    }

    #[test]
    fn only_what_must_change() {
        let image = ResourceMeta { name: "oci-image".into(), kind: "oci-image".into(), ..ResourceMeta::default() };
        let mail = ResourceMeta {
            name: "mail".into(),
            kind: "file".into(),
            path: "mail.tmpl".into(),
            ..ResourceMeta::default()
        };
        let both = BTreeMap::from([("oci-image".to_owned(), image), ("mail".to_owned(), mail)]);
        let charm = CharmMeta { resources: both, ..CharmMeta::default() };
        let none = BTreeMap::new();
        let pin = BTreeMap::from([("oci-image".to_owned(), 41)]);
        // What the application has, what the store offers, what is pinned: what the image becomes.
        type Row<'a> = (Option<Resource>, Option<i64>, &'a BTreeMap<String, i64>, Option<i64>);
        let table: [Row<'_>; 6] = [
            (None, Some(44), &none, Some(-1)),
            (Some(resource("store", 41)), Some(44), &none, Some(-1)),
            (Some(resource("store", 44)), Some(44), &none, None),
            (Some(resource("upload", 0)), Some(44), &none, None),
            (Some(resource("store", 44)), Some(44), &pin, Some(41)),
            (Some(resource("store", 41)), Some(44), &pin, None),
        ];
        for (has, offers, pinned, becomes) in table {
            let place = format!("{has:?} {offers:?} {pinned:?}");
            let now = ApplicationResources { resources: has.into_iter().collect(), ..ApplicationResources::default() };
            let offered: Vec<Resource> = offers.map(|revision| resource("store", revision)).into_iter().collect();
            let changed = resources_to_change(&charm, &now, &offered, pinned);
            let image = changed.iter().find(|new| new.meta.name == "oci-image").map(|new| new.revision);
            assert_eq!(image, becomes, "{place}");
            let mail = changed.iter().find(|new| new.meta.name == "mail").expect("the application has no mail");
            assert_eq!(serde_json::to_value(mail).unwrap()["path"], "mail.tmpl");
        }
    }
}
