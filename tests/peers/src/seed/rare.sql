-- What a service holds at any moment but seldom much of: recoveries and verifications in flight, settings forms, logins
-- handed from a browser to an app, dispatches, and, where the release has them, login and registration codes, whose
-- address type is padded to its length. Deterministic in the number of the lot.
CREATE TEMPORARY TABLE lot AS
SELECT i.id AS identity_id, i.nid, r.id AS recovery_address_id, v.id AS verifiable_address_id,
       md5(:lot || ' rare ' || i.id)::uuid AS id, timestamp '2026-02-01' + :lot * interval '1 day' AS at
FROM (SELECT identities.id, nid FROM identities
      WHERE EXISTS (SELECT FROM identity_recovery_addresses a WHERE a.identity_id = identities.id)
        AND EXISTS (SELECT FROM identity_verifiable_addresses a WHERE a.identity_id = identities.id)
      ORDER BY md5(:lot || identities.id::text) LIMIT 10) AS i
JOIN LATERAL (SELECT a.id FROM identity_recovery_addresses a WHERE a.identity_id = i.id ORDER BY a.id LIMIT 1) AS r ON true
JOIN LATERAL (SELECT a.id FROM identity_verifiable_addresses a WHERE a.identity_id = i.id ORDER BY a.id LIMIT 1) AS v ON true;

INSERT INTO selfservice_recovery_flows (id, request_url, issued_at, expires_at, active_method, csrf_token, state,
                                        created_at, updated_at, type, ui, nid)
SELECT id, 'https://identity.example/self-service/recovery/browser', at, '2099-01-01', 'code', md5(id::text), 'sent_email',
       at, at, 'browser', '{"nodes": []}', nid
FROM lot;

INSERT INTO identity_recovery_codes (id, code, identity_recovery_address_id, code_type, expires_at, issued_at,
                                     selfservice_recovery_flow_id, created_at, updated_at, nid, identity_id)
SELECT id, md5('code ' || id), recovery_address_id, 1, '2099-01-01', at, id, at, at, nid, identity_id FROM lot;

INSERT INTO identity_recovery_tokens (id, token, identity_recovery_address_id, selfservice_recovery_flow_id, created_at,
                                      updated_at, expires_at, issued_at, nid, identity_id, token_type)
SELECT id, md5('token ' || id), recovery_address_id, id, at, at, '2099-01-01', at, nid, identity_id, 1 FROM lot;

INSERT INTO selfservice_verification_flows (id, request_url, issued_at, expires_at, csrf_token, created_at, updated_at,
                                            type, state, active_method, ui, nid)
SELECT id, 'https://identity.example/self-service/verification/api', at, '2099-01-01', '', at, at, 'api', 'sent_email',
       'code', '{"nodes": []}', nid
FROM lot;

INSERT INTO identity_verification_codes (id, code_hmac, identity_verifiable_address_id, expires_at, issued_at,
                                         selfservice_verification_flow_id, created_at, updated_at, nid)
SELECT id, md5('hmac ' || id), verifiable_address_id, '2099-01-01', at, id, at, at, nid FROM lot;

INSERT INTO identity_verification_tokens (id, token, expires_at, issued_at, identity_verifiable_address_id,
                                          selfservice_verification_flow_id, created_at, updated_at, nid)
SELECT id, md5('link ' || id), '2099-01-01', at, verifiable_address_id, id, at, at, nid FROM lot;

INSERT INTO selfservice_settings_flows (id, request_url, issued_at, expires_at, identity_id, created_at, updated_at,
                                        active_method, state, type, ui, nid, internal_context)
SELECT id, 'https://identity.example/self-service/settings/browser', at, '2099-01-01', identity_id, at, at, 'profile',
       'show_form', 'browser', '{"nodes": []}', nid, '{}'
FROM lot;

INSERT INTO continuity_containers (id, identity_id, name, payload, expires_at, created_at, updated_at, nid)
SELECT id, identity_id, 'ory_kratos_continuity', '{"traits": {}}', '2099-01-01', at, at, nid FROM lot;

INSERT INTO session_token_exchanges (id, nid, flow_id, session_id, init_code, return_to_code, created_at, updated_at)
SELECT id, nid, id, NULL, md5('init ' || id), md5('return ' || id), at, at FROM lot;

INSERT INTO courier_message_dispatches (id, message_id, status, error, nid, created_at, updated_at)
SELECT lot.id, message.id, 'failed', '{"message": "451 try again later"}', lot.nid, lot.at, lot.at
FROM lot, LATERAL (SELECT m.id FROM courier_messages m ORDER BY md5(:lot || m.id::text) LIMIT 1) AS message;

DO $codes$
BEGIN
  IF to_regclass('identity_login_codes') IS NOT NULL THEN
    INSERT INTO identity_login_codes (id, code, address, address_type, expires_at, issued_at, selfservice_login_flow_id,
                                      identity_id, created_at, updated_at, nid)
    SELECT lot.id, md5('login ' || lot.id), 'code@volume.example', 'email', '2099-01-01', at, flow.id, identity_id, at, at,
           nid
    FROM lot, (SELECT f.id FROM selfservice_login_flows f ORDER BY f.id LIMIT 1) AS flow;
    INSERT INTO identity_registration_codes (id, code, address, address_type, expires_at, issued_at,
                                             selfservice_registration_flow_id, created_at, updated_at, nid)
    SELECT lot.id, md5('registration ' || lot.id), 'code@volume.example', 'email', '2099-01-01', at, flow.id, at, at, nid
    FROM lot, (SELECT f.id FROM selfservice_registration_flows f ORDER BY f.id LIMIT 1) AS flow;
  END IF;
END
$codes$;
