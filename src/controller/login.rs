//! The first request on every connection, and everything that a controller may have against it.

use super::dial::{Controller, ModelPath, Timing};
use super::error::{Code, ConnectFailure, Error, ErrorDetail, Reaction, Result};
use super::facades::{Facades, Generation};
use super::rpc::{Call, Connection, EnvelopeError, read_response};
use super::upload::Door;
use super::wire::null_as_default;
use crate::password::Password;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

const DOING: &str = "log in to the Juju controller";

/// Who we are in the controller's audit log.
pub(super) const AUDIT_NAME: &str = "identity-migration-coordinator";

/// A Juju user of the controller itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, as in `juju add-user <name>`.
    pub username: String,
    /// The user's password.
    pub password: Password,
}

/// What a user may do to the model, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing at all, or something we do not know.
    None,
    /// Look.
    Read,
    /// What a migration needs.
    Write,
    /// Everything.
    Admin,
}

impl Access {
    fn of(text: &str) -> Self {
        match text {
            "admin" => Self::Admin,
            "write" => Self::Write,
            "read" => Self::Read,
            _ => Self::None,
        }
    }
}

/// Why a login failed, or does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    /// Wrong user or password, or a disabled user: Juju does not say which.
    #[error("user name or password are wrong, or the user is disabled")]
    WrongPassword,
    /// The user may not use this model, or this controller.
    #[error("user {0} has no access to this model")]
    NoAccess(String),
    /// The user may look, and not change anything.
    #[error("user {0} may only read this model")]
    OnlyRead(String),
    /// The controller has no such model.
    #[error("the controller does not know this model")]
    UnknownModel,
    /// A login to another model than the one that was meant.
    #[error("the login led to {found} instead of {meant}")]
    OtherModel {
        /// The model tag that was meant.
        meant: String,
        /// The model tag in the reply.
        found: String,
    },
    /// The model lives on another controller now. The password is not sent there by itself.
    #[error("the model has moved to another controller ({addresses})")]
    Moved {
        /// Where, as far as the reply says.
        addresses: String,
    },
    /// The user belongs to an identity provider outside of Juju, or no password was given.
    #[error("the user is not one of the controller's own users, or has no password")]
    DischargeRequired,
    /// The controller is being upgraded.
    #[error("the controller is being upgraded")]
    Upgrading,
    /// The model is on its way to another controller.
    #[error("the model is being migrated to another controller")]
    Migrating,
    /// The model is on its way to this controller.
    #[error("the model is being imported into this controller")]
    Importing,
    /// Anything else.
    #[error("the controller says \"{}\"", .0.message)]
    Other(ErrorDetail),
}

