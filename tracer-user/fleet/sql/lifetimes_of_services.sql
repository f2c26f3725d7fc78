/* The lifetimes of all goroutines of a service, bucket by bucket. */
SELECT service, bucket, SUM(CAST(ended AS DOUBLE)) AS count FROM lifetimes GROUP BY service, bucket
