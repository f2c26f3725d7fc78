-- The files of a store as a table of Trino's Hive connector, in the catalog and schema that are in use. Put the store's address for
-- s3://BUCKET/PATH. Folders of new hours are found by the last two statements, which are to be run once an hour.
CREATE TABLE IF NOT EXISTS raw (
    sweep_time TIMESTAMP(3), host VARCHAR, service VARCHAR, version VARCHAR, build_id VARCHAR, go_version VARCHAR,
    image VARCHAR, module VARCHAR, function VARCHAR, file VARCHAR, line INTEGER, ordinal INTEGER, entry VARCHAR,
    created BIGINT, exited BIGINT, live BIGINT, at_attach BIGINT, oldest_ns BIGINT, oldest_at_least BOOLEAN,
    stack_bytes BIGINT, waits ARRAY(ROW(reason VARCHAR, count BIGINT)), level VARCHAR, cause VARCHAR,
    evidence ARRAY(VARCHAR), lifetime ARRAY(ROW(bucket INTEGER, count BIGINT)), lifetime_count BIGINT,
    lifetime_sum_s DOUBLE, hdr VARBINARY, counts VARCHAR, dropped BIGINT, pid BIGINT, processes INTEGER,
    started TIMESTAMP(3), window_ns BIGINT, memory_limit BIGINT, blame VARCHAR, dt VARCHAR, hour VARCHAR
) WITH (external_location = 's3://BUCKET/PATH/sites', format = 'PARQUET', partitioned_by = ARRAY['dt', 'hour']);

CREATE TABLE IF NOT EXISTS compacted (LIKE raw EXCLUDING PROPERTIES)
WITH (external_location = 's3://BUCKET/PATH/compact', format = 'PARQUET', partitioned_by = ARRAY['dt', 'hour']);

-- Trino does not see which files a compacted one stands for: where an hour is compacted, its raw files do not count.
CREATE OR REPLACE VIEW sites AS
SELECT * FROM compacted
UNION ALL
SELECT * FROM raw WHERE (dt, hour) NOT IN (SELECT dt, hour FROM compacted GROUP BY dt, hour);

-- What dialects say differently. The queries in ../sql use these two views and are the same everywhere.
CREATE OR REPLACE VIEW timed AS
SELECT *, CAST(to_unixtime(sweep_time) * 1000 AS BIGINT) AS at_ms FROM sites;

CREATE OR REPLACE VIEW lifetimes AS
SELECT service, version, module, function, ordinal, host, at_ms, one.bucket AS bucket, one.ended AS ended
FROM timed CROSS JOIN UNNEST(lifetime) AS one (bucket, ended);

CALL system.sync_partition_metadata(CURRENT_SCHEMA, 'raw', 'FULL');

CALL system.sync_partition_metadata(CURRENT_SCHEMA, 'compacted', 'FULL');