impl LoginRefusal {
    /// What to do about it.
    pub fn cure(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::WrongPassword => {
                "put the user's name and password into the secret of controller-credentials, \
                 or set a new password with juju change-user-password"
            }
            Self::NoAccess(user) | Self::OnlyRead(user) => {
                return format!("run juju grant {user} write <model>").into();
            }
            Self::UnknownModel | Self::OtherModel { .. } => "see that the model is still on this controller",
            Self::Moved { .. } => {
                "give controller-credentials a user of the new controller, and controller-ca its certificate"
            }
            Self::DischargeRequired => "make a user with juju add-user and put its name and password into the secret",
            Self::Upgrading => "waiting until the upgrade is over",
            Self::Migrating | Self::Importing => "waiting until the model's migration is over",
            Self::Other(_) => "see the controller's log",
        })
    }

    /// Who can do it.
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Upgrading | Self::Migrating | Self::Importing => Reaction::Pause,
            Self::Other(detail) if detail.code().reaction() == Reaction::Retry => Reaction::Retry,
            _ => Reaction::Person,
        }
    }

    fn of(error: EnvelopeError, username: &str) -> Self {
        let EnvelopeError { detail, info } = error;
        match detail.code() {
            Code::Unauthorized if detail.message.contains("permission denied") => Self::NoAccess(username.to_owned()),
            Code::Unauthorized => Self::WrongPassword,
            Code::ModelNotFound => Self::UnknownModel,
            Code::DischargeRequired => Self::DischargeRequired,
            Code::Redirection => Self::Moved { addresses: addresses(&info) },
            code => Self::busy(code).unwrap_or(Self::Other(detail)),
        }
    }

    fn busy(code: Code) -> Option<Self> {
        match code {
            Code::Upgrading => Some(Self::Upgrading),
            Code::Migrating => Some(Self::Migrating),
            Code::Importing => Some(Self::Importing),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct HostPort {
    value: String,
    #[serde(default, deserialize_with = "null_as_default")]
    scope: String,
    port: u16,
}

/// The addresses in a redirection's facts.
fn addresses(info: &Value) -> String {
    let servers = info.get("servers").cloned().unwrap_or_default();
    let servers: Vec<Vec<HostPort>> = serde_json::from_value(servers).unwrap_or_default();
    let found = usable(servers);
    if found.is_empty() { "it does not say where".to_owned() } else { found.join(", ") }
}

/// Without those that lead to the machine one stands on.
fn usable(servers: Vec<Vec<HostPort>>) -> Vec<String> {
    let all = servers.into_iter().flatten();
    let reachable = all.filter(|server| !["local-machine", "link-local"].contains(&server.scope.as_str()));
    reachable
        .map(
            |HostPort { value, port, .. }| {
                if value.contains(':') { format!("[{value}]:{port}") } else { format!("{value}:{port}") }
            },
        )
        .collect()
}

/// What the login tells of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct UserInfo {
    /// The user's tag.
    #[serde(deserialize_with = "null_as_default")]
    pub identity: String,
    /// Access to the controller.
    #[serde(deserialize_with = "null_as_default")]
    pub controller_access: String,
    /// Access to the model; empty on a controller connection.
    #[serde(deserialize_with = "null_as_default")]
    pub model_access: String,
}

/// What a login answers.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct LoginReply {
    #[serde(deserialize_with = "null_as_default")]
    servers: Vec<Vec<HostPort>>,
    #[serde(deserialize_with = "null_as_default")]
    model_tag: String,
    #[serde(deserialize_with = "null_as_default")]
    user_info: UserInfo,
    #[serde(deserialize_with = "null_as_default")]
    facades: Facades,
    #[serde(deserialize_with = "null_as_default")]
    server_version: String,
    discharge_required: Option<Value>,
    bakery_discharge_required: Option<Value>,
    #[serde(deserialize_with = "null_as_default")]
    discharge_required_error: String,
}

/// What we keep of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The controller's addresses, as it names them itself: where to reconnect.
    pub servers: Vec<String>,
    /// `model-<uuid>`; empty on a controller connection.
    pub model_tag: String,
    /// Who we are, and what we may do.
    pub user: UserInfo,
    /// What the controller offers.
    pub facades: Facades,
    /// The controller's release.
    pub server_version: String,
}

impl Login {
    /// Reads the response of `Admin.Login`.
    ///
    /// # Errors
    /// [`Error::Unreadable`]; [`LoginRefusal::DischargeRequired`], which comes without an envelope error.
    pub fn read(response: Value) -> Result<Self> {
        let reply: LoginReply = read_response(response, DOING)?;
        let discharge = reply.discharge_required.is_some_and(|value| !value.is_null())
            || reply.bakery_discharge_required.is_some_and(|value| !value.is_null())
            || !reply.discharge_required_error.is_empty();
        if discharge {
            return Err(Error::Login { refusal: LoginRefusal::DischargeRequired });
        }
        Ok(Self {
            servers: usable(reply.servers),
            model_tag: reply.model_tag,
            user: reply.user_info,
            facades: reply.facades,
            server_version: reply.server_version,
        })
    }

    /// What the user may do to the model.
    pub fn access(&self) -> Access {
        Access::of(&self.user.model_access)
    }
}

/// A connection to one model, logged in, with access to change it.
pub struct Session {
    connection: Connection,
    login: Login,
    generation: Generation,
    door: Door,
}

