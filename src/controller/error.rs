//! What can go wrong, and who can do something about it.
//!
//! A controller says "no" in three places: in the envelope of a reply, beside the fields of its one result, or in
//! each item of `results`. All three become [`Error::Refused`], classified by code and, where Juju gives none, by
//! message.

use super::login::LoginRefusal;
use super::wire::null_as_default;
use serde::Deserialize;

/// What a call to this layer answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the controller did not do what it was asked for. Never holds a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about; nothing was asked.
    #[error("cannot connect to the Juju controller: {failure}; {}", .failure.cure())]
    Connect {
        /// What was met.
        failure: ConnectFailure,
    },
    /// The login was refused, or what it gave is not enough.
    #[error("cannot log in to the Juju controller: {refusal}; {}", .refusal.cure())]
    Login {
        /// Why.
        refusal: LoginRefusal,
    },
    /// The connection was closed before the request was sent: nothing happened, connect anew.
    #[error("cannot {doing}: the connection to the Juju controller was closed before ({why}); trying again")]
    NotSent {
        /// What was being done, as in "cannot <doing>".
        doing: String,
        /// Why the connection ended.
        why: String,
    },
    /// The request may or may not have been carried out: look at the model before it is sent again.
    #[error("cannot tell whether the Juju controller did {doing}: {why}; the model is read before it is asked again")]
    UnknownOutcome {
        /// What was being done, as in "cannot <doing>".
        doing: String,
        /// Why no answer came.
        why: String,
    },
    /// The controller refused, for a reason of its own; nothing was changed by this request.
    #[error("cannot {doing}: the Juju controller says \"{}\"{}; {}", .detail.message, .detail.shown_code(), .detail.code().cure())]
    Refused {
        /// What was being done, as in "cannot <doing>".
        doing: String,
        /// The controller's words.
        detail: ErrorDetail,
    },
    /// The controller does not offer what we would call.
    #[error(
        "cannot {doing}: this Juju controller offers {facade} in the versions {offered:?} and not in {known:?}; use a coordinator that knows this release of Juju"
    )]
    NoFacade {
        /// What was being done, as in "cannot <doing>".
        doing: String,
        /// The facade's name.
        facade: String,
        /// The versions that the controller named at login.
        offered: Vec<u32>,
        /// The versions that we know.
        known: Vec<u32>,
    },
    /// The reply is not what this call answers.
    #[error("cannot {doing}: the Juju controller's reply cannot be read ({why}); report it with the release of Juju")]
    Unreadable {
        /// What was being done, as in "cannot <doing>".
        doing: String,
        /// What the parser met.
        why: String,
    },
}

/// Why no connection came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// There is no address to dial.
    #[error("no address of it is known")]
    NoAddress,
    /// The CA certificate to trust cannot be used.
    #[error("the CA certificate is unusable ({0})")]
    UnusableCa(String),
    /// Whoever answered is not who the CA vouches for.
    #[error("{address} is not vouched for by the controller's CA ({why})")]
    Untrusted {
        /// Who answered.
        address: String,
        /// What TLS says.
        why: String,
    },
    /// The controller refused before a websocket was there: 400 for a malformed model UUID, 503 while it stops.
    #[error("{address} answered with HTTP status {status}")]
    Http {
        /// Who answered.
        address: String,
        /// The HTTP status.
        status: u16,
    },
    /// Nobody answered in time, at any address.
    #[error("{0}")]
    Unreachable(String),
}

impl ConnectFailure {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NoAddress => "see that JUJU_API_ADDRESSES is set for this unit",
            Self::UnusableCa(_) => "set the option controller-ca to the controller's CA certificate",
            Self::Untrusted { .. } => {
                "set the option controller-ca to the CA certificate that juju show-controller prints"
            }
            Self::Http { status: 503, .. } => "the controller is stopping or starting, trying again",
            Self::Http { .. } => "see that JUJU_MODEL_UUID names this model",
            Self::Unreachable(_) => {
                "see that the controller runs and that this unit may reach its API port, trying again"
            }
        }
    }
}

/// What somebody should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It passes: look at the model, then ask again, soon and a little later each time.
    Retry,
    /// The controller or the model is busy for minutes: ask again now and then, for a long time.
    Pause,
    /// An operator must do something.
    Person,
    /// The plan does not fit the model, or the request is a mistake: asking again changes nothing.
    Stop,
}

