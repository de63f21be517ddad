//! Real peers for tests: PostgreSQL clusters, Kratos servers, data, writers, an independent comparison.
