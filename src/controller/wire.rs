//! How Go writes JSON: `null` for what is empty, tags for names, a year 1 for "never".

use serde::{Deserialize, Deserializer, Serialize};

/// An empty map, list or text may arrive as `null`, absent or empty: all mean the default.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A moment on the controller's clock, in nanoseconds; `None` where Juju says "never" (`0001-01-01T00:00:00Z`),
/// `null` or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Time(pub Option<jiff::Timestamp>);

impl Time {
    /// Whole seconds from another moment to this one; `None` where one of them is "never".
    pub fn seconds_since(self, earlier: Self) -> Option<i64> {
        Some(self.0?.as_second() - earlier.0?.as_second())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        let Some(text) = text.filter(|text| !text.is_empty() && !text.starts_with("0001-")) else {
            return Ok(Self(None));
        };
        text.parse().map(|time| Self(Some(time))).map_err(serde::de::Error::custom)
    }
}

/// `application-<name>`.
pub fn application_tag(application: &str) -> String {
    format!("application-{application}")
}

/// `unit-kratos-0` for `kratos/0`; anything else, such as `kratos/leader`, stays as it is.
pub fn unit_tag(unit: &str) -> String {
    match unit.rsplit_once('/') {
        Some((application, number)) if is_number(number) => format!("unit-{application}-{number}"),
        _ => unit.to_owned(),
    }
}

/// `kratos/0` for `unit-kratos-0`: the number follows the last dash. `None` for other tags.
pub fn unit_name(tag: &str) -> Option<String> {
    let (application, number) = tag.strip_prefix("unit-")?.rsplit_once('-')?;
    is_number(number).then(|| format!("{application}/{number}"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_names() {
        assert_eq!(unit_tag("kratos-new/12"), "unit-kratos-new-12");
        assert_eq!(unit_tag("kratos/leader"), "kratos/leader");
        assert_eq!(unit_name("unit-kratos-new-12").as_deref(), Some("kratos-new/12"));
        assert_eq!(unit_name("application-kratos"), None);
        assert_eq!(unit_name("unit-kratos"), None);
    }

    #[test]
    fn times() {
        let read = |text: &str| serde_json::from_str::<Time>(text);
        assert_eq!(read("null").unwrap(), Time(None));
        assert_eq!(read("\"0001-01-01T00:00:00Z\"").unwrap(), Time(None));
        let early = read("\"2026-11-23T19:06:06.693444849Z\"").unwrap();
        let late = read("\"2026-11-23T20:06:06.69344485+01:00\"").unwrap();
        assert!(early < late && early.0.is_some());
        assert!(read("\"yesterday\"").is_err());
    }
}
