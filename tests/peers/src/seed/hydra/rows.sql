-- Tables `tokens` (n, access, refresh, code) and `machine_tokens` (n, access) with the keys of rows for tokens were made
-- before this, in the same session.
-- Foreign keys hold by construction, and checking them row by row would take most of the time.
SET session_replication_role = replica;
SET synchronous_commit = off;

-- The one that the first migration made.
CREATE TEMPORARY TABLE network AS SELECT id AS nid FROM networks ORDER BY created_at LIMIT 1;

CREATE TEMPORARY TABLE numbered_clients AS
SELECT n, md5('client ' || n)::uuid::text AS id, nid, timestamp '2026-01-01' + n * interval '1 minute' AS at
FROM generate_series(1, :clients) AS n, network;

-- Every ninth is a program on the user's own machine, which keeps no secret. Clients made before 2.2 still have the keys
-- of then.
INSERT INTO hydra_client (id, nid, client_name, client_secret, scope, owner, policy_uri, tos_uri, client_uri, logo_uri,
                          client_secret_expires_at, sector_identifier_uri, jwks, jwks_uri, token_endpoint_auth_method,
                          userinfo_signed_response_alg, subject_type, created_at, updated_at, backchannel_logout_uri,
                          backchannel_logout_session_required, metadata, authorization_code_grant_access_token_lifespan,
                          pk, pk_deprecated, registration_access_token_signature, redirect_uris, grant_types,
                          response_types, audience, allowed_cors_origins, contacts, request_uris,
                          post_logout_redirect_uris, access_token_strategy, skip_consent, skip_logout_consent)
SELECT id, nid,
       CASE n % 7 WHEN 0 THEN E'tab\tnewline\nbackslash\\N quote''"' WHEN 1 THEN 'Zoë Ångström 漢字 🔑' WHEN 2 THEN ''
           ELSE 'Application ' || n END,
       ':client_secret_hash', 'openid offline_access email read write',
       CASE n % 3 WHEN 0 THEN '' ELSE 'team-' || n END, '', '', 'https://application-' || n || '.example', '',
       0, '', '{}', '', CASE WHEN n % 9 = 0 THEN 'none' ELSE 'client_secret_basic' END, 'none', 'public', at, at,
       CASE n % 4 WHEN 0 THEN 'https://application-' || n || '.example/logout' ELSE '' END, n % 4 = 0,
       CASE n % 5 WHEN 0 THEN '{}' WHEN 1 THEN 'null'
           ELSE jsonb_build_object('integration-id', n::text, 'long', 12345678901234567890.123456789 + n)::text END,
       CASE n % 6 WHEN 0 THEN 900000000000 END,
       CASE n % 2 WHEN 0 THEN md5('pk ' || n)::uuid END, CASE n % 2 WHEN 0 THEN n ELSE 0 END,
       'registration-' || md5('registration ' || n),
       jsonb_build_array('https://application-' || n || '.example/callback'),
       CASE WHEN n % 9 = 0 THEN '["authorization_code", "refresh_token"]'::jsonb
           ELSE '["authorization_code", "refresh_token", "client_credentials"]' END,
       '["code"]', '[]', '[]', CASE n % 5 WHEN 2 THEN '["ops@application.example", ""]'::jsonb ELSE '[]' END, '[]', '[]',
       '', n % 8 = 0, CASE n % 3 WHEN 0 THEN NULL ELSE n % 3 = 1 END
FROM numbered_clients
ORDER BY n;

-- Users are the identities that the seed of Kratos makes under the same numbers. One in ten refused, one in ten left
-- before the application exchanged its code; all others have tokens.
CREATE TEMPORARY TABLE numbered AS
SELECT s.n, clients.id AS client_id, network.nid,
       md5('identity ' || s.n)::uuid::text AS subject,
       md5('login session ' || s.n)::uuid::text AS login_session_id,
       md5('consent ' || s.n)::uuid::text AS consent_id,
       timestamp '2026-01-02' + s.n * interval '1 second' AS at,
       s.n % 10 = 5 AS refused,
       s.n % 10 = 0 AS left_early
