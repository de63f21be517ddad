//! The parameters of every action, in one table. Juju checks them too, by `actions.yaml` (3.6 in the
//! controller, 4.0 in the unit's agent, and neither knows a gap in a range), so nothing here relies on it.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A whole number.
    Number {
        /// The least that means something.
        least: u64,
        /// The most.
        most: u64,
        /// What 0 stands for, where it is taken beside the range.
        zero: Option<&'static str>,
        /// Its value when it is not given; 0 where there is none.
        default: Option<u64>,
    },
    /// One of these words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// The word taken when none is given.
        default: Option<&'static str>,
    },
    /// true or false.
    Flag {
        /// Its value when it is not given.
        default: bool,
    },
    /// A Charmhub channel.
    Channel,
    /// Where an image is, in a registry.
    Image,
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub form: Form,
}

/// The longest that anything may be waited for or held, in seconds.
const DAY: u64 = 86_400;

const fn wait(most: u64, default: u64) -> Parameter {
    Parameter { name: "wait", form: Form::Number { least: 0, most, zero: None, default: Some(default) } }
}

const OUTAGE_LIMIT: Parameter = Parameter {
    name: "outage-limit",
    form: Form::Number { least: 30, most: DAY, zero: Some("the option outage-limit"), default: Some(0) },
};
const VERIFICATION: Parameter =
    Parameter { name: "verification", form: Form::Choice { words: &["twin", "strict", "counts"], default: None } };
const NO_WAY_BACK: Parameter = Parameter { name: "accept-no-way-back", form: Form::Flag { default: false } };
const ABANDON_MESSAGES: Parameter = Parameter { name: "abandon-queued-messages", form: Form::Flag { default: false } };
const CHANNEL: Parameter = Parameter { name: "channel", form: Form::Channel };
/// Juju's revisions are 32-bit numbers; 0 is taken for "the newest", as when none is given.
const REVISION: Parameter =
    Parameter { name: "revision", form: Form::Number { least: 0, most: i32::MAX as u64, zero: None, default: None } };

const LOCAL: Parameter = Parameter { name: "local", form: Form::Flag { default: false } };
const IMAGE: Parameter = Parameter { name: "image", form: Form::Image };
const TIMEOUT: Parameter = Parameter {
    name: "timeout",
    form: Form::Number { least: 1, most: DAY, zero: Some("an estimate"), default: Some(0) },
};
const AGAIN: Parameter = Parameter { name: "again", form: Form::Flag { default: false } };
const KEEP_RELEASE: Parameter = Parameter { name: "keep-release", form: Form::Flag { default: false } };

