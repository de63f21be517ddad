-- Foreign keys hold by construction, and checking them row by row would take most of the time.
SET session_replication_role = replica;
SET synchronous_commit = off;

CREATE TEMPORARY TABLE numbered AS
SELECT n,
       md5('identity ' || n)::uuid AS id,
       md5('credentials ' || n)::uuid AS credentials_id,
       (SELECT networks.id FROM networks ORDER BY created_at LIMIT 1) AS nid,
       timestamp '2026-01-02' + n * interval '1 second' AS at,
       'person-' || n || '@volume.example' AS email
FROM generate_series(1, :identities) AS n;

-- Names with everything a text format may trip over; metadata with NULL, nesting, long numbers and escapes.
INSERT INTO identities (id, schema_id, traits, created_at, updated_at, nid, state, state_changed_at, metadata_public)
SELECT id, 'default',
       jsonb_build_object('email', email, 'name', CASE n % 7
           WHEN 0 THEN E'tab\tnewline\nbackslash\\N quote''"'
           WHEN 1 THEN 'Zoë Ångström 漢字 🔑'
           WHEN 2 THEN ''
           ELSE 'Person ' || n END),
       at, at, nid, 'active', at,
       CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN 'null'::jsonb
           WHEN 2 THEN jsonb_build_object('long', 12345678901234567890.123456789 + n, 'list', jsonb_build_array(n, NULL, ''))
           ELSE '{}'::jsonb END
FROM numbered;

INSERT INTO identity_credentials (id, config, identity_credential_type_id, identity_id, created_at, updated_at, nid)
SELECT credentials_id,
       '{"hashed_password": "$2a$04$tN6q3lZo.UwotA0OzXvpOO3gLvfuUEXd5Ffm8txYywaUYS2xJZtqi"}'::jsonb,
       (SELECT identity_credential_types.id FROM identity_credential_types WHERE name = 'password'),
       id, at, at, nid
FROM numbered;

INSERT INTO identity_credential_identifiers
    (id, identifier, identity_credential_id, created_at, updated_at, nid, identity_credential_type_id)
SELECT md5('identifier ' || n)::uuid, email, credentials_id, at, at, nid,
       (SELECT identity_credential_types.id FROM identity_credential_types WHERE name = 'password')
FROM numbered;

INSERT INTO identity_verifiable_addresses
    (id, status, via, verified, value, verified_at, identity_id, created_at, updated_at, nid)
SELECT md5('verifiable ' || n)::uuid, CASE WHEN n % 3 = 0 THEN 'pending' ELSE 'completed' END, 'email', n % 3 <> 0,
       email, CASE WHEN n % 3 = 0 THEN NULL ELSE at END, id, at, at, nid
FROM numbered;

INSERT INTO identity_recovery_addresses (id, via, value, identity_id, created_at, updated_at, nid)
SELECT md5('recovery ' || n)::uuid, 'email', email, id, at, at, nid
FROM numbered;