FROM generate_series(1, :subjects) AS s (n)
JOIN numbered_clients AS clients ON clients.n = (s.n - 1) % :clients + 1, network;

INSERT INTO hydra_oauth2_authentication_session (id, nid, authenticated_at, subject, remember,
                                                 identity_provider_session_id)
SELECT login_session_id, nid, at, subject, n % 3 <> 0, CASE n % 2 WHEN 0 THEN md5('session ' || n)::uuid::text END
FROM numbered;

-- A finished login (state 6). One in forty carries so many claims that the row goes to the TOAST table.
INSERT INTO hydra_oauth2_flow (login_challenge, login_verifier, login_csrf, subject, request_url, login_skip, client_id,
                               requested_at, login_initialized_at, oidc_context, login_session_id, state,
                               login_remember, login_remember_for, login_error, acr, login_authenticated_at,
                               login_was_used, forced_subject_identifier, context, consent_challenge_id, consent_skip,
                               consent_verifier, consent_csrf, consent_remember, consent_remember_for,
                               consent_handled_at, consent_error, session_access_token, session_id_token,
                               consent_was_used, nid, requested_scope, requested_at_audience, amr, granted_scope,
                               granted_at_audience, identity_provider_session_id)
SELECT md5('login challenge ' || n), md5('login verifier ' || n), md5('login csrf ' || n), subject,
       'https://login.example/oauth2/auth?response_type=code&client_id=' || client_id || '&state=' || md5('state ' || n),
       false, client_id, at, NULL,
       CASE n % 3 WHEN 0 THEN '{}'::jsonb ELSE jsonb_build_object('ui_locales', jsonb_build_array('is', 'en'),
           'login_hint', 'person-' || n || '@volume.example') END,
       login_session_id, 6, n % 3 <> 0, 0, '{}', CASE n % 2 WHEN 0 THEN '' ELSE '1' END, at, n % 2 = 0, '',
       CASE n % 2 WHEN 0 THEN '{}' ELSE 'null' END::jsonb, consent_id,
       false, md5('consent verifier ' || n), md5('consent csrf ' || n), NOT refused AND n % 4 <> 0, 0, at,
       CASE WHEN refused THEN '{"error":"access_denied","error_description":"The user said no","valid":true}'
           ELSE '{}' END,
       CASE n % 5 WHEN 0 THEN '{}'::jsonb WHEN 1 THEN jsonb_build_object('tenant', n % 100) ELSE 'null' END,
       jsonb_build_object('email', 'person-' || n || '@volume.example', 'name', CASE n % 7
           WHEN 0 THEN E'tab\tnewline\nbackslash\\N quote''"' WHEN 1 THEN 'Zoë Ångström 漢字 🔑' ELSE 'Person ' || n END,
           'groups', (SELECT jsonb_agg(md5(n || ' ' || nth))
                      FROM generate_series(1, CASE WHEN n % 40 = 0 THEN 400 ELSE 2 END) AS nth)),
       true, nid, '["openid", "offline_access", "email"]', '[]',
       CASE n % 2 WHEN 0 THEN '["password"]' ELSE '[]' END::jsonb,
       CASE WHEN refused THEN '[]'::jsonb ELSE '["openid", "offline_access", "email"]' END, '[]',
       CASE n % 2 WHEN 0 THEN md5('session ' || n)::uuid::text END
FROM numbered;

-- Releases before 2.2 wrote a row as soon as somebody was sent to the login page; nobody ever cleans them up.
INSERT INTO hydra_oauth2_flow (login_challenge, login_verifier, login_csrf, subject, request_url, login_skip, client_id,
                               requested_at, oidc_context, state, login_remember_for, nid, requested_scope)
