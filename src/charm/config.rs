//! The options of `config.yaml`, checked: Juju itself knows neither ranges nor choices.

use crate::migration::{BackupGates, OrderChoice, Settings, Verification};
use log::LevelFilter;
use serde_json::{Map, Value};

/// What the operator configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The source application, where it cannot be derived.
    pub source_application: Option<String>,
    /// The target application, where it cannot be derived.
    pub target_application: Option<String>,
    /// The identity app's database on the source, where it cannot be derived.
    pub source_database_name: Option<String>,
    /// The identity app's database on the target, where it cannot be derived.
    pub target_database_name: Option<String>,
    /// The secret with the Juju user that we may act as.
    pub controller_credentials: Option<String>,
    /// The controller's CA certificate, where the unit does not know it.
    pub controller_ca: Option<String>,
    /// What the steps read.
    pub settings: Settings,
    /// The least important lines that are logged.
    pub log_level: LevelFilter,
    /// The options whose values cannot be used, in the order of `config.yaml`; they have their defaults here.
    pub bad: Vec<BadOption>,
}

/// An option whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the option {option}: its value is {value}; set it to {accepted}")]
pub struct BadOption {
    /// The option's name.
    pub option: &'static str,
    /// The value found, as JSON.
    pub value: String,
    /// What is accepted.
    pub accepted: String,
}

impl Config {
    /// Reads what `config-get --all` answered; an option that is not set, or cannot be used, has its default.
    pub fn from_options(options: &Map<String, Value>) -> Self {
        let mut options = Options { options, bad: Vec::new() };
        let default = Settings::default();
        Self {
            source_application: options.application("source-application"),
            target_application: options.application("target-application"),
            source_database_name: options.database("source-database-name"),
            target_database_name: options.database("target-database-name"),
            controller_credentials: options.secret("controller-credentials"),
            controller_ca: options.certificate("controller-ca"),
            settings: Settings {
                outage_limit: options.number("outage-limit", 30, 86_400, default.outage_limit),
                max_lag_bytes: options.number("max-lag-bytes", 0, 1 << 40, default.max_lag_bytes),
                max_kept_wal_bytes: options.number("max-kept-wal-bytes", 0, 1 << 50, default.max_kept_wal_bytes),
                order: options.choice("order", &ORDERS, default.order),
                copy_jobs: options.number("copy-jobs", 0, 64, default.copy_jobs as u64) as usize,
                lock_timeout_ms: options.number("lock-timeout-ms", 1, 60_000, default.lock_timeout_ms),
                verification: options.choice("verification", &VERIFICATIONS, default.verification),
                engine: default.engine,
                backup_gates: options.choice("backup-gates", &BACKUP_GATES, default.backup_gates),
                move_routes: options.flag("move-routes", default.move_routes),
            },
            log_level: options.choice("log-level", &LEVELS, LevelFilter::Info),
            bad: options.bad,
        }
    }

    /// The first of these options that cannot be used.
    pub fn bad_among(&self, names: &[&str]) -> Option<&BadOption> {
        self.bad.iter().find(|bad| names.contains(&bad.option))
    }
}

const ORDERS: [(&str, OrderChoice); 3] = [
    ("auto", OrderChoice::Auto),
    ("documented", OrderChoice::Documented),
    ("migrate-first", OrderChoice::MigrateFirst),
];
const VERIFICATIONS: [(&str, Verification); 3] =
    [("twin", Verification::Twin), ("strict", Verification::Strict), ("counts", Verification::Counts)];
const BACKUP_GATES: [(&str, BackupGates); 3] =
    [("off", BackupGates::Off), ("start", BackupGates::Start), ("all", BackupGates::All)];
const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

struct Options<'a> {
    options: &'a Map<String, Value>,
    bad: Vec<BadOption>,
}

impl<'a> Options<'a> {
    /// A value that is set: neither absent, nor null, nor an empty text.
    fn set(&self, option: &str) -> Option<&'a Value> {
        self.options.get(option).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// What a value that is set means, or else the default.
    fn read<T>(
        &mut self,
        option: &'static str,
        default: T,
        take: impl FnOnce(&Value) -> Option<T>,
        accepted: impl FnOnce() -> String,
    ) -> T {
        let Some(value) = self.set(option) else { return default };
        take(value).unwrap_or_else(|| {
            self.bad.push(BadOption { option, value: value.to_string(), accepted: accepted() });
            default
        })
    }

    /// A whole number in a range; JSON may bring it as a float.
    fn number(&mut self, option: &'static str, least: u64, most: u64, default: u64) -> u64 {
        let take = |value: &Value| {
            let whole =
                value.as_u64().or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
            whole.filter(|number| (least..=most).contains(number))
        };
        self.read(option, default, take, || format!("a whole number from {least} to {most}"))
    }

    fn flag(&mut self, option: &'static str, default: bool) -> bool {
        self.read(option, default, Value::as_bool, || "true or false".to_owned())
    }

