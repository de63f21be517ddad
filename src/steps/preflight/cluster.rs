//! Checks of the two clusters as such, and of the roads between them.

use super::Facts;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::{At, Remedy, both, faults, judged};
use crate::postgres::names::ident;
use crate::postgres::survey::Origin;

/// How far the clocks may be apart, in seconds, the time of asking included.
const CLOCK_LIMIT: f64 = 5.0;

pub(super) fn two_databases(facts: &Facts) -> Judgement {
    let (source, target) = (&facts.source.survey, &facts.target.survey);
    let identifier = &source.identity.system_identifier;
    if *identifier != target.identity.system_identifier {
        return good(format!("{} → {}, two clusters", source.place(), target.place()));
    }
    // A restored or promoted copy keeps the identifier; no two servers start in the same microsecond.
    if source.server.started != target.server.started {
        return hint(
            format!(
                "{} and {} have the one system identifier {identifier}: one was made from a physical copy of the other",
                source.place(),
                target.place()
            ),
            "make sure that these are the right clusters; a target that was deployed fresh is not taken for the source",
        );
    }
    if source.database == target.database {
        return bad(
            format!("both sides are {}", source.place()),
            "relate target-database to the new cluster, or set target-database-name",
        );
    }
    hint(
        format!("databases {} and {} are in one cluster, {}", source.database, target.database, source.address),
        "relate target-database to the new cluster, if the cluster was to be left",
    )
}

pub(super) fn versions(facts: &Facts) -> Judgement {
    let [from, to] = [facts.source.survey.identity.major(), facts.target.survey.identity.major()];
    let found = format!("PostgreSQL {from} → {to}");
    if from < 14 || to < 14 {
        bad(format!("{found}, and 14 is the oldest that is supported"), "upgrade the older cluster first")
    } else if to < from {
        bad(
            format!("{found}: the target is older"),
            "relate target-database to a cluster of the same or a newer release",
        )
    } else {
        good(found)
    }
}

pub(super) fn primaries(facts: &Facts) -> Judgement {
    let standbys = faults(facts, |s| match s.server.in_recovery {
        true => vec![(format!("a standby ({})", s.address), String::new())],
        false => Vec::new(),
    });
    judged(
        &standbys,
        "both servers are primaries",
        "check the relation's endpoints after the switchover, and relate to the primary",
    )
}

pub(super) fn rights(facts: &Facts) -> Judgement {
    // A side whose role is no superuser is refused before it is surveyed.
    let [source, target] = both(facts).map(|(side, s)| match &s.server.charmed_owner {
        Some(owner) => {
            format!("{} on the {side} (the login hook's switch to {owner} is taken back)", s.server.current_user)
        }
        None => format!("{} on the {side}", s.server.current_user),
    });
    let lacking = faults(facts, |s| match s.server.superuser {
        true => Vec::new(),
        false => vec![no_superuser(&s.server.session_user, s.server.may_replicate, s.server.may_create)],
    });
    judged(&lacking, format!("superuser as {source}, as {target}"), RIGHTS_CURE)
}

/// Where the right comes from in the charms.
pub(super) const RIGHTS_CURE: &str =
    "with the PostgreSQL charm remove and add the relation instead, which asks for extra-user-roles SUPERUSER";

/// What a role lacks, and the statement that grants it.
pub(super) fn no_superuser(role: &str, may_replicate: bool, may_create: bool) -> (String, String) {
    let may = |right: bool, what: &str| format!("{} {what}", if right { "with" } else { "without" });
    let replication = may(may_replicate, "REPLICATION");
    let create = may(may_create, "CREATE on the database");
    (format!("role {role} is no superuser ({replication}, {create})"), format!("ALTER ROLE {} SUPERUSER", ident(role)))
}

pub(super) fn target_reaches_source(facts: &Facts) -> Judgement {
    let address = &facts.source.survey.address;
    match &facts.forward {
        Ok(()) => good(format!("the target's server reaches {address} with the subscription's own connection")),
        Err(error) => bad(
            error.clone(),
            format!(
                "let the target's server connect to {address} (network policy, pg_hba.conf), or offer the source across models"
            ),
        ),
    }
}

pub(super) fn source_reaches_target(facts: &Facts) -> Judgement {
    let address = &facts.target.survey.address;
    match &facts.backward {
        Ok(()) => good(format!("the source's server reaches {address}")),
        Err(error) => bad(
            error.clone(),
            format!("let the source's server connect to {address}, else there is no way back after the flip"),
        ),
    }
}

