//! Formats where Kratos' own judgement is not that of everybody else.

use jsonschema::ValidationOptions;

/// Judges formats as Kratos does. A telephone number is not judged: that takes the numbering plans of all countries.
pub(super) fn as_kratos(options: ValidationOptions<'_>) -> ValidationOptions<'_> {
    options
        .should_validate_formats(true)
        .with_format("email", is_email)
        .with_format("hostname", is_hostname)
        // Unknown to Kratos, so it takes everything.
        .with_format("idn-email", |_| true)
        .with_format("idn-hostname", |_| true)
}

/// An address of at most 254 bytes, 64 of them before the last `@`, with a host's name behind it.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    text.len() <= 254 && local.len() <= 64 && is_hostname(domain) && is_local(local.trim_start())
}

/// Words joined by dots, or one in quotes. Letters of every script are taken.
fn is_local(local: &str) -> bool {
    if let Some(quoted) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return !quoted.contains('"') && !quoted.contains('\\') && !quoted.chars().any(char::is_control);
    }
    let of_a_word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    local.split('.').all(|word| !word.is_empty() && word.chars().all(of_a_word))
}

/// Labels of 1 to 63 letters, digits and hyphens, joined by dots; no hyphen begins the name or ends a label.
fn is_hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && !name.starts_with('-') && name.split('.').all(label)
}