SELECT md5('abandoned login ' || n), md5('abandoned verifier ' || n), md5('abandoned csrf ' || n), '',
       'https://login.example/oauth2/auth?client_id=' || client_id, false, client_id, at - interval '300 days', '{}', 1,
       0, nid, '["openid"]'
FROM numbered
WHERE n % 20 = 1;

-- What is kept with every token: what it is for, and the claims of the user. A server encrypts this with its system
-- secret and also reads it plain, as here: so it stood before encryption at rest came.
CREATE TEMPORARY TABLE granted AS
SELECT n, client_id, nid, subject, consent_id, at, left_early, tokens.access, tokens.refresh, tokens.code,
       'openid|offline_access|email' AS scope,
       'client_id=' || client_id || '&response_type=code&scope=openid+offline_access+email' AS form,
       jsonb_build_object(
           'id_token', jsonb_build_object(
               'id_token_claims', jsonb_build_object('iss', 'https://login.example', 'sub', subject,
                   'aud', jsonb_build_array(client_id), 'nonce', md5('nonce ' || n), 'iat', at AT TIME ZONE 'UTC',
                   'rat', at AT TIME ZONE 'UTC', 'auth_time', at AT TIME ZONE 'UTC', 'acr', '1',
                   'ext', jsonb_build_object('email', 'person-' || n || '@volume.example')),
               'headers', jsonb_build_object('extra', '{}'::jsonb),
               'expires_at', jsonb_build_object('access_token', '2099-01-01T00:00:00Z',
                   'authorize_code', '2099-01-01T00:00:00Z', 'refresh_token', '2099-01-01T00:00:00Z'),
               'username', '', 'subject', subject),
           'extra', '{}'::jsonb, 'kid', '', 'client_id', client_id, 'consent_challenge', consent_id,
           'exclude_not_before_claim', false, 'allowed_top_level_claims', '[]'::jsonb,
           'mirror_top_level_claims', true)::text AS session_data
FROM numbered JOIN tokens USING (n)
WHERE NOT refused;

-- Access tokens that work, ones of the past that nobody cleaned up, and ones of applications that ask for themselves.
INSERT INTO hydra_oauth2_access (signature, request_id, requested_at, client_id, scope, granted_scope, form_data,
                                 session_data, subject, active, requested_audience, granted_audience, challenge_id, nid,
                                 expires_at)
SELECT access, consent_id, at, client_id, scope, scope, 'grant_type=authorization_code', session_data, subject, true, '',
       '', consent_id, nid, '2099-01-01'
FROM granted
WHERE NOT left_early
UNION ALL
SELECT encode(sha384(('expired ' || n)::bytea), 'hex'), md5('expired request ' || n)::uuid::text, at, client_id, scope,
       scope, 'grant_type=refresh_token', replace(session_data, '2099-01-01', '2026-01-03'), subject, n % 12 <> 0, NULL,
       NULL, NULL, nid, CASE n % 18 WHEN 0 THEN NULL ELSE at + interval '1 hour' END
FROM granted
WHERE n % 6 = 0
UNION ALL
SELECT access, md5('machine request ' || n)::uuid::text, at, id, 'read', 'read',
       'grant_type=client_credentials&scope=read',
       jsonb_build_object('id_token', jsonb_build_object(
               'id_token_claims', jsonb_build_object('iss', 'https://login.example', 'sub', ''),
               'headers', jsonb_build_object('extra', '{}'::jsonb),
               'expires_at', jsonb_build_object('access_token', '2099-01-01T00:00:00Z'), 'username', '', 'subject', id),
           'extra', '{}'::jsonb, 'kid', '', 'client_id', id, 'consent_challenge', '')::text,
       id, true, '', '', NULL, nid, '2099-01-01'
FROM numbered_clients JOIN machine_tokens USING (n);

