//! Users of the controller's API, their access, and the commands that an administrator disables.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use controller_peer::{Access, BlockKind, User};

use super::Call;
use crate::controller::Api;

impl Call<'_> {
    fn api(&self) -> Result<Arc<Api>> {
        self.controller.api().context("no API is served here")
    }

    /// The API and the name of a user that it knows.
    fn user(&self) -> Result<(Arc<Api>, String)> {
        let (api, name) = (self.api()?, self.argument(0, "user name")?);
        ensure!(api.user(&name).is_some(), "user {name:?} not found");
        Ok((api, name))
    }

    /// Without a password, which `change-user-password` sets; registration is not played.
    pub(super) fn add_user(&mut self) -> Result<i32> {
        let (api, name) = (self.api()?, self.argument(0, "user name")?);
        ensure!(api.user(&name).is_none(), "failed to create user: username unavailable");
        api.set_user(&name, User::new("", Access::None));
        self.out(&format!(
            "User {name:?} added\n\n{name:?} has not been granted access to any models. You can use \"juju grant\" to grant access.\n"
        ))?;
        Ok(0)
    }

    /// With `--no-prompt`: the password is a line of standard input.
    pub(super) fn change_user_password(&mut self) -> Result<i32> {
        let (api, name) = self.user()?;
        ensure!(self.arguments.is_set("no-prompt"), "no terminal is played: give the password on stdin, --no-prompt");
        let input = self.printer.input()?;
        let password = input.lines().next().unwrap_or_default();
        ensure!(!password.is_empty(), "you must enter a password");
        api.change_user(&name, |user| user.password = password.to_owned());
        self.out(&format!("Password for {name:?} has been changed.\n"))?;
        Ok(0)
    }

    pub(super) fn disable_user(&mut self, disable: bool) -> Result<i32> {
        let (api, name) = self.user()?;
        api.change_user(&name, |user| user.disabled = disable);
        self.out(&format!("User {name:?} {}\n", if disable { "disabled" } else { "enabled" }))?;
        Ok(0)
    }

    /// `juju grant USER read|write|admin MODEL`.
    pub(super) fn grant(&mut self) -> Result<i32> {
        let (api, name) = self.user()?;
        let access = self.access(&api)?;
        let already = api.user(&name).is_some_and(|user| user.access >= access);
        ensure!(!already, "user already has {access:?} access or greater");
        api.set_access(&name, access);
        Ok(0)
    }

    /// `juju revoke USER read|write|admin MODEL`: what is less stays.
    pub(super) fn revoke(&mut self) -> Result<i32> {
        let (api, name) = self.user()?;
        let left = match self.access(&api)? {
            Access::Admin => Access::Write,
            Access::Write => Access::Read,
            Access::Read | Access::None => Access::None,
        };
        api.change_user(&name, |user| user.access = user.access.min(left));
        Ok(0)
    }

    /// The access that is named, to the model that the API is served over.
    fn access(&self, api: &Api) -> Result<Access> {
        let model = self.argument(2, "model")?;
        let served = api.model().name().to_owned();
        ensure!(model == served, "the API is served over the model {served:?} only");
        Ok(match self.argument(1, "permission level")?.as_str() {
            "read" => Access::Read,
            "write" => Access::Write,
            "admin" => Access::Admin,
            other => bail!("{other:?} model access not valid"),
        })
    }

    /// `juju disable-command all|remove-object|destroy-model [MESSAGE …]`.
    pub(super) fn disable_command(&mut self) -> Result<i32> {
        let (api, kind) = (self.api()?, self.block()?);
        let message = self.arguments.words()[1..].join(" ");
        api.set_block(kind, Some(&message));
        Ok(0)
    }

    pub(super) fn enable_command(&mut self) -> Result<i32> {
        let (api, kind) = (self.api()?, self.block()?);
        api.set_block(kind, None);
        Ok(0)
    }

    fn block(&self) -> Result<BlockKind> {
        Ok(match self.argument(0, "command set")?.as_str() {
            "all" => BlockKind::BlockChange,
            "remove-object" => BlockKind::BlockRemove,
            "destroy-model" => BlockKind::BlockDestroy,
            other => bail!("{other:?} is no command set; valid are: all, destroy-model, remove-object"),
        })
    }
}
