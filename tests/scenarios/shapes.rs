//! What a database may hold beside Kratos' own tables, whatever it is called and however big it is: the whole migration
//! takes it along.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;
use std::time::Instant;

/// Every name is hostile to somebody: quotes, a line's end, a percent sign, a backslash, capitals, 63 bytes, not ASCII.
/// A table stays empty; the columns are generated, of types of the application's own, and `json`, which has no `=`.
const HOSTILE: &str = r#"
    CREATE SCHEMA "Ünïcode ""schema'";
    CREATE TYPE "Ünïcode ""schema'"."Mo""od" AS ENUM ('it''s', 'a\b', '100%');
    CREATE DOMAIN "Ünïcode ""schema'"."Sh%rt" AS varchar(10) CHECK (VALUE <> '');
    CREATE TYPE "Ünïcode ""schema'".pair AS (a int, b text);
    CREATE TABLE "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" ("ID" bigint GENERATED ALWAYS AS IDENTITY, "select" "Ünïcode ""schema'"."Mo""od",
        "per%cent" "Ünïcode ""schema'"."Sh%rt", "back\slash" json, "twice
two" bigint GENERATED ALWAYS AS ("ID" * 2) STORED, p "Ünïcode ""schema'".pair[],
        CONSTRAINT "key ""of"" 'it' %" PRIMARY KEY ("ID"), CONSTRAINT "uniq\ue" UNIQUE ("per%cent"));
    CREATE INDEX "ïndex ""%s"" \d" ON "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" (("per%cent" || '''"\'));
    CREATE TABLE "Ünïcode ""schema'"."éééééééééééééééééééééééééééééé123" ("ééééééééééééééééééééééééééééééé" bigint
        CONSTRAINT "ëëëëëëëëëëëëëëëëëëëëëëëëëëëëëëë" PRIMARY KEY REFERENCES "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" ("ID"));
    CREATE TABLE public.nothing (id uuid PRIMARY KEY);
"#;

/// Thirty rows from `$from` on.
fn hostile_rows(from: u32) -> String {
    format!(
        r#"
    INSERT INTO "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" ("select", "per%cent", "back\slash", p)
        SELECT (ARRAY['it''s', 'a\b', '100%']::"Ünïcode ""schema'"."Mo""od"[])[1 + i % 3], 'n' || i, '{{"k" : 1, "k":2}}',
               ARRAY[(i, E'tab\t"\\')::"Ünïcode ""schema'".pair, NULL] FROM generate_series({from}, {from} + 29) i;
    INSERT INTO "Ünïcode ""schema'"."éééééééééééééééééééééééééééééé123" SELECT i FROM generate_series({from}, {from} + 29) i;"#
    )
}

const HOSTILE_CHANGES: &str = r#"
    UPDATE "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" SET "per%cent" = 'changed', "select" = NULL WHERE "ID" = 7;
    DELETE FROM "Ünïcode ""schema'"."éééééééééééééééééééééééééééééé123" WHERE "ééééééééééééééééééééééééééééééé" < 5;
    DELETE FROM "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" WHERE "ID" < 5;"#;

/// The rows of every table outside Kratos' own and ours, as digests.
const OTHER_ROWS: &str = "
    SET timezone = UTC;
    SELECT format('%I.%I', n.nspname, c.relname),
           query_to_xml(format('SELECT count(*), md5(string_agg(md5(t::text), '''' ORDER BY md5(t::text))) AS sum FROM %I.%I t',
                               n.nspname, c.relname), true, true, '')::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND (c.relname ~ '^(nothing|big|many|t[0-9]+)$' OR n.nspname ~ 'schema''$') ORDER BY 1";

/// Has the same tables on both sides, owned as the application's own, and rows on the source.
fn add(stage: &Stage, schema: &str, rows: &str) {
    let source = (&stage.source, stage.source_place.database());
    let target = (&stage.target, stage.target_place.database());
    for (cluster, database) in [&source, &target] {
        let owner = cluster
            .psql(database, "SELECT quote_ident(tableowner) FROM pg_tables WHERE tablename = 'identities'")
            .unwrap();
        cluster.psql("postgres", &format!("GRANT CREATE ON DATABASE \"{database}\" TO {owner}")).unwrap();
        cluster.psql(database, &format!("SET ROLE {}; {schema}", owner.trim())).unwrap();
    }
    source.0.psql(&source.1, rows).unwrap();
}

fn assert_same_rows(stage: &Stage) {
    let source = stage.source.psql(&stage.source_place.database(), OTHER_ROWS).unwrap();
    let target = stage.target.psql(&stage.target_place.database(), OTHER_ROWS).unwrap();
    assert!(!source.is_empty());
    rig::assert_same("the migration", &source, &target);
}

