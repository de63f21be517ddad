//! What the charm knows about Kratos, against real clusters and a server that answers as recorded.

use crate::catalogs::kratos_schema;
use coordinator::apps::fills::{install, remove};
use coordinator::apps::{APPS, Health, KRATOS, Readable, Server, earned_from, pair};
use peers::cluster::Cluster;
use peers::wait_for;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

/// Rows as the old release writes them: parents, then a credential, its identifier, a session, its device.
const OLD_ROWS: &str = "
INSERT INTO networks VALUES ('00000000-0000-0000-0000-000000000001', now(), now());
INSERT INTO identities (id, schema_id, traits, created_at, updated_at, nid)
  SELECT ('00000000-0000-0000-0001-00000000000' || n)::uuid, 'default', '{}', now(), now(), '00000000-0000-0000-0000-000000000001'
  FROM generate_series(1, 2) n;
INSERT INTO identity_credentials (id, config, identity_credential_type_id, identity_id, created_at, updated_at, nid)
  SELECT '00000000-0000-0000-0002-000000000001', '{}', id, '00000000-0000-0000-0001-000000000001', now(), now(),
         '00000000-0000-0000-0000-000000000001'
  FROM identity_credential_types WHERE name = 'password';
INSERT INTO identity_credential_identifiers
  (id, identifier, identity_credential_id, created_at, updated_at, nid, identity_credential_type_id)
  SELECT '00000000-0000-0000-0003-000000000001', 'one@example.org', id, now(), now(), nid, identity_credential_type_id
  FROM identity_credentials;
INSERT INTO sessions (id, expires_at, authenticated_at, identity_id, created_at, updated_at, token, nid, logout_token, authentication_methods)
  VALUES ('00000000-0000-0000-0004-000000000001', now(), now(), '00000000-0000-0000-0001-000000000001', now(), now(),
          'token', '00000000-0000-0000-0000-000000000001', 'logout', '[]');
INSERT INTO session_devices (id, nid, session_id, created_at, updated_at)
  VALUES ('00000000-0000-0000-0005-000000000001', '00000000-0000-0000-0000-000000000001',
          '00000000-0000-0000-0004-000000000001', now(), now());";

const FOLLOWED: &str =
    "networks, identities, identity_credentials, identity_credential_identifiers, sessions, session_devices";

#[test]
fn the_document_lists_every_road() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/releases.md")).unwrap();
    let rows: Vec<&str> =
        document.lines().filter(|line| line.starts_with("| Kratos") || line.starts_with("| Hydra")).collect();
    let roads: Vec<String> = APPS
        .iter()
        .flat_map(|app| app.releases().into_iter().map(move |release| (app, release.name)))
        .flat_map(|(app, from)| earned_from(app, &from).into_iter().map(move |road| (app, from.clone(), road.to)))
        .map(|(app, from, to)| format!("| {} {from} | {to} |", app.title))
        .collect();
    let unlisted: Vec<&String> = roads.iter().filter(|road| !rows.iter().any(|row| row.starts_with(*road))).collect();
    assert_eq!((unlisted, rows.len()), (vec![], roads.len()));
}