/// Every action and its parameters.
pub const ACTIONS: [(&str, &[Parameter]); 16] = [
    (
        "preflight",
        &[Parameter { name: "strategy", form: Form::Choice { words: &["blue-green"], default: Some("blue-green") } }],
    ),
    (
        "replicate",
        &[
            wait(DAY, 0),
            Parameter { name: "engine", form: Form::Choice { words: &["auto", "native"], default: Some("auto") } },
            Parameter {
                name: "jobs",
                form: Form::Number { least: 1, most: 64, zero: Some("the option copy-jobs"), default: Some(0) },
            },
        ],
    ),
    ("verify", &[wait(DAY, 600)]),
    ("drain", &[wait(DAY, 600), OUTAGE_LIMIT, VERIFICATION, NO_WAY_BACK]),
    ("refresh", &[CHANNEL, REVISION, LOCAL, IMAGE, KEEP_RELEASE, wait(DAY, 1800)]),
    ("run-migration", &[TIMEOUT, wait(90_000, 0)]),
    ("flip-traffic", &[wait(DAY, 300), NO_WAY_BACK, ABANDON_MESSAGES]),
    ("cut-over", &[wait(DAY, 900), OUTAGE_LIMIT, VERIFICATION, NO_WAY_BACK, ABANDON_MESSAGES]),
    (
        "migrate",
        &[
            CHANNEL,
            REVISION,
            LOCAL,
            IMAGE,
            KEEP_RELEASE,
            Parameter {
                name: "until",
                form: Form::Choice {
                    words: &["following", "migrated", "drained", "flipped"],
                    default: Some("flipped"),
                },
            },
            wait(DAY, 0),
            NO_WAY_BACK,
            ABANDON_MESSAGES,
        ],
    ),
    ("rehearse", &[CHANNEL, REVISION, LOCAL, IMAGE, AGAIN, wait(DAY, 0)]),
    ("rollback", &[wait(DAY, 600)]),
    (
        "finalize",
        &[
            Parameter { name: "keep-source-fenced", form: Form::Flag { default: true } },
            Parameter { name: "accept-unverified", form: Form::Flag { default: false } },
        ],
    ),
    ("adopt", &[Parameter { name: "undo", form: Form::Flag { default: false } }]),
    (
        "upgrade-in-place",
        &[
            CHANNEL,
            REVISION,
            LOCAL,
            IMAGE,
            TIMEOUT,
            Parameter { name: "accept-outage", form: Form::Flag { default: false } },
            Parameter { name: "accept-no-backup", form: Form::Flag { default: false } },
            wait(90_000, 0),
        ],
    ),
    (
        "back-up",
        &[
            Parameter { name: "side", form: Form::Choice { words: &["source", "target"], default: Some("source") } },
            Parameter {
                name: "type",
                form: Form::Choice { words: &["full", "differential", "incremental"], default: Some("full") },
            },
            Parameter { name: "taken", form: Form::Flag { default: false } },
            wait(DAY, 600),
        ],
    ),
    ("show", &[Parameter { name: "format", form: Form::Choice { words: &["text", "json"], default: Some("text") } }]),
];

/// An action's parameters, checked, with defaults where nothing was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(BTreeMap<&'static str, Value>);

impl Parameters {
    /// Checks what `action-get` answered.
    ///
    /// # Errors
    /// The sentence that names the parameter, its value and what is accepted.
    pub fn read(action: &str, given: &Map<String, Value>) -> Result<Self, String> {
        let Some((_, known)) = ACTIONS.iter().find(|(name, _)| *name == action) else {
            return Err(format!("cannot {action}: this charm has no such action; run show"));
        };
        if let Some(name) = given.keys().find(|name| known.iter().all(|parameter| parameter.name != *name)) {
            let names: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
            return Err(format!(
                "cannot {action}: it has no parameter {}; it takes {}",
                shown(&Value::String(name.clone())),
                names.join(", ")
            ));
        }
        let mut values = BTreeMap::new();
        for Parameter { name, form } in *known {
            match given.get(*name).filter(|value| !value.is_null()) {
                None => {
                    if let Some(default) = form.default() {
                        values.insert(*name, default);
                    }
                }
                Some(value) => {
                    let taken = form.take(value).ok_or_else(|| {
                        let (value, accepted) = (shown(value), form.accepted());
                        format!("cannot {action}: the parameter {name} is {value}; give {accepted}")
                    })?;
                    values.insert(*name, taken);
                }
            }
        }
        let taken = Self(values);
        taken.contradiction(action).map_or(Ok(taken), Err)
    }

    /// What was given and does not go together.
    fn contradiction(&self, action: &str) -> Option<String> {
        let charmhub = ["channel", "revision"].into_iter().find(|name| self.0.contains_key(name));
        let local = self.flag("local").then_some("local");
        let image = !self.text("image").is_empty();
        match (charmhub, local) {
            (Some(name), _) | (None, Some(name)) if self.flag("keep-release") => Some(format!(
                "cannot {action}: keep-release=true leaves the target at its release, {name} moves it to another; give one of them"
            )),
            (Some(name), Some(_)) => Some(format!(
                "cannot {action}: local=true takes the charm that was attached, {name} one of Charmhub; give one of them"
            )),
            (_, Some(_)) if !image => Some(format!(
                "cannot {action}: local=true without an image would leave the target the one that it runs, and with it the \
                 release; give image=, the place of the charm's image in a registry"
            )),
            (_, None) if image => Some(format!(
                "cannot {action}: image belongs to a charm that was attached; give local=true with it, or leave it out"
            )),
            _ => None,
        }
    }