/// From the replication's begin to the end, with changes of the rows while following.
fn carry(stage: &Stage, changes: &str, wait: &str) {
    let model = &stage.model;
    expect(model, "preflight", &[], "done");
    rig::refresh(stage);
    let began = Instant::now();
    let copied = expect(model, "replicate", &[("wait", wait)], "done");
    eprintln!("{} bytes copied in {:.1} s", copied.result("bytes-copied"), began.elapsed().as_secs_f64());
    stage.source.psql(&stage.source_place.database(), changes).unwrap();
    rig::migrate(stage);
    expect(model, "cut-over", &[("wait", wait)], "done");
    assert_same_rows(stage);
    let verified = || run(model, "show", &[]).result("rows-different");
    model.wait_until("the comparison", 10 * rig::SOON, |_| verified() == "0").unwrap();
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
}

#[test]
fn names_and_types_that_are_hostile() {
    let stage = rig::stage("hostile", 1);
    add(&stage, HOSTILE, &hostile_rows(1));
    carry(&stage, &(hostile_rows(31) + HOSTILE_CHANGES), "120");
    rig::close(&stage, End::Both);
    // The sequence came along: what it gives next is free.
    let next = r#"INSERT INTO "Ünïcode ""schema'"."line
end 100%s \n $1 'x' ""y""" ("select") VALUES (NULL) RETURNING "ID" > 60"#;
    assert!(stage.target.psql(&stage.target_place.database(), next).unwrap().starts_with('t'));
}

/// A fresh platform that nobody signed up to, in databases of another encoding.
#[test]
fn an_empty_database_that_is_not_utf_8() {
    let options = emulator::stage::StageOptions { identities: 0, encoding: Some("LATIN1"), ..rig::options("latin") };
    let stage = super::closing::Played::new(Stage::new(options).unwrap());
    rig::deploy(&stage, 1);
    add(&stage, "CREATE TABLE public.nothing (\"ÿ é\" text PRIMARY KEY)", "");
    carry(&stage, "INSERT INTO public.nothing VALUES ('Zoë'), ('½ Çelik')", "120");
    rig::close(&stage, End::Both);
    let there = "SELECT string_agg(\"ÿ é\", ' ' ORDER BY 1) FROM public.nothing WHERE getdatabaseencoding() = 'LATIN1'";
    assert_eq!(stage.target.psql(&stage.target_place.database(), there).unwrap(), "Zoë ½ Çelik");
}

#[test]
#[ignore = "slow: make test-all"]
fn a_thousand_tables() {
    let schema = "DO $$ BEGIN FOR i IN 1..1000 LOOP
        EXECUTE format('CREATE TABLE public.t%s (id int PRIMARY KEY, word text, parent int)', i);
        EXECUTE format('CREATE INDEX ON public.t%s (word)', i);
        IF i > 1 THEN
            EXECUTE format('ALTER TABLE public.t%s ADD FOREIGN KEY (parent) REFERENCES public.t%s', i, i - 1);
        END IF; END LOOP; END $$";
    let rows = |from: u32| {
        format!(
            "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format(
             'INSERT INTO public.t%s SELECT n, md5(n::text), n FROM generate_series({from}, {from} + 2) n', i);
             END LOOP; END $$"
        )
    };
    let stage = rig::stage("thousand", 1);
    for cluster in [&stage.source, &stage.target] {
        cluster.psql("postgres", "ALTER SYSTEM SET max_locks_per_transaction = 1024").unwrap();
        cluster.restart(peers::cluster::Mode::Fast).unwrap();
    }
    add(&stage, schema, &rows(1));
    carry(&stage, &rows(4), "900");
    // A neighbour's own hook may have met its server in the restart.
    rig::close_but_one_hook(&stage, End::Both);
}

#[test]
#[ignore = "slow: make test-all"]
fn ten_million_rows_and_rows_of_a_hundred_megabytes() {
    let schema = "CREATE TABLE public.many (id bigint PRIMARY KEY, word text, number int);
        CREATE INDEX ON public.many (word);
        CREATE TABLE public.big (id int PRIMARY KEY, body text);
        ALTER TABLE public.big ALTER body SET STORAGE EXTERNAL";
    let rows = "INSERT INTO public.many SELECT i, 'word ' || i, i % 1000 FROM generate_series(1, 10000000) i;
        INSERT INTO public.big SELECT i, repeat(md5(i::text), 100 * 1024 * 1024 / 32) FROM generate_series(1, 8) i";
    let changes = "UPDATE public.many SET number = -1 WHERE id % 100000 = 0; DELETE FROM public.many WHERE id % 1000 = 1;
        UPDATE public.big SET id = 100 WHERE id = 1; INSERT INTO public.big SELECT 200, body FROM public.big WHERE id = 2";
    let stage = rig::stage("big", 1);
    add(&stage, schema, rows);
    carry(&stage, changes, "1800");
    rig::close(&stage, End::Both);
}
