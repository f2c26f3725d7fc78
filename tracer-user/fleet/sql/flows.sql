/* What came and went at each site in each hour. Of a host that sweeps several times an hour, the mean counts. */
SELECT service, module, function, ordinal, hour_ms, COUNT(*) AS hosts, SUM(live) AS live, SUM(rate) AS rate,
    SUM(exited) AS exited, SUM(ended) AS ended, SUM(lifetime_s) AS lifetime_s, SUM(incomplete) AS incomplete
FROM (
    SELECT service, module, function, ordinal, host, hour_ms, AVG(live) AS live,
        SUM(created) / NULLIF(SUM(seconds), 0) AS rate, SUM(exited) AS exited, SUM(ended) AS ended,
        SUM(lifetime_s) AS lifetime_s, SUM(incomplete) AS incomplete
    FROM (
        SELECT service, module, function, ordinal, host, at_ms - at_ms % 3600000 AS hour_ms, at_ms,
            SUM(CAST(live AS DOUBLE)) AS live, SUM(CAST(created AS DOUBLE)) AS created,
            SUM(CAST(exited AS DOUBLE)) AS exited, SUM(CAST(lifetime_count AS DOUBLE)) AS ended,
            SUM(lifetime_sum_s) AS lifetime_s, MAX(CAST(window_ns AS DOUBLE)) / 1e9 AS seconds,
            COUNT(CASE WHEN counts = 'incomplete' THEN 1 END) AS incomplete
        FROM timed GROUP BY service, module, function, ordinal, host, at_ms
    ) AS swept
    GROUP BY service, module, function, ordinal, host, hour_ms
) AS hosted
GROUP BY service, module, function, ordinal, hour_ms
ORDER BY hour_ms, service, function, ordinal, module