    /// The same action with another channel in place of the channel or revision, and whatever else was given.
    pub fn on_channel(&self, action: &str, channel: &str) -> String {
        self.without(action, &["channel", "revision", "local", "image"], format!("{action} channel={channel}"))
    }

    /// The same action as it was given.
    pub fn again(&self, action: &str) -> String {
        self.without(action, &[], action.to_owned())
    }

    /// The same action with one more parameter.
    pub fn with(&self, action: &str, more: &str) -> String {
        format!("{} {more}", self.again(action))
    }

    /// A command with everything else that was given.
    fn without(&self, action: &str, without: &[&str], mut command: String) -> String {
        let known = ACTIONS.iter().find(|(name, _)| *name == action).map(|(_, known)| *known).unwrap_or_default();
        for Parameter { name, form } in known.iter().filter(|known| !without.contains(&known.name)) {
            if let Some(given) = self.0.get(name).filter(|given| form.default().as_ref() != Some(*given)) {
                command.push_str(&format!(" {name}={}", given.as_str().map_or(given.to_string(), str::to_owned)));
            }
        }
        command
    }

    /// A number; 0 when there is none.
    pub fn number(&self, name: &str) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A word or a channel; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A flag; false when there is none.
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

impl Form {
    /// The value taken when none is given.
    pub fn default(self) -> Option<Value> {
        match self {
            Self::Number { default, .. } => default.map(Value::from),
            Self::Choice { default, .. } => default.map(Value::from),
            Self::Flag { default } => Some(Value::from(default)),
            Self::Channel | Self::Image => None,
        }
    }

    /// The value as we use it, if it is accepted. Juju may bring a whole number as a float.
    fn take(self, value: &Value) -> Option<Value> {
        match self {
            Self::Number { least, most, zero, .. } => {
                let whole = |float: &f64| float.fract() == 0.0 && (0.0..=9e15).contains(float);
                let number = value.as_u64().or_else(|| value.as_f64().filter(whole).map(|float| float as u64))?;
                ((least..=most).contains(&number) || (number == 0 && zero.is_some())).then(|| Value::from(number))
            }
            Self::Choice { words, .. } => value.as_str().filter(|word| words.contains(word)).map(Value::from),
            Self::Flag { .. } => value.as_bool().map(Value::from),
            Self::Channel => value.as_str().filter(|text| is_channel(text)).map(Value::from),
            Self::Image => value.as_str().filter(|text| is_image(text)).map(Value::from),
        }
    }

