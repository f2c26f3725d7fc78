/* Little's law for each service and hour: how many live (L), how many come per second (rate), how long the ended lived in the mean
   (W, in seconds), and what of L the two do not explain. Of a host that sweeps several times an hour, the mean counts. */
SELECT service, hour_ms, hosts, live, rate, lifetime_s / NULLIF(ended, 0) AS mean_s,
    live - rate * lifetime_s / NULLIF(ended, 0) AS unexplained, incomplete
FROM (
    SELECT service, hour_ms, COUNT(*) AS hosts, SUM(live) AS live, SUM(rate) AS rate, SUM(ended) AS ended,
        SUM(lifetime_s) AS lifetime_s, SUM(incomplete) AS incomplete
    FROM (
        SELECT service, host, hour_ms, AVG(live) AS live, SUM(created) / NULLIF(SUM(seconds), 0) AS rate,
            SUM(ended) AS ended, SUM(lifetime_s) AS lifetime_s, SUM(incomplete) AS incomplete
        FROM (
            SELECT service, host, at_ms - at_ms % 3600000 AS hour_ms, at_ms, SUM(CAST(live AS DOUBLE)) AS live,
                SUM(CAST(created AS DOUBLE)) AS created, SUM(CAST(lifetime_count AS DOUBLE)) AS ended,
                SUM(lifetime_sum_s) AS lifetime_s, MAX(CAST(window_ns AS DOUBLE)) / 1e9 AS seconds,
                COUNT(CASE WHEN counts = 'incomplete' THEN 1 END) AS incomplete
            FROM timed GROUP BY service, host, at_ms
        ) AS swept
        GROUP BY service, host, hour_ms
    ) AS hosted
    GROUP BY service, hour_ms
) AS summed
ORDER BY service, hour_ms
