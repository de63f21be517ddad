//! What Charmed PostgreSQL does in its cluster for a relation.

use anyhow::{Context as _, Result};
use peers::cluster::Cluster;

/// The 16 charm refuses longer names.
const LONGEST_NAME_16: usize = 49;

/// A relation user to be.
pub struct User {
    pub name: String,
    pub password: String,
    /// The request's `extra-user-roles`, in lower case.
    pub roles: String,
}

impl User {
    fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.split(',').filter(|role| !role.is_empty())
    }

    fn attributes(&self) -> String {
        let known = ["superuser", "createdb", "createrole"];
        self.roles().filter(|role| known.contains(role)).map(|role| format!(" {}", role.to_uppercase())).collect()
    }
}

fn is_16(cluster: &Cluster) -> bool {
    cluster.major() >= 16
}

/// The blocked status of a request that cannot be served.
pub fn check(cluster: &Cluster, database: &str, user: &User) -> Result<(), String> {
    let reserved = ["databases", "postgres", "template0", "template1"];
    if is_16(cluster) && (database.len() > LONGEST_NAME_16 || reserved.contains(&database)) {
        return Err("invalid database name".to_owned());
    }
    let valid: &[&str] =
        if is_16(cluster) { &["superuser", "createdb"] } else { &["superuser", "createdb", "createrole"] };
    match user.roles().all(|role| valid.contains(&role)) {
        true => Ok(()),
        false => Err("invalid role(s) for extra user roles".to_owned()),
    }
}

/// Makes database and user; may be run again after it failed half-way.
/// `shared` says that another relation has the same database.
pub fn create(cluster: &Cluster, database: &str, user: &User, shared: bool) -> Result<()> {
    let name = ident(&user.name);
    let exists = cluster
        .psql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = {}", literal(database)))?
        == "1";
    let role_exists = cluster
        .psql("postgres", &format!("SELECT count(*) FROM pg_roles WHERE rolname = {}", literal(&user.name)))?
        == "1";
    let verb = if role_exists { "ALTER" } else { "CREATE" };
    cluster.psql(
        "postgres",
        &format!("{verb} ROLE {name} LOGIN PASSWORD {}{}", literal(&user.password), user.attributes()),
    )?;
    if is_16(cluster) {
        create_16(cluster, database, &name, exists)
    } else {
        create_14(cluster, database, &name, exists, shared)
    }
    .with_context(|| format!("cannot prepare the database {database}"))
}

/// 14: the only requester owns everything; beside others a user is granted what exists.
fn create_14(cluster: &Cluster, database: &str, user: &str, exists: bool, shared: bool) -> Result<()> {
    let quoted = ident(database);
    if !exists {
        cluster.psql("postgres", &format!("CREATE DATABASE {quoted}"))?;
    }
    cluster.psql(
        "postgres",
        &format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC; GRANT ALL ON DATABASE {quoted} TO {user}"),
    )?;
    if !shared {
        // The schema's name is not quoted, as in the charm: a name that needs quotes fails the request for good.
        cluster.psql(
            database,
            &format!(
                "ALTER SCHEMA public OWNER TO {user};
                 DO $$
                 DECLARE statement text;
                 BEGIN
                   FOR statement IN
                     SELECT 'ALTER SCHEMA ' || nspname || ' OWNER TO {user}' FROM pg_namespace WHERE {USER_SCHEMA}
                     UNION ALL
                     SELECT format('ALTER TABLE %s.%I OWNER TO {user}', nspname, relname)
                     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND {USER_SCHEMA}
                     UNION ALL
                     SELECT format('ALTER SEQUENCE %s.%I OWNER TO {user}', nspname, relname)
                     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE relkind = 'S' AND {USER_SCHEMA}
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i'))
                     UNION ALL
                     SELECT format('ALTER ROUTINE %s.%I(%s) OWNER TO {user}', nspname, proname,
                                   pg_get_function_identity_arguments(p.oid))
                     FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                     WHERE {USER_SCHEMA}
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
                   LOOP
                     EXECUTE statement;
                   END LOOP;
                 END $$"
            ),
        )?;
        return Ok(());
    }
    cluster.psql(
        database,
        &format!(
            "GRANT USAGE, CREATE ON SCHEMA public TO {user};
             DO $$
             DECLARE name text;
             BEGIN
               FOR name IN SELECT nspname FROM pg_namespace WHERE {USER_SCHEMA} LOOP
                 EXECUTE 'GRANT ALL ON ALL TABLES IN SCHEMA ' || name || ' TO {user}';
                 EXECUTE 'GRANT ALL ON ALL SEQUENCES IN SCHEMA ' || name || ' TO {user}';
                 EXECUTE 'GRANT ALL ON ALL ROUTINES IN SCHEMA ' || name || ' TO {user}';
               END LOOP;
             END $$"
        ),
    )?;
    Ok(())
}

const USER_SCHEMA: &str = "nspname !~ '^pg_' AND nspname <> 'information_schema'";