/// The codes that a caller tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The entity is not there; for a removal that is success.
    NotFound,
    /// It is there already; success, once it was seen to be the right one and alive.
    AlreadyExists,
    /// Credentials or access are missing.
    Unauthorized,
    /// The user is not one of the controller's own.
    DischargeRequired,
    /// The model is gone, or was never here.
    ModelNotFound,
    /// The model has moved to another controller.
    Redirection,
    /// It passes by itself.
    Transient,
    /// The controller is being upgraded.
    Upgrading,
    /// The model is on its way to another controller.
    Migrating,
    /// The model is on its way to this controller.
    Importing,
    /// `juju disable-command`.
    Blocked,
    /// Facade or version are not there.
    NotImplemented,
    /// The wrong kind of connection, or a change of storage that Kubernetes does not allow.
    NotSupported,
    /// A limit, a base or units in the way.
    PlanRefused,
    /// The entity is going.
    Dying,
    /// The action has ended.
    ActionGone,
    /// Our own mistake.
    Mistake,
    /// Anything else.
    Other,
}

impl Code {
    /// What to do about it.
    pub fn reaction(self) -> Reaction {
        match self {
            Self::Transient | Self::Dying => Reaction::Retry,
            Self::Upgrading | Self::Migrating | Self::Importing => Reaction::Pause,
            Self::Unauthorized | Self::DischargeRequired | Self::Redirection | Self::Blocked => Reaction::Person,
            Self::NotFound
            | Self::AlreadyExists
            | Self::ModelNotFound
            | Self::NotImplemented
            | Self::NotSupported
            | Self::PlanRefused
            | Self::ActionGone
            | Self::Mistake
            | Self::Other => Reaction::Stop,
        }
    }

    /// One clause that says what to do.
    pub fn cure(self) -> &'static str {
        match self {
            Self::Transient => "trying again",
            Self::Dying => "waiting until it is gone",
            Self::Upgrading => "waiting until the controller's upgrade is over",
            Self::Migrating | Self::Importing => "waiting until the model's migration is over",
            Self::Unauthorized => "grant the user of controller-credentials write access to this model",
            Self::DischargeRequired => {
                "put a user of the controller itself (juju add-user) into controller-credentials"
            }
            Self::Redirection => "put a user of the model's new controller into controller-credentials",
            Self::Blocked => "lift it with juju enable-command",
            Self::NotFound => "see what juju status shows of it",
            Self::ModelNotFound => "see that the model is still on this controller",
            Self::AlreadyExists => "see what juju status shows of it",
            Self::ActionGone => "see how it ended with juju operations",
            Self::NotImplemented | Self::NotSupported => "do this step by hand",
            Self::PlanRefused => "change what stands in the way, or do this step by hand",
            Self::Mistake | Self::Other => "do this step by hand, and report the sentence",
        }
    }
}

/// The controller's own words for a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// For people; while a command is disabled, the administrator's text.
    #[serde(deserialize_with = "null_as_default")]
    pub message: String,
    /// For programs; often empty, on 4.0 more often than on 3.6.
    #[serde(deserialize_with = "null_as_default")]
    pub code: String,
}

impl ErrorDetail {
    /// The error of a call.
    pub(super) fn refused(self, doing: impl Into<String>) -> Error {
        Error::Refused { doing: doing.into(), detail: self }
    }

    fn shown_code(&self) -> String {
        if self.code.is_empty() { String::new() } else { format!(" ({})", self.code) }
    }

    /// Which of the known refusals this is: by code, and by message where there is none.
    pub fn code(&self) -> Code {
        match self.code.as_str() {
            "not found" | "user not found" => Code::NotFound,
            "model not found" => Code::ModelNotFound,
            "unauthorized access"
            | "no credentials provided"
            | "login expired"
            | "session token invalid"
            | "access required" => Code::Unauthorized,
            "macaroon discharge required" => Code::DischargeRequired,
            "redirection required" => Code::Redirection,
            "try again"
            | "not yet available; try again later"
            | "excessive contention"
            | "deadline exceeded"
            | "stopped" => Code::Transient,
            "upgrade in progress" => Code::Upgrading,
            "operation is blocked" => Code::Blocked,
            "not implemented" => Code::NotImplemented,
            "not supported" => Code::NotSupported,
            // 3.6 gives one code to a relation that stands and to one that is going.
            "already exists" if self.message.contains("dying") => Code::Dying,
            "already exists" => Code::AlreadyExists,
            "incompatible base" | "quota limit exceeded" | "application should not have units" => Code::PlanRefused,
            "dead" => Code::Dying,
            "action no longer available" => Code::ActionGone,
            "bad request"
            | "not valid"
            | "forbidden"
            | "method not allowed"
            | "invalid tag"
            | "tag kind not supported" => Code::Mistake,
            _ => self.code_of_message(),
        }
    }

