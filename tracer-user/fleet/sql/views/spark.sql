/* What dialects say differently, in Spark's. The queries beside this folder use these two views and are the same everywhere. */
CREATE OR REPLACE TEMPORARY VIEW timed AS
SELECT *, unix_millis(sweep_time) AS at_ms FROM sites;

CREATE OR REPLACE TEMPORARY VIEW lifetimes AS
SELECT service, version, module, function, ordinal, host, at_ms, one.bucket AS bucket, one.count AS ended
FROM (SELECT service, version, module, function, ordinal, host, at_ms, explode(lifetime) AS one FROM timed) AS each;
