//! Relations and their databags.

use super::hook_tool::{Call, HookToolError, HookTools};
use std::collections::BTreeMap;

/// A databag: string keys, string values.
type Bag = BTreeMap<String, String>;

/// Values for our own application databag in one relation. An empty value deletes its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationWrite {
    /// The relation, `<endpoint>:<number>`.
    pub relation_id: String,
    /// Keys to set, or with an empty value to delete.
    pub values: BTreeMap<String, String>,
}

impl HookTools {
    /// The relations of an endpoint, as `<endpoint>:<number>`.
    ///
    /// # Errors
    /// When the tool fails. An unknown endpoint is an empty list.
    pub fn relation_ids(&self, endpoint: &str) -> Result<Vec<String>, HookToolError> {
        let ids: Option<Vec<String>> = self.json(Call::new("relation-ids", [endpoint]))?;
        Ok(ids.unwrap_or_default())
    }

    /// The application at the other end; `remote-<hex>` when it lives in a model that consumes our offer.
    ///
    /// # Errors
    /// [`super::Kind::RelationGone`] when the relation was removed.
    pub fn remote_application(&self, relation_id: &str) -> Result<Option<String>, HookToolError> {
        let name: Option<String> = self.json(Call::new("relation-list", ["-r", relation_id, "--app"]))?;
        Ok(name.filter(|name| !name.is_empty()))
    }

    /// The UUID of the model at the other end; differs from ours in a cross-model relation.
    ///
    /// # Errors
    /// [`super::Kind::RelationGone`] when the relation was removed.
    pub fn remote_model(&self, relation_id: &str) -> Result<String, HookToolError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            uuid: String,
        }
        let answer: Answer = self.json(Call::new("relation-model-get", ["-r", relation_id]))?;
        Ok(answer.uuid)
    }

    /// An application databag: the remote application's, or our own. Only the leader reads our own:
    /// Juju 3.6 refuses it to others with the same words as for a relation that is gone.
    ///
    /// # Errors
    /// [`super::Kind::RelationGone`] when the relation was removed.
    pub fn application_bag(&self, relation_id: &str, application: &str) -> Result<Bag, HookToolError> {
        let bag: Option<Bag> = self.json(Call::new("relation-get", ["-r", relation_id, "--app", "-", application]))?;
        Ok(bag.unwrap_or_default())
    }

    /// Writes to our own application databag; keys that are not named stay. Juju takes it over
    /// only when the hook succeeds, so the next run must look again.
    ///
    /// # Errors
    /// [`super::Kind::NotLeader`] off the leader, [`super::Kind::RelationGone`] when the relation was removed.
    pub fn write_application_bag(&self, write: &RelationWrite) -> Result<(), HookToolError> {
        // The input is read as YAML, of which JSON is a part; maps of strings always serialise.
        let text = serde_json::json!(write.values).to_string();
        self.run(Call::new("relation-set", ["-r", &write.relation_id, "--app", "--file", "-"]).stdin(text))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;
    use super::*;

    #[test]
    fn null_lists_and_bags_are_empty() {
        let scripts = Scripts::new().tool("relation-ids", "echo null").tool("relation-get", "echo null");
        assert!(scripts.tools().relation_ids("x").unwrap().is_empty());
        assert!(scripts.tools().application_bag("x:1", "pg").unwrap().is_empty());
        assert_eq!(scripts.calls("relation-get"), ["-r", "x:1", "--app", "-", "pg", "--format=json"]);
    }

    #[test]
    fn values_travel_through_standard_input() {
        let scripts = Scripts::new().tool("relation-set", "exit 0");
        let values = BTreeMap::from([("a".to_owned(), " x=\"y\" ".to_owned()), ("gone".to_owned(), String::new())]);
        scripts.tools().write_application_bag(&RelationWrite { relation_id: "x:1".to_owned(), values }).unwrap();
        assert_eq!(scripts.calls("relation-set"), ["-r", "x:1", "--app", "--file", "-"]);
        assert_eq!(scripts.stdin("relation-set"), r#"{"a":" x=\"y\" ","gone":""}"#);
    }

    #[test]
    fn the_remote_side_has_a_name_and_a_model() {
        let scripts = Scripts::new()
            .tool("relation-list", r#"echo '"pg"'"#)
            .tool("relation-model-get", r#"echo '{"uuid":"5a67be19-43c6-411a-83c9-14666fd59ef5"}'"#);
        assert_eq!(scripts.tools().remote_application("x:1").unwrap().as_deref(), Some("pg"));
        assert_eq!(scripts.tools().remote_model("x:1").unwrap(), "5a67be19-43c6-411a-83c9-14666fd59ef5");
    }
}
