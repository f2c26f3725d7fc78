/* Each site of each version in each hour, with all hosts merged. Lifetimes are in rollup_lifetimes.sql. */
SELECT at_ms - at_ms % 3600000 AS hour_ms, service, version, module, function, ordinal, COUNT(DISTINCT host) AS hosts,
    COUNT(*) AS sweeps, SUM(created) AS created, SUM(exited) AS exited, SUM(live) AS live, MAX(live) AS most,
    SUM(stack_bytes) AS stack_bytes, MAX(oldest_ns) AS oldest_ns,
    COUNT(CASE WHEN level IN ('suspect', 'proven') THEN 1 END) AS leaks, SUM(lifetime_count) AS lifetime_count,
    SUM(lifetime_sum_s) AS lifetime_sum_s, COUNT(CASE WHEN counts = 'incomplete' THEN 1 END) AS incomplete
FROM timed
GROUP BY at_ms - at_ms % 3600000, service, version, module, function, ordinal