    fn choice<T: Copy>(&mut self, option: &'static str, choices: &[(&str, T)], default: T) -> T {
        let take =
            |value: &Value| choices.iter().find(|(name, _)| value.as_str() == Some(*name)).map(|(_, choice)| *choice);
        self.read(option, default, take, || {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        })
    }

    fn text(&mut self, option: &'static str, good: fn(&str) -> bool, accepted: &str) -> Option<String> {
        let take = |value: &Value| value.as_str().filter(|text| good(text)).map(|text| Some(text.to_owned()));
        self.read(option, None, take, || accepted.to_owned())
    }

    fn application(&mut self, option: &'static str) -> Option<String> {
        self.text(option, is_application_name, "an application's name, as juju status shows it")
    }

    fn secret(&mut self, option: &'static str) -> Option<String> {
        self.text(option, |text| text.starts_with("secret:"), "a secret's URI, as juju add-secret prints it")
    }

    /// Whether it can be used is known where it is.
    fn certificate(&mut self, option: &'static str) -> Option<String> {
        let good = |text: &str| text.contains("-----BEGIN CERTIFICATE-----");
        self.text(option, good, "a CA certificate in PEM form, as juju show-controller prints it")
    }

    fn database(&mut self, option: &'static str) -> Option<String> {
        let good = |text: &str| text.len() <= 63 && !text.contains('\0') && text.trim() == text;
        self.text(option, good, "a database's name: at most 63 bytes, no blank at its ends")
    }
}

/// Juju's rule: lower-case words of letters and digits joined by hyphens, each later word with a letter.
fn is_application_name(text: &str) -> bool {
    let mut words = text.split('-');
    let first = words.next().unwrap_or_default();
    let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    first.starts_with(|c: char| c.is_ascii_lowercase())
        && plain(first)
        && words.all(|word| plain(word) && word.contains(|c: char| c.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(options: Value) -> Config {
        let Value::Object(map) = options else { panic!("an object") };
        Config::from_options(&map)
    }

    #[test]
    fn unset_options_have_their_defaults() {
        let config = read(json!({"source-application": null, "order": ""}));
        assert_eq!(config.bad, []);
        assert_eq!(config.settings, Settings::default());
        assert_eq!((config.source_application, config.log_level), (None, LevelFilter::Info));
    }

    #[test]
    fn set_options_are_read() {
        let config = read(json!({
            "source-application": "kratos", "target-application": "kratos-v2new",
            "source-database-name": "iam_kratos", "target-database-name": "Odd name",
            "outage-limit": 600.0, "max-lag-bytes": 1, "order": "migrate-first", "copy-jobs": 64,
            "lock-timeout-ms": 60000, "verification": "strict", "log-level": "debug"
        }));
        assert_eq!(config.bad, []);
        assert_eq!(config.source_application.as_deref(), Some("kratos"));
        assert_eq!(config.target_database_name.as_deref(), Some("Odd name"));
        assert_eq!(config.settings.outage_limit, 600);
        assert_eq!(config.settings.order, OrderChoice::MigrateFirst);
        assert_eq!(config.settings.verification, Verification::Strict);
        assert_eq!(config.log_level, LevelFilter::Debug);
    }

    #[test]
    fn bad_values_are_named_with_what_is_accepted() {
        let bad = [
            json!({"outage-limit": 29}),
            json!({"outage-limit": 86_401}),
            json!({"outage-limit": 60.5}),
            json!({"outage-limit": -1}),
            json!({"outage-limit": "900"}),
            json!({"max-lag-bytes": -1}),
            json!({"max-kept-wal-bytes": 0.5}),
            json!({"copy-jobs": 65}),
            json!({"lock-timeout-ms": 0}),
            json!({"lock-timeout-ms": 60_001}),
            json!({"order": "first"}),
            json!({"verification": "Twin"}),
            json!({"backup-gates": "yes"}),
            json!({"move-routes": "yes"}),
            json!({"log-level": "loud"}),
            json!({"source-application": "Kratos"}),
            json!({"target-application": "kratos-2"}),
            json!({"source-database-name": " x"}),
            json!({"target-database-name": "x".repeat(64)}),
            json!({"controller-credentials": "hunter2"}),
            json!({"controller-ca": "MIIC"}),
        ];
        for options in bad {
            let (option, value) = options.as_object().and_then(|map| map.iter().next()).unwrap();
            let config = read(options.clone());
            assert_eq!((config.bad[0].option, &config.bad[0].value), (option.as_str(), &value.to_string()));
            // Beside it, everything is as if it were not set.
            assert_eq!(Config { bad: Vec::new(), ..config }, read(json!({})));
        }
        assert_eq!(
            read(json!({"order": "first"})).bad[0].to_string(),
            "cannot use the option order: its value is \"first\"; set it to one of auto, documented, migrate-first"
        );
    }
}
