//! The queries behind a survey, each one answer of JSON. What PostgreSQL charms put into every database is left out:
//! the login hook, `set_up_predefined_catalog_roles`, and what older revisions refreshed pg_hba.conf with.

/// $1: names of settings, $2: our prefix. Columns of `pg_database` that only newer releases have
/// are read through `to_jsonb`.
pub(super) const FACTS: &str = r"
SELECT jsonb_build_object(
  'in_recovery', pg_is_in_recovery(),
  'settings', (SELECT jsonb_object_agg(name,
      CASE WHEN context IN ('user', 'superuser') THEN reset_val ELSE setting END) FROM pg_settings WHERE name = ANY ($1)),
  'setting_origins', (SELECT coalesce(jsonb_object_agg(g.name, CASE g.source WHEN 'command line' THEN g.source ELSE f.sourcefile END), '{}')
      FROM pg_settings g LEFT JOIN (SELECT DISTINCT ON (lower(name)) lower(name) AS name, sourcefile FROM pg_file_settings
          WHERE name IS NOT NULL ORDER BY lower(name), seqno DESC) f USING (name)
      WHERE g.name = ANY ($1) AND (g.source = 'command line' OR f.sourcefile IS NOT NULL)),
  'pending_restart', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'session_user', session_user, 'current_user', current_user,
  'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'may_replicate', (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = session_user),
  'may_create', has_database_privilege(d.oid, 'CREATE'),
  'encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype,
  'provider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
  'provider_locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
  'database_bytes', pg_database_size(d.oid),
  'all_databases_bytes', (SELECT sum(pg_database_size(oid))::int8 FROM pg_database),
  'slot_wal_limit_bytes', (SELECT setting::int8 * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  'extensions', (SELECT coalesce(jsonb_object_agg(extname, extversion), '{}') FROM pg_extension),
  'available_extensions', (SELECT coalesce(jsonb_agg(name), '[]') FROM pg_available_extensions),
  'untrusted_extensions', (SELECT coalesce(jsonb_agg(name), '[]') FROM (SELECT name FROM pg_available_extension_versions
      GROUP BY name HAVING bool_and(superuser AND NOT trusted)) u),
  'slots', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', slot_name, 'database', database, 'active', active,
      'slot_type', slot_type, 'wal_status', wal_status, 'held_bytes', coalesce(pg_wal_lsn_diff(w.here, restart_lsn), 0)::int8) ORDER BY slot_name), '[]') FROM pg_replication_slots),
  'senders', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'),
  'workers', (SELECT count(*) FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'walsender',
      'checkpointer', 'background writer', 'walwriter', 'autovacuum launcher', 'autovacuum worker', 'archiver', 'startup',
      'walreceiver', 'logger', 'slotsync worker', 'walsummarizer', 'io worker', 'stats collector')),
  'logical_workers', (SELECT count(*) FROM pg_stat_activity
      WHERE backend_type LIKE 'logical replication%' AND backend_type <> 'logical replication launcher'),
  'subscriptions', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', subname, 'enabled', subenabled)
      ORDER BY subname), '[]') FROM pg_subscription WHERE subdbid = d.oid),
  'publications', (SELECT coalesce(jsonb_agg(pubname ORDER BY pubname), '[]') FROM pg_publication),
  'transactions', (SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.seconds DESC), '[]') FROM (
      SELECT pid, concat(usename, ' (', coalesce(nullif(application_name, ''), backend_type), ')') AS who,
             coalesce(state, backend_type) AS state, extract(epoch FROM clock_timestamp() - xact_start)::int8 AS seconds, datname AS database
      FROM pg_stat_activity
      WHERE xact_start < clock_timestamp() - interval '30 seconds' AND NOT starts_with(application_name, $2)
        AND backend_type <> 'walsender' AND backend_type NOT LIKE 'autovacuum%'
      UNION ALL
      SELECT 0, gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::int8, database
      FROM pg_prepared_xacts) t),
  'wraparound_vacuums', (SELECT coalesce(jsonb_agg(query), '[]') FROM pg_stat_activity
      WHERE datname = d.datname AND backend_type = 'autovacuum worker' AND query LIKE '%(to prevent wraparound)'),
  'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
  'standbys', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', r.application_name, 'state', coalesce(r.state, '?'),
      'sync_state', coalesce(r.sync_state, '?')) ORDER BY r.application_name), '[]')
      FROM pg_stat_replication r
      WHERE NOT starts_with(r.application_name, $2) AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')),
  'event_triggers', (SELECT coalesce(jsonb_agg(evtname ORDER BY evtname), '[]') FROM pg_event_trigger e
      WHERE evtenabled <> 'D' AND NOT starts_with(evtname, $2)
        AND evtname NOT IN ('update_pg_hba_on_create_schema', 'update_pg_hba_on_drop_schema') AND NOT EXISTS (SELECT FROM pg_depend p
        WHERE p.classid = 'pg_event_trigger'::regclass AND p.objid = e.oid AND p.deptype = 'e')),
  'clock', extract(epoch FROM clock_timestamp())
) FROM pg_database d,
  (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS here) w