/// 16: objects belong to a role of the database, which every relation user is switched to at login.
/// The charm does that with a login hook; a setting of user and database has the same effect.
fn create_16(cluster: &Cluster, database: &str, user: &str, exists: bool) -> Result<()> {
    let quoted = ident(database);
    let role = |kind: &str| ident(&format!("charmed_{database}_{kind}"));
    let (owner, admin, dml) = (role("owner"), role("admin"), role("dml"));
    let mut sql = String::new();
    for name in ["charmed_databases_owner".to_owned()]
        .into_iter()
        .chain(["owner", "admin", "dml"].map(|kind| format!("charmed_{database}_{kind}")))
    {
        let there = cluster
            .psql("postgres", &format!("SELECT count(*) FROM pg_roles WHERE rolname = {}", literal(&name)))?
            == "1";
        if !there {
            sql.push_str(&format!("CREATE ROLE {} NOLOGIN;\n", ident(&name)));
        }
    }
    if !exists {
        sql.push_str(&format!("CREATE DATABASE {quoted};\nREVOKE ALL ON DATABASE {quoted} FROM PUBLIC;\n"));
        sql.push_str(&format!("ALTER DATABASE {quoted} OWNER TO charmed_databases_owner;\n"));
    }
    sql.push_str(&format!(
        "GRANT CONNECT ON DATABASE {quoted} TO {owner}, {admin}, {dml};
         GRANT CREATE, TEMPORARY ON DATABASE {quoted} TO {owner};
         REVOKE CREATE ON DATABASE {quoted} FROM charmed_databases_owner;
         GRANT {owner} TO {admin} WITH INHERIT FALSE;
         GRANT {admin} TO {user} WITH INHERIT FALSE;
         GRANT {dml} TO {user};
         ALTER ROLE {user} IN DATABASE {quoted} SET role = {};",
        literal(&format!("charmed_{database}_owner"))
    ));
    cluster.psql("postgres", &sql)?;
    cluster.psql(database, &format!("ALTER SCHEMA public OWNER TO {owner}"))?;
    Ok(())
}

/// Hands everything that a user owns to `operator`, in every database, and drops the user.
pub fn drop_user(cluster: &Cluster, user: &str) -> Result<()> {
    let there =
        cluster.psql("postgres", &format!("SELECT count(*) FROM pg_roles WHERE rolname = {}", literal(user)))? == "1";
    if !there {
        return Ok(());
    }
    let (operator, _) = cluster.superuser();
    let user = ident(user);
    let databases =
        cluster.psql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datallowconn")?;
    for database in databases.lines() {
        cluster.psql(database, &format!("REASSIGN OWNED BY {user} TO {operator}; DROP OWNED BY {user}"))?;
    }
    cluster.psql("postgres", &format!("DROP ROLE {user}"))?;
    Ok(())
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u32, roles: &str) -> User {
        User { name: format!("relation_id_{number}"), password: "secret".into(), roles: roles.into() }
    }

    const CURRENT: &str = "SELECT session_user || ' ' || current_user || ' ' || current_setting('is_superuser')";

    #[test]
    fn on_14_the_only_requester_owns_everything_and_leaves_it_to_operator() {
        let cluster = Cluster::start(14).unwrap();
        let (first, second) = (user(1, "superuser"), user(2, ""));
        create(&cluster, "m_kratos-a", &first, false).unwrap();
        let seen = cluster.psql_as(&first.name, "secret", "m_kratos-a", CURRENT).unwrap();
        assert_eq!(seen, "relation_id_1 relation_id_1 on");
        cluster.psql_as(&first.name, "secret", "m_kratos-a", "CREATE TABLE t (id serial PRIMARY KEY)").unwrap();
        create(&cluster, "m_kratos-a", &second, true).unwrap();
        cluster.psql_as(&second.name, "secret", "m_kratos-a", "INSERT INTO t DEFAULT VALUES").unwrap();
        drop_user(&cluster, &second.name).unwrap();
        drop_user(&cluster, &first.name).unwrap();
        let owners = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
        assert_eq!(cluster.psql("m_kratos-a", owners).unwrap(), "operator");
        assert_eq!(cluster.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname ~ '^relation'").unwrap(), "0");
        let third = user(3, "");
        create(&cluster, "m_kratos-a", &third, false).unwrap();
        assert_eq!(cluster.psql("m_kratos-a", owners).unwrap(), "relation_id_3");
    }

    #[test]
    fn on_16_a_superuser_is_switched_to_the_databases_owner_and_can_step_out() {
        let cluster = Cluster::start(16).unwrap();
        let user = user(7, "superuser");
        create(&cluster, "m_kratos", &user, false).unwrap();
        create(&cluster, "m_kratos", &user, false).unwrap();
        let ask = |database: &str, sql: &str| cluster.psql_as(&user.name, "secret", database, sql).unwrap();
        assert_eq!(ask("m_kratos", CURRENT), "relation_id_7 charmed_m_kratos_owner off");
        let stepped_out = ask("m_kratos", &format!("SET ROLE NONE; {CURRENT}"));
        assert_eq!(stepped_out, "relation_id_7 relation_id_7 on");
        assert_eq!(ask("postgres", CURRENT), "relation_id_7 relation_id_7 on");
        ask("m_kratos", "CREATE TABLE t (id int); CREATE EXTENSION btree_gin");
        let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
        assert_eq!(cluster.psql("m_kratos", owner).unwrap(), "charmed_m_kratos_owner");
        drop_user(&cluster, &user.name).unwrap();
        assert_eq!(cluster.psql("m_kratos", owner).unwrap(), "charmed_m_kratos_owner");
        let long = "m".repeat(50);
        assert_eq!(check(&cluster, &long, &user).unwrap_err(), "invalid database name");
    }
}
