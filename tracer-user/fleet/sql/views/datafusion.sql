/* What dialects say differently, in DataFusion's. The queries beside this folder use these two views and are the same everywhere. */
CREATE VIEW timed AS
SELECT *, CAST(sweep_time AS BIGINT) AS at_ms FROM sites;

CREATE VIEW lifetimes AS
SELECT service, version, module, function, ordinal, host, at_ms, one['bucket'] AS bucket, one['count'] AS ended
FROM (SELECT service, version, module, function, ordinal, host, at_ms, UNNEST(lifetime) AS one FROM timed) AS each;
