//! `juju disable-command`: what an administrator has switched off. Never bypassed, only reported.

use super::error::Result;
use super::login::Session;
use super::wire::null_as_default;
use serde::Deserialize;
use serde_json::json;

/// What is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum BlockKind {
    /// `destroy-model`: of no concern here.
    BlockDestroy,
    /// `remove-object`: removals.
    BlockRemove,
    /// `all`: every change.
    BlockChange,
    /// One that we do not know.
    #[serde(other)]
    Unknown,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Block {
    /// What it stops.
    #[serde(rename = "type")]
    pub kind: BlockKind,
    /// The administrator's words.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message: String,
}

/// What we want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Refresh, config or a new relation.
    Alter,
    /// The removal of a relation.
    Remove,
    /// An action, which no block stops.
    RunAction,
}

/// The block that stops `change`, if any does.
pub fn blocking(blocks: &[Block], change: Change) -> Option<&Block> {
    blocks.iter().find(|block| match change {
        Change::Alter => block.kind == BlockKind::BlockChange,
        Change::Remove => matches!(block.kind, BlockKind::BlockChange | BlockKind::BlockRemove),
        Change::RunAction => false,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Blocks {
    #[serde(deserialize_with = "null_as_default")]
    results: Vec<BlockResult>,
}

#[derive(Deserialize)]
struct BlockResult {
    result: Option<Block>,
    error: Option<super::error::ErrorDetail>,
}

impl Session {
    /// The model's blocks. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn blocks(&self) -> Result<Vec<Block>> {
        let doing = "read which commands are disabled";
        let found: Blocks = self.call("Block", "List", &json!({}), doing).await?;
        let one = |found: BlockResult| match found.error {
            Some(error) => Err(error.refused(doing)),
            None => Ok(found.result),
        };
        Ok(found.results.into_iter().map(one).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_what() {
        let block = |kind| Block { kind, message: "freeze until Monday".into() };
        let table = [
            (BlockKind::BlockDestroy, [false, false, false]),
            (BlockKind::BlockRemove, [false, true, false]),
            (BlockKind::BlockChange, [true, true, false]),
            (BlockKind::Unknown, [false, false, false]),
        ];
        for (kind, stops) in table {
            let blocks = [block(kind)];
            let found = [Change::Alter, Change::Remove, Change::RunAction].map(|change| blocking(&blocks, change));
            assert_eq!(found.map(|found| found.is_some()), stops, "{kind:?}");
        }
    }

    #[test]
    fn a_block_of_tomorrow_is_read() {
        let read: Block = serde_json::from_str(r#"{"id":"1","type":"BlockLunch","message":null}"#).unwrap();
        assert_eq!(read, Block { kind: BlockKind::Unknown, message: String::new() });
    }
}