    /// What is accepted, in words.
    fn accepted(self) -> String {
        match self {
            Self::Number { least, most, zero, .. } => {
                let zero = zero.map(|meaning| format!(", or 0 for {meaning}")).unwrap_or_default();
                format!("a whole number from {least} to {most}{zero}")
            }
            Self::Choice { words: [only], .. } => format!("{only}, the only one there is"),
            Self::Choice { words, .. } => format!("one of {}", words.join(", ")),
            Self::Flag { .. } => "true or false".to_owned(),
            Self::Channel => {
                format!(
                    "a channel as track, risk, track/risk or track/risk/branch, with a risk of {}",
                    RISKS.join(", ")
                )
            }
            Self::Image => "the place of an image, such as registry.internal:5000/kratos:1.3.1".to_owned(),
        }
    }
}

const RISKS: [&str; 4] = ["stable", "candidate", "beta", "edge"];

/// Juju's forms: `track`, `risk`, `track/risk`, `risk/branch`, `track/risk/branch`.
fn is_channel(text: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let parts: Vec<&str> = text.split('/').collect();
    let risk = |part: &str| RISKS.contains(&part);
    text.len() <= 128
        && parts.iter().all(|part| word(part))
        && match parts[..] {
            [_] => true,
            [first, second] => risk(first) || risk(second),
            [_, second, _] => risk(second),
            _ => false,
        }
}

/// A reference as container registries take them: a name with a host, a tag or a digest perhaps. Juju asks the registry.
fn is_image(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
}

/// A value as JSON, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(action: &str, given: Value) -> Result<Parameters, String> {
        Parameters::read(action, given.as_object().unwrap())
    }

    #[test]
    fn defaults_are_filled_in_and_floats_may_be_whole() {
        let drain = read("drain", json!({"outage-limit": 60.0})).unwrap();
        assert_eq!((drain.number("wait"), drain.number("outage-limit"), drain.text("verification")), (600, 60, ""));
        let finalize = read("finalize", json!({"accept-unverified": true})).unwrap();
        assert!(finalize.flag("keep-source-fenced") && finalize.flag("accept-unverified"));
    }

    #[test]
    fn another_channel_leaves_what_else_was_given() {
        let given = json!({
            "channel": "0.5/stable", "revision": 7, "until": "drained", "accept-no-way-back": true, "wait": 0,
        });
        let said = read("migrate", given).unwrap().on_channel("migrate", "0.4/stable");
        assert_eq!(said, "migrate channel=0.4/stable until=drained accept-no-way-back=true");
    }

    #[test]
    fn one_more_parameter_stands_behind_what_else_was_given() {
        let given = json!({"revision": 7, "timeout": 0, "accept-outage": true});
        let said = read("upgrade-in-place", given).unwrap().with("upgrade-in-place", "accept-no-backup=true");
        assert_eq!(said, "upgrade-in-place revision=7 accept-outage=true accept-no-backup=true");
    }

    #[test]
    fn channels_are_those_of_juju() {
        for good in ["stable", "0.4", "0.4/stable", "latest/edge/fix-1", "edge/fix"] {
            assert!(is_channel(good), "{good}");
        }
        for bad in ["", "/", "0.4/", "0.4/fast", "a/b/c", "a/stable/b/c", "0.4/stable;ls", " stable", "-x", "ä/stable"]
        {
            assert!(!is_channel(bad), "{bad}");
        }
    }

    #[test]
    fn a_charm_that_was_attached_comes_with_its_image_and_no_other() {
        let image = "registry.internal:5000/kratos:1.3.1";
        let good = read("refresh", json!({"local": true, "image": image})).unwrap();
        assert!(good.flag("local") && good.text("image") == image);
        for (given, says) in [
            (json!({"local": true}), "cannot refresh: local=true without an image would leave"),
            (json!({"image": image}), "cannot refresh: image belongs to a charm that was attached; give local=true"),
            (json!({"image": image, "local": false}), "image belongs to a charm that was attached"),
            (
                json!({"local": true, "image": image, "channel": "1.3/stable"}),
                "the charm that was attached, channel one",
            ),
            (json!({"local": true, "image": image, "revision": 7}), "the charm that was attached, revision one"),
            (json!({"local": true, "image": image, "keep-release": true}), "at its release, local moves it"),
            (json!({"local": true, "image": "a b"}), "the parameter image is \"a b\"; give the place of an image"),
        ] {
            let found = read("refresh", given).unwrap_err();
            assert!(found.contains(says), "{found}");
        }
        for bad in ["", "-x", "a\nb", "ä", "$(ls)", "a;b", "a 'b'"] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        assert_eq!(
            read("drain", json!({"outage-limit": 5})).unwrap_err(),
            "cannot drain: the parameter outage-limit is 5; \
             give a whole number from 30 to 86400, or 0 for the option outage-limit"
        );
        let long = read("show", json!({"format": "x".repeat(300)})).unwrap_err();
        assert!(long.len() < 200 && long.ends_with("…; give one of text, json"), "{long}");
    }
}
