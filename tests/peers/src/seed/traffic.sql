SET session_replication_role = replica;
SET synchronous_commit = off;

CREATE TEMPORARY TABLE numbered AS
SELECT n,
       md5('session ' || n)::uuid AS session_id,
       (SELECT networks.id FROM networks ORDER BY created_at LIMIT 1) AS nid,
       timestamp '2026-01-02' + n * interval '1 second' AS at
FROM generate_series(1, :identities) AS n;

INSERT INTO sessions (id, issued_at, expires_at, authenticated_at, identity_id, created_at, updated_at, token, active,
                      nid, logout_token, aal, authentication_methods)
SELECT session_id, at, '2099-01-01', at, md5('identity ' || n)::uuid, at, at, 'ory_st_' || md5('session token ' || n),
       true, nid, 'ory_lo_' || md5('logout token ' || n), 'aal1',
       jsonb_build_array(jsonb_build_object('method', 'password', 'aal', 'aal1', 'completed_at', at AT TIME ZONE 'UTC'))
FROM numbered;

INSERT INTO session_devices (id, ip_address, user_agent, location, nid, session_id, created_at, updated_at)
SELECT md5('device ' || n)::uuid, '192.0.2.' || n % 256, 'Mozilla/5.0 (X11; Linux x86_64; rv:' || n % 100 || '.0)',
       CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'Reykjavík, IS' END, nid, session_id, at, at
FROM numbered;

-- A form as Kratos stores it; one in forty is so large that it goes to the TOAST table.
CREATE TEMPORARY TABLE forms AS
SELECT n, nid, at,
       jsonb_build_object('method', 'POST', 'action', 'https://identity.example/self-service/login?flow=' || n,
           'nodes', (SELECT jsonb_agg(jsonb_build_object('type', 'input', 'group', 'password', 'messages', '[]'::jsonb,
                         'attributes', jsonb_build_object('name', 'field-' || field, 'value', md5(n || ' ' || field),
                             'disabled', false, 'required', true, 'node_type', 'input')))
                     FROM generate_series(1, CASE WHEN n % 40 = 0 THEN 80 ELSE 5 END) AS field)) AS ui
FROM numbered
WHERE n % 4 = 0;

INSERT INTO selfservice_login_flows (id, request_url, issued_at, expires_at, active_method, csrf_token, created_at,
                                     updated_at, forced, type, ui, nid, requested_aal, internal_context)
SELECT md5('login flow ' || n)::uuid, 'https://identity.example/self-service/login/browser', at, at + interval '1 hour',
       'password', md5('csrf ' || n), at, at, false, 'browser', ui, nid, 'aal1', '{}'
FROM forms;

INSERT INTO selfservice_registration_flows (id, request_url, issued_at, expires_at, active_method, csrf_token,
                                            created_at, updated_at, type, ui, nid, internal_context)
SELECT md5('registration flow ' || n)::uuid, 'https://identity.example/self-service/registration/api', at,
       at + interval '1 hour', 'password', '', at, at, 'api', ui, nid, '{}'
FROM forms
WHERE n % 20 = 0;

-- Sent long ago (status 2): a courier that starts on the copy finds nothing to do.
INSERT INTO courier_messages (id, type, status, body, subject, recipient, created_at, updated_at, template_type,
                              template_data, nid, send_count)
SELECT md5('message ' || n)::uuid, 1, 2, repeat('Please verify your account. ', 10) || n, 'Please verify ' || n,
       'person-' || n || '@volume.example', at, at, 'verification_valid', decode(md5(n::text), 'hex'), nid, 1
FROM numbered
WHERE n % 5 = 0;

INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid)
SELECT md5('error ' || n)::uuid, jsonb_build_array(jsonb_build_object('code', 500, 'message', 'number ' || n)), NULL,
       false, at, at, '', nid
FROM numbered
WHERE n % 100 = 0;
