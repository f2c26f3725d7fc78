/* Half and 99 % of the goroutines of a site lived no longer than this, in seconds, interpolated as Prometheus does. */
SELECT service, module, function, ordinal, MAX(total) AS ended,
    MIN(CASE WHEN upto >= 0.5e0 * total THEN power(2e0, (bucket - 1 + (0.5e0 * total - upto + ended) / ended) / 8e0) END) AS p50_s,
    MIN(CASE WHEN upto >= 0.99e0 * total THEN power(2e0, (bucket - 1 + (0.99e0 * total - upto + ended) / ended) / 8e0) END) AS p99_s
FROM (
    SELECT service, module, function, ordinal, bucket, ended,
        SUM(ended) OVER (PARTITION BY service, module, function, ordinal) AS total,
        SUM(ended) OVER (PARTITION BY service, module, function, ordinal ORDER BY bucket
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS upto
    FROM (
        SELECT service, module, function, ordinal, bucket, SUM(CAST(ended AS DOUBLE)) AS ended
        FROM lifetimes WHERE ended > 0 GROUP BY service, module, function, ordinal, bucket
    ) AS merged
) AS summed
GROUP BY service, module, function, ordinal
ORDER BY service, function, ordinal, module