pub(super) fn encryption(facts: &Facts) -> Judgement {
    match both(facts).map(|(_, s)| s.server.encrypted) {
        [true, true] => good("both sides are reached through TLS"),
        [false, false] => good("neither side offers TLS"),
        [source, _] => {
            let (with, without) = if source { ("source", "target") } else { ("target", "source") };
            bad(
                format!("the {with} offers TLS, the {without} does not"),
                format!(
                    "integrate the {without}'s PostgreSQL with a certificates provider before the copy: turning TLS on restarts it"
                ),
            )
        }
    }
}

pub(super) fn pending_restart(facts: &Facts) -> Judgement {
    let waiting = faults(facts, |s| match s.server.pending_restart.is_empty() {
        true => Vec::new(),
        false => vec![(format!("{} wait for a restart", s.server.pending_restart.join(", ")), String::new())],
    });
    judged(
        &waiting,
        "no setting waits for a restart",
        "restart that server before the copy: a restart later may cost the slot",
    )
}

/// How many standbys a commit waits for: `FIRST 2 (a, b)`, `ANY 2 (a, b)`, `2 (a, b)`, or a bare list, which is one.
fn awaited(names: &str) -> usize {
    let Some((before, _)) = names.split_once('(') else { return usize::from(!names.trim().is_empty()) };
    let number = before.split_whitespace().last().and_then(|word| word.parse().ok());
    number.unwrap_or(1)
}

pub(super) fn standbys(facts: &Facts) -> Judgement {
    let starved = faults(facts, |s| {
        let names = s.setting("synchronous_standby_names");
        let there = s
            .server
            .standbys
            .iter()
            .filter(|one| matches!(one.sync_state.as_str(), "sync" | "quorum") && one.state == "streaming")
            .count();
        if there >= awaited(names) {
            return Vec::new();
        }
        let list: Vec<String> =
            s.server.standbys.iter().map(|one| format!("{} is {}, {}", one.name, one.state, one.sync_state)).collect();
        let list = if list.is_empty() { "none is there".to_owned() } else { list.join(", ") };
        let found = format!(
            "synchronous_standby_names is '{names}', so commits wait for {} standbys and {there} stream ({list})",
            awaited(names)
        );
        vec![(found, fewer(s, there))]
    });
    let counts = both(facts).map(|(side, s)| format!("{} on the {side}", s.server.standbys.len()));
    judged(
        &starved,
        format!("standbys: {}; no commit waits for a missing one", counts.join(", ")),
        "or bring the standby back (juju add-unit): every commit waits for it",
    )
}

/// Lets commits wait for fewer standbys. Patroni writes the setting itself, and takes back what others put there.
fn fewer(at: &At<'_>, there: usize) -> Remedy {
    match at.origin("synchronous_standby_names") {
        Origin::AlterSystem | Origin::Default => {
            Remedy::Sql("ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()".to_owned())
        }
        _ if there == 0 => Remedy::Command(
            format!("juju add-unit {}", at.addressed()),
            "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()".to_owned(),
        ),
        _ => {
            let option = if at.identity.major() >= 16 { "synchronous-node-count" } else { "synchronous_node_count" };
            Remedy::Command(
                format!("juju config {} {option}={there}", at.addressed()),
                "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()".to_owned(),
            )
        }
    }
}

pub(super) fn clocks(facts: &Facts) -> Judgement {
    let apart = (facts.source.survey.server.clock - facts.target.survey.server.clock).abs();
    if apart <= CLOCK_LIMIT {
        good(format!("the servers' clocks are less than {CLOCK_LIMIT:.0} s apart"))
    } else {
        bad(
            format!("the servers' clocks are {apart:.0} s apart"),
            "repair time synchronisation: sessions and flows expire by the clock",
        )
    }
}

pub(super) fn checksums(facts: &Facts) -> Judgement {
    let off = faults(facts, |s| match s.setting("data_checksums") {
        "on" => Vec::new(),
        state => vec![(format!("data checksums are {state}"), String::new())],
    });
    judged(
        &off,
        "data checksums are on, on both sides",
        "stop that server and run pg_checksums --enable, or know that damaged pages would be read as they are",
    )
}

#[cfg(test)]
mod tests {
    use super::awaited;

    #[test]
    fn the_number_of_standbys_is_read_as_the_server_reads_it() {
        let cases =
            [("", 0), ("a", 1), ("a, b", 1), ("*", 1), ("2 (a,b)", 2), ("FIRST 2 (a, b)", 2), ("any 3(a,b,c)", 3)];
        for (names, expected) in cases {
            assert_eq!(awaited(names), expected, "{names}");
        }
    }
}