#[test]
fn late_rows_of_25_4_are_filled_on_a_26_2_target_and_an_update_refreshes_them() {
    let (source, target) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    source.create_database("kratos").unwrap();
    target.create_database("kratos").unwrap();
    source.psql("kratos", &kratos_schema("25.4.0")).unwrap();
    target.psql("kratos", &kratos_schema("26.2.0")).unwrap();
    let fills = pair(&KRATOS, "v25.4.0", "v26.2.0").unwrap().fills;
    let filled = |table: &str| {
        target
            .psql("kratos", &format!("SELECT coalesce(string_agg(identity_id::text, ','), '-') FROM {table}"))
            .unwrap()
    };
    let first = "00000000-0000-0000-0001-000000000001";
    let second = "00000000-0000-0000-0001-000000000002";
    let becomes = |table: &'static str, expected: &str| {
        wait_for(table, Duration::from_secs(30), || {
            let seen = filled(table);
            if seen.trim() == expected { Ok(()) } else { Err(format!("{seen} {}", target.log_tail(5))) }
        })
        .unwrap();
    };

    // Without fills the new schema refuses the old release's rows.
    source.psql("kratos", &format!("CREATE PUBLICATION follow FOR TABLE {FOLLOWED}")).unwrap();
    let conninfo = source.uri("kratos");
    target
        .psql(
            "kratos",
            &format!("CREATE SUBSCRIPTION follow CONNECTION '{conninfo}' PUBLICATION follow WITH (copy_data = false)"),
        )
        .unwrap();
    source.psql("kratos", OLD_ROWS).unwrap();
    wait_for("a refusal", Duration::from_secs(30), || {
        let log = target.log_tail(30);
        if log.contains("null value in column \"identity_id\"") { Ok(()) } else { Err(log) }
    })
    .unwrap();
    assert_eq!(filled("session_devices").trim(), "-");

    // With them everything arrives, complete; installing twice changes nothing.
    for statement in install(fills, "public").iter().chain(&install(fills, "public")) {
        target.psql("kratos", statement).unwrap();
    }
    becomes("identity_credential_identifiers", first);
    becomes("session_devices", first);

    // A parent moves to another identity, then the child is written again: the fill follows.
    source
        .psql(
            "kratos",
            &format!(
                "UPDATE sessions SET identity_id = '{second}'; UPDATE identity_credentials SET identity_id = '{second}';
                 UPDATE session_devices SET updated_at = now(); UPDATE identity_credential_identifiers SET updated_at = now();"
            ),
        )
        .unwrap();
    becomes("identity_credential_identifiers", second);
    becomes("session_devices", second);
    let violations = |fill: usize| target.psql("kratos", &fills[fill].violations_sql("public")).unwrap();
    assert_eq!([violations(0).trim(), violations(1).trim()], ["0", "0"]);

    // The rule is a rule: a wrong value is counted. The application's own writes are left alone.
    target.psql("kratos", &format!("UPDATE session_devices SET identity_id = '{first}'")).unwrap();
    assert_eq!([violations(0).trim(), violations(1).trim()], ["1", "0"]);

    for statement in remove(fills, "public").iter().chain(&remove(fills, "public")) {
        target.psql("kratos", statement).unwrap();
    }
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'identity_migration%')
                     + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'identity_migration'::regnamespace)";
    assert_eq!(target.psql("kratos", left).unwrap().trim(), "0");
    target.psql("kratos", "DROP SUBSCRIPTION follow").unwrap();
}

/// A code as 1.3.1 writes it: the kind of its address is padded to 36 letters there.
fn padded_code(number: u8) -> String {
    let id = format!("00000000-0000-0000-0000-00000000000{number}");
    format!(
        "SET session_replication_role = replica;
         INSERT INTO identity_login_codes (id, code, address, address_type, expires_at, issued_at, selfservice_login_flow_id,
                                           identity_id, created_at, updated_at, nid)
         VALUES ('{id}', 'code {number}', 'one@example.org', 'email', now(), now(), '{id}', '{id}', now(), now(), '{id}')"
    )
}

#[test]
fn codes_of_1_3_1_arrive_padded_on_a_25_4_target_are_counted_and_with_the_fill_arrive_trimmed() {
    let (source, target) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    for (cluster, release) in [(&source, "1.3.1"), (&target, "25.4.0")] {
        cluster.create_database("kratos").unwrap();
        cluster.psql("kratos", &kratos_schema(release)).unwrap();
    }
    source.psql("kratos", "CREATE PUBLICATION follow FOR TABLE identity_login_codes").unwrap();
    let conninfo = source.uri("kratos");
    let subscribe =
        format!("CREATE SUBSCRIPTION follow CONNECTION '{conninfo}' PUBLICATION follow WITH (copy_data = false)");
    target.psql("kratos", &subscribe).unwrap();
    let fills = pair(&KRATOS, "1.3.1", "25.4.0").unwrap().fills;
    let fill = fills.iter().find(|fill| fill.table == "identity_login_codes").unwrap();
    let arrives = |number: u8, length: &str| {
        source.psql("kratos", &padded_code(number)).unwrap();
        let sql = format!("SELECT length(address_type) FROM identity_login_codes WHERE code = 'code {number}'");
        wait_for("the code to arrive", Duration::from_secs(30), || {
            let seen = target.psql("kratos", &sql).unwrap();
            if seen == length { Ok(()) } else { Err(format!("{seen} {}", target.log_tail(5))) }
        })
        .unwrap();
    };
    let wrong = || target.psql("kratos", &fill.violations_sql("public")).unwrap();
    // As it is, no server would find it.
    arrives(1, "36");
    let found = "SELECT count(*) FROM identity_login_codes WHERE address_type = 'email'";
    assert_eq!((target.psql("kratos", found).unwrap().as_str(), wrong().as_str()), ("0", "1"));
    for statement in install(fills, "public") {
        target.psql("kratos", &statement).unwrap();
    }
    arrives(2, "5");
    assert_eq!((target.psql("kratos", found).unwrap().as_str(), wrong().as_str()), ("1", "1"));
    // Written again, the first one is right too.
    source.psql("kratos", "UPDATE identity_login_codes SET updated_at = now()").unwrap();
    wait_for("no code to be padded", Duration::from_secs(30), || {
        let count = wrong();
        if count == "0" { Ok(()) } else { Err(count) }
    })
    .unwrap();
    target.psql("kratos", "DROP SUBSCRIPTION follow").unwrap();
}

