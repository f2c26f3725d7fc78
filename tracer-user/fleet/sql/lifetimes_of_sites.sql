/* The lifetimes of the goroutines of a site, bucket by bucket. */
SELECT service, module, function, ordinal, bucket, SUM(CAST(ended AS DOUBLE)) AS count
FROM lifetimes GROUP BY service, module, function, ordinal, bucket