    fn code_of_message(&self) -> Code {
        let message = self.message.as_str();
        let says = |text: &str| message.contains(text);
        if says("model is importing") {
            Code::Importing
        } else if says("model migration in progress") {
            Code::Migrating
        } else if says("maintenance in progress") || says("upgrade in progress") {
            Code::Upgrading
        } else if says("dying") {
            Code::Dying
        } else if message.ends_with("already exists") {
            Code::AlreadyExists
        } else if message.ends_with("not found") {
            Code::NotFound
        } else if says("no compatible endpoints") || says("no relations found") || says("no corresponding relation") {
            Code::PlanRefused
        } else {
            Code::Other
        }
    }
}

impl Error {
    /// The refusal's code, when the controller refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { detail, .. } => Some(detail.code()),
            _ => None,
        }
    }

    /// What to do about it. After [`Reaction::Retry`] the model is read before anything is asked again.
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::NotSent { .. } | Self::UnknownOutcome { .. } => Reaction::Retry,
            Self::Connect { failure } => match failure {
                ConnectFailure::Unreachable(_) | ConnectFailure::Http { status: 503, .. } => Reaction::Retry,
                _ => Reaction::Person,
            },
            Self::Login { refusal } => refusal.reaction(),
            Self::Refused { detail, .. } => detail.code().reaction(),
            Self::NoFacade { .. } | Self::Unreadable { .. } => Reaction::Stop,
        }
    }

    /// True when a request was sent and nobody knows what became of it.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self, Self::UnknownOutcome { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(message: &str, code: &str) -> ErrorDetail {
        ErrorDetail { message: message.into(), code: code.into() }
    }

    #[test]
    fn codes_and_where_there_is_none_messages() {
        let table = [
            ("permission denied", "unauthorized access", Code::Unauthorized, Reaction::Person),
            ("freeze until Monday", "operation is blocked", Code::Blocked, Reaction::Person),
            ("model migration in progress", "", Code::Migrating, Reaction::Pause),
            ("migration in progress, model is importing", "", Code::Importing, Reaction::Pause),
            ("login failed - maintenance in progress", "", Code::Upgrading, Reaction::Pause),
            ("upgrade in progress", "upgrade in progress", Code::Upgrading, Reaction::Pause),
            ("relation a b: already exists", "", Code::AlreadyExists, Reaction::Stop),
            ("relation a b: already exists", "already exists", Code::AlreadyExists, Reaction::Stop),
            ("relation a b is dying, but not yet removed", "already exists", Code::Dying, Reaction::Retry),
            ("lease contention", "try again", Code::Transient, Reaction::Retry),
            ("unit \"kratos/9\" not found", "", Code::NotFound, Reaction::Stop),
            ("no compatible endpoints found between applications", "", Code::PlanRefused, Reaction::Stop),
            ("type \"taskStatus\" has no \"status_id\" db tag", "", Code::Other, Reaction::Stop),
        ];
        for (message, code, is, reaction) in table {
            let found = detail(message, code).code();
            assert_eq!((found, found.reaction()), (is, reaction), "{message} ({code})");
        }
    }

    #[test]
    fn a_refusal_is_one_sentence() {
        let error = detail("freeze until Monday", "operation is blocked").refused("refresh kratos");
        assert_eq!(
            error.to_string(),
            "cannot refresh kratos: the Juju controller says \"freeze until Monday\" (operation is blocked); \
             lift it with juju enable-command"
        );
    }

    #[test]
    fn what_is_unknown_is_looked_at_again() {
        let error = Error::UnknownOutcome { doing: "refresh kratos".into(), why: "closed".into() };
        assert!(error.is_unknown_outcome());
        assert_eq!(error.reaction(), Reaction::Retry);
        let not_sent = Error::NotSent { doing: "refresh kratos".into(), why: "closed".into() };
        assert!(!not_sent.is_unknown_outcome());
    }
}