/// A server that gives each path its recorded status, headers and body, until the test ends.
fn recorded(answers: &'static [(&'static str, &'static str, &'static str)]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut request = String::new();
            let mut reader = BufReader::new(&stream);
            while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let known = answers.iter().find(|(known, _, _)| *known == path);
            let (_, head, body) = known.unwrap_or(&("", "404 Not Found", "{}"));
            let _ =
                write!(&stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
    });
    Server { app: &KRATOS, admin_endpoint: format!("{address}/"), public_endpoint: address }
}

#[test]
fn a_ready_kratos_answers_directly_or_by_redirect() {
    let new = recorded(&[
        ("/admin/health/ready", "200 OK", r#"{"status":"ok"}"#),
        ("/admin/version", "200 OK", r#"{"version":"v26.2.0"}"#),
        ("/schemas", "200 OK", r#"[{"id":"social_user_v0","schema":{}},{"id":"admin_v0","schema":{}}]"#),
        ("/admin/identities/1", "200 OK", r#"{"id":"1","schema_id":"admin_v0","traits":{}}"#),
        (
            "/admin/identities/2",
            "500 Internal Server Error",
            r#"{"error":{"code":500,"message":"An internal server error occurred","reason":"Unable to find JSON Schema ID: gone"}}"#,
        ),
    ]);
    assert_eq!(new.health_blocking(), Health::Ready { version: "26.2.0".to_owned() });
    let schemas = new.schemas_blocking().unwrap();
    assert_eq!(schemas.keys().collect::<Vec<_>>(), ["admin_v0", "social_user_v0"]);
    assert_eq!(new.readable_blocking("1").unwrap(), Readable::Yes);
    assert_eq!(new.readable_blocking("3").unwrap(), Readable::Missing);
    let failed = new.readable_blocking("2").unwrap();
    assert!(
        matches!(&failed, Readable::Failed { status: 500, message } if message.contains("Schema ID")),
        "{failed:?}"
    );

    let short = recorded(&[
        ("/health/ready", "307 Temporary Redirect\r\nLocation: /there", ""),
        ("/there", "200 OK", r#"{"status":"ok"}"#),
        ("/version", "200 OK", r#"{"version":"v2.2.0"}"#),
    ]);
    assert_eq!(short.health_blocking(), Health::Ready { version: "2.2.0".to_owned() });
}

#[test]
fn not_ready_is_told_apart_from_down() {
    let pending = recorded(&[(
        "/admin/health/ready",
        "503 Service Unavailable",
        r#"{"errors":{"migrations":"migrations have not yet been fully applied"}}"#,
    )]);
    let health = pending.health_blocking();
    assert!(
        matches!(&health, Health::NotReady { pending } if pending.contains("not yet been fully applied")),
        "{health}"
    );

    let stranger = recorded(&[("/admin/health/ready", "200 OK", "<html>")]);
    assert!(matches!(stranger.health_blocking(), Health::NotReady { .. }));

    let port = peers::ports::Port::reserve().unwrap();
    let nobody = format!("http://127.0.0.1:{}", port.number());
    let down = Server { app: &KRATOS, admin_endpoint: nobody.clone(), public_endpoint: nobody };
    assert!(matches!(down.health_blocking(), Health::Down(_)), "{}", down.health_blocking());
    assert!(down.schemas_blocking().unwrap_err().to_string().starts_with("cannot ask http://127.0.0.1"));
}
