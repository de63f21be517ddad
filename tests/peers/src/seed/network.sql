-- A server makes this row when it first starts; made here it is the same every time.
INSERT INTO networks (id, created_at, updated_at)
SELECT '3f0c5d5e-7b0e-4f6a-9d3c-0a1b2c3d4e5f', '2026-01-01', '2026-01-01'
WHERE NOT EXISTS (SELECT FROM networks);