-- Refresh tokens that work, and their predecessors, which were used up.
INSERT INTO hydra_oauth2_refresh (signature, request_id, requested_at, client_id, scope, granted_scope, form_data,
                                  session_data, subject, active, requested_audience, granted_audience, challenge_id, nid,
                                  expires_at, first_used_at, access_token_signature)
SELECT refresh, consent_id, at, client_id, scope, scope, 'grant_type=authorization_code', session_data, subject, true,
       '', '', consent_id, nid, '2099-01-01'::timestamp, NULL::timestamp, access
FROM granted
WHERE NOT left_early
UNION ALL
SELECT encode(sha256(('used refresh ' || n)::bytea), 'base64'), consent_id, at - interval '1 hour', client_id, scope,
       scope, 'grant_type=authorization_code', session_data, subject, false, NULL, NULL, consent_id, nid,
       CASE n % 9 WHEN 0 THEN NULL ELSE '2099-01-01'::timestamp END, CASE n % 2 WHEN 0 THEN at END,
       CASE n % 9 WHEN 0 THEN NULL ELSE encode(sha384(('used ' || n)::bytea), 'hex') END
FROM granted
WHERE n % 3 = 0 AND NOT left_early;

-- Codes: used up where there are tokens, waiting where the user left early, and only there still with what was asked.
INSERT INTO hydra_oauth2_code (signature, request_id, requested_at, client_id, scope, granted_scope, form_data,
                               session_data, subject, active, requested_audience, granted_audience, challenge_id, nid,
                               expires_at)
SELECT code, consent_id, at, client_id, scope, scope, form, session_data, subject, left_early, '', '', consent_id, nid,
       at + interval '10 minutes'
FROM granted;

INSERT INTO hydra_oauth2_pkce (signature, request_id, requested_at, client_id, scope, granted_scope, form_data,
                               session_data, subject, active, requested_audience, granted_audience, challenge_id, nid,
                               expires_at)
SELECT code, consent_id, at, client_id, scope, scope,
       form || '&code_challenge_method=S256&code_challenge=' || md5('pkce ' || n), session_data, subject, true, '', '',
       consent_id, nid, at + interval '10 minutes'
FROM granted
WHERE left_early;

INSERT INTO hydra_oauth2_oidc (signature, request_id, requested_at, client_id, scope, granted_scope, form_data,
                               session_data, subject, active, requested_audience, granted_audience, challenge_id, nid,
                               expires_at)
SELECT 'ory_ac_' || md5('code key ' || n) || '.' || code, consent_id, at, client_id, scope, scope,
       form || '&nonce=' || md5('nonce ' || n), session_data, subject, true, '', '', consent_id, nid,
       at + interval '10 minutes'
FROM granted
WHERE left_early;

INSERT INTO hydra_oauth2_logout_request (challenge, verifier, subject, sid, client_id, request_url, redir_url, was_used,
                                         accepted, rejected, rp_initiated, nid, expires_at, requested_at)
SELECT md5('logout ' || n)::uuid::text, md5('logout verifier ' || n)::uuid::text, subject, login_session_id,
       CASE n % 4 WHEN 3 THEN client_id END, 'https://login.example/oauth2/sessions/logout', 'https://login.example/',
       true, true, false, n % 4 = 3, nid, CASE n % 4 WHEN 1 THEN at + interval '30 minutes' END,
       CASE n % 4 WHEN 1 THEN at END
FROM numbered
WHERE n % 10 IN (1, 3);

INSERT INTO hydra_oauth2_obfuscated_authentication_session (subject, client_id, subject_obfuscated, nid)
SELECT subject, client_id, encode(sha256(('obfuscated ' || n)::bytea), 'hex'), nid
FROM numbered
WHERE n % 25 = 1;

INSERT INTO hydra_oauth2_jti_blacklist (signature, expires_at, nid)
SELECT encode(sha256(('jti ' || n)::bytea), 'hex'), '2099-01-01', nid
FROM numbered
WHERE n % 20 = 2;