impl Session {
    /// Connects to the model, logs in, and sees that the user may change it and that the model can be changed now:
    /// a controller that is upgrading, or a model on its way, lets logins pass and refuses what comes after.
    ///
    /// # Errors
    /// [`Error::Connect`] or [`Error::Login`].
    pub async fn open(
        controller: &Controller,
        credentials: &Credentials,
        model_uuid: &str,
        timing: Timing,
    ) -> Result<Self> {
        let path = ModelPath::Model(model_uuid.to_owned());
        let mut connection = Connection::open(controller, &path, timing).await.map_err(not_a_model)?;
        let login = log_in(&connection, credentials, timing).await?;
        let refused = |refusal| Err(Error::Login { refusal });
        let meant = format!("model-{model_uuid}");
        if login.model_tag != meant {
            return refused(LoginRefusal::OtherModel { meant, found: login.model_tag });
        }
        match login.access() {
            Access::Admin | Access::Write => {}
            Access::Read => return refused(LoginRefusal::OnlyRead(credentials.username.clone())),
            Access::None => return refused(LoginRefusal::NoAccess(credentials.username.clone())),
        }
        connection.keep_alive();
        let generation = Generation::of(&login.server_version);
        let door = Door::new(credentials, &controller.ca);
        let session = Self { connection, login, generation, door };
        match session.blocks().await {
            Ok(_) => Ok(session),
            Err(Error::Refused { detail, doing }) => match LoginRefusal::busy(detail.code()) {
                Some(refusal) => refused(refusal),
                None => Err(Error::Refused { detail, doing }),
            },
            Err(error) => Err(error),
        }
    }

    /// What the login told.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Whose rules this controller keeps.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The connection below; for its address, and to see whether it still stands.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How files are sent.
    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.connection.close().await;
    }

    /// One request on the best version of its facade.
    pub(super) async fn call<P: Serialize + Sync, R: DeserializeOwned>(
        &self,
        facade: &str,
        request: &str,
        params: &P,
        doing: &str,
    ) -> Result<R> {
        let version = self.login.facades.version(facade, doing)?;
        self.connection.call(Call { facade, version, request }, params, doing).await
    }
}

/// The websocket is refused for a UUID that is none.
fn not_a_model(error: Error) -> Error {
    match error {
        Error::Connect { failure: ConnectFailure::Http { status: 400 | 404, .. } } => {
            Error::Login { refusal: LoginRefusal::UnknownModel }
        }
        other => other,
    }
}

async fn log_in(connection: &Connection, credentials: &Credentials, timing: Timing) -> Result<Login> {
    let params = json!({
        "auth-tag": format!("user-{}", credentials.username),
        "credentials": credentials.password.reveal(),
        "nonce": "",
        "macaroons": [],
        "user-data": "",
        "client-version": "3.6.0",
        "cli-args": AUDIT_NAME,
    });
    let call = Call { facade: "Admin", version: 3, request: "Login" };
    match connection.exchange(call, &params, DOING, timing.call).await? {
        Ok(response) => Login::read(response),
        Err(error) => Err(Error::Login { refusal: LoginRefusal::of(error, &credentials.username) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str, code: &str, info: Value) -> LoginRefusal {
        let detail = ErrorDetail { message: message.into(), code: code.into() };
        LoginRefusal::of(EnvelopeError { detail, info }, "migrator")
    }

    #[test]
    fn every_refusal_has_its_own_name() {
        let none = Value::Null;
        let table = [
            ("invalid entity name or password", "unauthorized access", LoginRefusal::WrongPassword),
            ("permission denied", "unauthorized access", LoginRefusal::NoAccess("migrator".into())),
            ("unknown model: \"…\"", "model not found", LoginRefusal::UnknownModel),
            ("login failed - maintenance in progress", "", LoginRefusal::Upgrading),
            ("macaroon discharge required", "macaroon discharge required", LoginRefusal::DischargeRequired),
        ];
        for (message, code, is) in table {
            assert_eq!(refusal(message, code, none.clone()), is);
        }
        let servers = json!({"servers": [[
            {"value": "10.1.2.3", "type": "ipv4", "scope": "local-cloud", "port": 17070},
            {"value": "127.0.0.1", "type": "ipv4", "scope": "local-machine", "port": 17070},
            {"value": "fd00::2", "type": "ipv6", "scope": "", "port": 443},
        ]], "ca-cert": "…"});
        let moved = refusal("redirection required", "redirection required", servers);
        assert_eq!(moved, LoginRefusal::Moved { addresses: "10.1.2.3:17070, [fd00::2]:443".into() });
        assert_eq!(moved.reaction(), Reaction::Person);
    }

    #[test]
    fn a_discharge_is_no_success() {
        for key in ["discharge-required", "bakery-discharge-required"] {
            let response = json!({ key: {"caveats": []} });
            let Err(Error::Login { refusal }) = Login::read(response) else { panic!("{key}") };
            assert_eq!(refusal, LoginRefusal::DischargeRequired);
        }
        let login = Login::read(json!({"user-info": null, "servers": null, "facades": null})).unwrap();
        assert_eq!(login.access(), Access::None);
    }
}
