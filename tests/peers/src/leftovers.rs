//! What the charm left behind on a cluster: everything that carries its prefix, wherever names can be.

use crate::cluster::Cluster;

/// The catalogs that all databases share.
const SHARED: &str = "
SELECT 'replication slot ' || slot_name FROM pg_replication_slots WHERE slot_name LIKE 'identity\\_migration%'
UNION ALL
SELECT format('subscription %s in %s', subname, datname)
FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE subname LIKE 'identity\\_migration%'
UNION ALL
SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'identity\\_migration%'
UNION ALL
SELECT 'replication origin ' || roname FROM pg_replication_origin
WHERE roname LIKE 'identity\\_migration%'
   OR roname ~ '^pg_[0-9]+' AND NOT EXISTS (SELECT FROM pg_subscription s WHERE roname ~ ('^pg_' || s.oid || '(_|$)'))
UNION ALL
SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE gid LIKE 'identity\\_migration%'
UNION ALL
SELECT 'database ' || datname FROM pg_database WHERE datname LIKE 'identity\\_migration%'
ORDER BY 1";

/// The catalogs of one database.
const LOCAL: &str = "
SELECT 'publication ' || pubname FROM pg_publication WHERE pubname LIKE 'identity\\_migration%'
UNION ALL
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'identity\\_migration%'
UNION ALL
SELECT format('trigger %s on %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgname LIKE 'identity\\_migration%'
UNION ALL
SELECT 'event trigger ' || evtname FROM pg_event_trigger WHERE evtname LIKE 'identity\\_migration%'
UNION ALL
SELECT 'function ' || oid::regprocedure FROM pg_proc
WHERE proname LIKE 'identity\\_migration%' OR pronamespace::regnamespace::text LIKE 'identity\\_migration%'
UNION ALL
SELECT format('relation %s', oid::regclass) FROM pg_class
WHERE relname LIKE 'identity\\_migration%' OR relnamespace::regnamespace::text LIKE 'identity\\_migration%'
UNION ALL
SELECT format('constraint %s on %s', conname, conrelid::regclass) FROM pg_constraint
WHERE conname LIKE 'identity\\_migration%'
UNION ALL
SELECT format('foreign server %s', srvname) FROM pg_foreign_server WHERE srvname LIKE 'identity\\_migration%'
ORDER BY 1";

/// Lists, one sentence each, every object of the charm on the cluster, in all databases that can be connected to.
/// `except` names databases that are not looked into, such as the charm's own, where its journal lives.
pub fn left_behind(cluster: &Cluster, except: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut found: Vec<String> = lines(&cluster.psql("postgres", SHARED)?).map(str::to_owned).collect();
    let databases = cluster.psql("postgres", "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")?;
    for database in lines(&databases).filter(|database| !except.contains(database)) {
        found.extend(lines(&cluster.psql(database, LOCAL)?).map(|object| format!("{object} in {database}")));
    }
    Ok(found)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}
