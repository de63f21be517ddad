//! Which revisions of an app's charm cannot run `run-migration` where it is needed: on an application that was refreshed
//! and waits. The new revision's own code runs the action, and some ask for a running service, which a refreshed
//! application has not before its schema is migrated.
//!
//! Only what is known to be unfit is here: any other channel or revision may be taken.

use super::App;

/// What a charm is taken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The channel's track, as long as no revision is named beside it.
    Track(&'static str),
    /// Charmhub's revision number.
    Revision(u64),
}

/// One that is unfit.
#[derive(Debug)]
struct Unfit {
    /// The app's name.
    app: &'static str,
    taken: Taken,
}

/// Kratos' charm v2.0.0 and v2.0.1 are track 0.5; Hydra's revision 339 up to v1.2.0 are tracks 0.3 and 0.4.
const UNFIT: &[Unfit] = &[
    Unfit { app: "kratos", taken: Taken::Track("0.5") },
    Unfit { app: "hydra", taken: Taken::Track("0.3") },
    Unfit { app: "hydra", taken: Taken::Track("0.4") },
    Unfit { app: "hydra", taken: Taken::Revision(339) },
];

/// What to take instead: a channel, and the charm's version from which later ones are fit again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// A channel whose charm is fit.
    pub channel: &'static str,
    /// The charm's version from which on every one is.
    pub from: &'static str,
}

/// A channel or a revision that is known to be unfit, in words, and what is fit.
///
/// `channel` is as Juju takes it (`0.5/stable`, `0.5`, `stable`, empty), `revision` 0 where none is named. A revision
/// decides over the channel beside it.
pub fn unfit(app: &App, channel: &str, revision: u64) -> Option<(String, Fit)> {
    let of_app = || UNFIT.iter().filter(|unfit| unfit.app == app.name).map(|unfit| unfit.taken);
    let track = channel.split('/').next().unwrap_or_default();
    let found = match revision {
        0 => of_app()
            .any(|taken| matches!(taken, Taken::Track(name) if name == track))
            .then(|| format!("channel {channel}")),
        _ => of_app().any(|taken| taken == Taken::Revision(revision)).then(|| format!("revision {revision}")),
    };
    found.map(|found| (found, fit(app)))
}

/// What of this app's charm runs its `run-migration` on an application that was refreshed.
fn fit(app: &App) -> Fit {
    match app.kind {
        super::Kind::Kratos => Fit { channel: "0.4/stable", from: "v2.1.0" },
        super::Kind::Hydra => Fit { channel: "0.5/stable", from: "v3.0.0" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{APPS, HYDRA, KRATOS};

    #[test]
    fn what_is_known_to_be_unfit_is_named_and_nothing_else_is() {
        for (app, channel, revision, named) in [
            (&KRATOS, "0.5/stable", 0, Some("channel 0.5/stable")),
            (&KRATOS, "0.5", 0, Some("channel 0.5")),
            (&KRATOS, "0.5/edge/fix-1", 0, Some("channel 0.5/edge/fix-1")),
            (&KRATOS, "0.4/stable", 0, None),
            (&KRATOS, "latest/edge", 0, None),
            (&KRATOS, "stable", 0, None),
            (&KRATOS, "", 0, None),
            (&KRATOS, "", 500, None),
            (&KRATOS, "", 339, None),
            // A revision decides: nobody knows which of the track it is.
            (&KRATOS, "0.5/stable", 9999, None),
            (&HYDRA, "0.3/stable", 0, Some("channel 0.3/stable")),
            (&HYDRA, "0.4/candidate", 0, Some("channel 0.4/candidate")),
            (&HYDRA, "0.5/stable", 0, None),
            (&HYDRA, "", 339, Some("revision 339")),
            (&HYDRA, "0.5/stable", 339, Some("revision 339")),
            (&HYDRA, "", 285, None),
        ] {
            let found = unfit(app, channel, revision).map(|(found, _)| found);
            assert_eq!(found.as_deref(), named, "{} {channel} {revision}", app.name);
        }
    }

    #[test]
    fn what_is_offered_instead_is_fit() {
        for app in APPS {
            assert_eq!(unfit(app, fit(app).channel, 0), None);
        }
    }
}
