//! The charm that names the bucket for backups. What it tells is not needed here: the relation itself counts.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};

const METADATA: &str = "
name: s3-integrator
summary: A bucket
description: Tells its requirers where backups go.
provides:
  s3-credentials: {interface: s3}
";

/// A bucket's integrator.
pub struct S3Integrator;

impl NativeCharm for S3Integrator {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, "", "")
    }

    fn handle(&mut self, _: &Event, context: &mut UnitContext) -> Result<()> {
        context.status_set("active", "")
    }

    fn action(&mut self, name: &str, _: &Map<String, Value>, _: &mut UnitContext) -> Result<()> {
        anyhow::bail!("cannot run {name}: this charm has no such action")
    }

    fn refresh(&mut self, _: Option<&str>, _: Option<u64>) -> Result<()> {
        Ok(())
    }
}
