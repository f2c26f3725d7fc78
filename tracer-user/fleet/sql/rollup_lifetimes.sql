/* The lifetimes of each site of each version in each hour, with all hosts merged, bucket by bucket. */
SELECT at_ms - at_ms % 3600000 AS hour_ms, service, version, module, function, ordinal, bucket, SUM(ended) AS count
FROM lifetimes
GROUP BY at_ms - at_ms % 3600000, service, version, module, function, ordinal, bucket