WHERE d.datname = current_database()";

/// $1: our prefix.
pub(super) const ODDITIES: &str = r"
WITH t AS (
  SELECT c.oid, c.relreplident, c.relrowsecurity, c.relispartition, n.nspname || '.' || c.relname AS name, format('%I.%I', n.nspname, c.relname) AS sql
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\_%'
    AND n.nspname NOT IN ('information_schema', 'login_hook') AND NOT starts_with(n.nspname, $1)
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), columns AS (
  SELECT t.*, a.attname, y.oid AS type, y.typnamespace, y.typtype FROM t JOIN pg_attribute a ON a.attrelid = t.oid
  JOIN pg_type y ON y.oid = a.atttypid WHERE a.attnum > 0 AND NOT a.attisdropped
), found AS (
  SELECT 'inherits' AS kind, t.name AS table, i.inhparent::regclass::text AS detail,
         format('ALTER TABLE %s NO INHERIT %s', t.sql, i.inhparent::regclass) AS cure
  FROM t JOIN pg_inherits i ON i.inhrelid = t.oid WHERE NOT t.relispartition
  UNION ALL SELECT 'row-security', t.name, 'row-level security',
    format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t.sql) FROM t WHERE t.relrowsecurity
  UNION ALL SELECT 'rule', t.name, r.rulename, format('DROP RULE %I ON %s', r.rulename, t.sql)
    FROM t JOIN pg_rewrite r ON r.ev_class = t.oid WHERE r.ev_enabled <> 'D'
  UNION ALL SELECT 'replica-trigger', t.name, g.tgname,
    format('ALTER TABLE %s ENABLE TRIGGER %I', t.sql, g.tgname) FROM t JOIN pg_trigger g ON g.tgrelid = t.oid
    WHERE g.tgenabled IN ('A', 'R') AND NOT g.tgisinternal AND NOT starts_with(g.tgname, $1)
  UNION ALL SELECT 'not-comparable', name, attname, format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', sql) FROM columns
    WHERE relreplident = 'f' AND type IN ('json'::regtype, 'xml'::regtype, 'point'::regtype, 'box'::regtype, 'polygon'::regtype)
  UNION ALL SELECT 'deferrable-key', t.name, x.indexrelid::regclass::text, NULL FROM t JOIN pg_index x ON x.indrelid = t.oid
    WHERE NOT x.indimmediate AND CASE t.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END
  UNION ALL SELECT 'own-type', name, attname || ' ' || format_type(type, NULL)
    || coalesce((SELECT format(' (%s)', string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)) FROM pg_enum e
                 WHERE e.enumtypid = type HAVING count(*) > 0), ''), NULL FROM columns
    WHERE typnamespace <> 'pg_catalog'::regnamespace
)
SELECT coalesce(jsonb_agg(to_jsonb(found) ORDER BY found.table, kind, detail), '[]') FROM found";

/// What surrounds a migration. $1: our prefix.
pub(super) const SURROUNDINGS: &str = r"
WITH c AS (
  SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS sql
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'login_hook')
    AND NOT starts_with(n.nspname, $1) AND NOT starts_with(c.relname, $1)
    AND NOT EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_class'::regclass AND p.objid = c.oid AND p.deptype = 'e')
), t AS (SELECT * FROM c WHERE relkind IN ('r', 'p'))
SELECT jsonb_build_object(
  'kept_settings', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', k.name, 'role', r.rolname, 'value', k.value,
      'reset', CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I RESET %s', d.datname, k.name)
                    WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I RESET %s', r.rolname, k.name)
                    ELSE format('ALTER ROLE %I IN DATABASE %I RESET %s', r.rolname, d.datname, k.name) END)
      ORDER BY k.name, r.rolname), '[]')
      FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) u(one),
           LATERAL (SELECT split_part(u.one, '=', 1) AS name, substr(u.one, strpos(u.one, '=') + 1) AS value) k
      WHERE s.setdatabase IN (0, d.oid) AND NOT starts_with(u.one, $1)),
  'connected_roles', (SELECT coalesce(jsonb_agg(DISTINCT usename), '[]') FROM pg_stat_activity
      WHERE datid = d.oid AND backend_type = 'client backend' AND usename IS NOT NULL AND NOT starts_with(application_name, $1)),
  'charmed_owner', (SELECT rolname FROM pg_roles WHERE rolname = 'charmed_' || d.datname || '_owner'),
  'charmed_admins', (SELECT coalesce(jsonb_agg(DISTINCT pg_get_userbyid(m.member)), '[]') FROM pg_auth_members m
      JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname IN ('charmed_' || d.datname || '_admin', 'charmed_admin')),
  'owners', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', r.rolname, 'superuser', r.rolsuper,
      'may_create', has_database_privilege(r.oid, d.oid, 'CREATE'),
      'shut_out', (SELECT coalesce(jsonb_agg(n.nspname ORDER BY n.nspname), '[]') FROM pg_namespace n
          WHERE n.oid IN (SELECT relnamespace FROM t) AND NOT has_schema_privilege(r.oid, n.oid, 'CREATE'))) ORDER BY r.rolname), '[]')
      FROM pg_roles r WHERE r.oid IN (SELECT relowner FROM t) OR r.rolname = 'charmed_' || d.datname || '_owner'),
  'sequences', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', sql, 'owner', pg_get_userbyid(relowner)) ORDER BY sql), '[]')
      FROM c WHERE relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_class'::regclass
        AND p.objid = c.oid AND p.refobjsubid > 0 AND p.deptype IN ('a', 'i'))),
  'encrypted', coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
  'started', extract(epoch FROM pg_postmaster_start_time())::text,
  'wal_bytes', (SELECT coalesce(sum(size), 0)::int8 FROM pg_ls_waldir()),
  'wal_bytes_per_second', (SELECT wal_bytes / greatest(1, extract(epoch FROM clock_timestamp()
      - coalesce(stats_reset, pg_postmaster_start_time()))) FROM pg_stat_wal),
  'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
  'origins', (SELECT count(*) FROM pg_replication_origin_status),
  'relations', (SELECT count(*) + 2 * count(nullif(reltoastrelid, 0)) FROM c WHERE relkind IN ('r', 'i')),
  'archiver', (SELECT jsonb_build_object('archived', archived_count, 'failing_on',
      CASE WHEN last_archived_time IS NULL OR last_failed_time > last_archived_time THEN last_failed_wal END)
      FROM pg_stat_archiver WHERE current_setting('archive_mode') <> 'off'),
  'backups', (SELECT coalesce(jsonb_agg(b.what ORDER BY b.what), '[]') FROM (
      SELECT format('a base backup (pid %s, %s)', pid, phase) AS what FROM pg_stat_progress_basebackup
      UNION ALL SELECT format('%s (pid %s)', application_name, pid) FROM pg_stat_activity
      WHERE application_name ILIKE 'pgbackrest%backup%') b),
  'oldest', (SELECT jsonb_build_object('table', sql, 'age', age) FROM (
      SELECT t.sql, greatest(age(t.relfrozenxid), coalesce(age(o.relfrozenxid), 0)) AS age
      FROM t LEFT JOIN pg_class o ON o.oid = t.reltoastrelid WHERE t.relkind = 'r' ORDER BY 2 DESC, 1 LIMIT 1) a),
  'invalid_indexes', (SELECT coalesce(jsonb_agg(x.indexrelid::regclass::text ORDER BY 1), '[]')
      FROM pg_index x JOIN t ON t.oid = x.indrelid WHERE NOT x.indisvalid AND t.relkind = 'r'),
  'constraints', (SELECT coalesce(jsonb_agg(k.text), '[]') FROM (
      SELECT t.sql || ': ' || pg_get_constraintdef(k.oid) AS text FROM pg_constraint k JOIN t ON t.oid = k.conrelid
      WHERE k.contype IN ('c', 'f', 'u', 'x')
      UNION SELECT t.sql || ': unique index ' || substring(pg_get_indexdef(x.indexrelid) FROM ' (USING .*)$')
      FROM pg_index x JOIN t ON t.oid = x.indrelid
      WHERE x.indisunique AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))) k),
  'objects', (SELECT coalesce(jsonb_agg(o.text), '[]') FROM (
      SELECT CASE relkind WHEN 'v' THEN 'view ' ELSE 'sequence ' END || sql AS text FROM c WHERE relkind IN ('v', 'S')
      UNION SELECT format('trigger %I of table %s', g.tgname, t.sql) FROM pg_trigger g JOIN t ON t.oid = g.tgrelid
      WHERE NOT g.tgisinternal AND NOT starts_with(g.tgname, $1)
      UNION SELECT format('function %s', p.oid::regprocedure) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'login_hook')
        AND NOT starts_with(n.nspname, $1) AND NOT starts_with(p.proname, $1)
        AND NOT (n.nspname = 'public' AND p.pronargs = 0 AND p.proname IN ('update_pg_hba', 'set_up_predefined_catalog_roles'))
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')) o)
) FROM pg_database d WHERE d.datname = current_database()";

/// Collations whose library changed since indexes were built with them. $1: our prefix. The first query is for
/// 15 and later, which note the version of a database's own collation too.
pub(super) const COLLATIONS: [&str; 2] = [
    "SELECT format('database %I', datname), format('ALTER DATABASE %I REFRESH COLLATION VERSION', datname)
     FROM pg_database WHERE datname = current_database() AND datcollversion IS NOT NULL
       AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)",
    r"SELECT DISTINCT format('collation %I.%I', cn.nspname, o.collname),
             format('ALTER COLLATION %I.%I REFRESH VERSION', cn.nspname, o.collname)
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_collation o ON o.oid = a.attcollation JOIN pg_namespace cn ON cn.oid = o.collnamespace
     WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
       AND NOT starts_with(n.nspname, $1) AND o.collversion IS NOT NULL
       AND o.collversion IS DISTINCT FROM pg_collation_actual_version(o.oid)",
];
