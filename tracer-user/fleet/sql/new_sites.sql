/* The sites that a service had not before its newest version, by when that was first seen anywhere, with what lives there. */
SELECT service, module, function, ordinal, first_ms, hosts, live, leaks
FROM (
    SELECT timed.service, module, function, ordinal, MIN(at_ms) AS first_ms, COUNT(DISTINCT host) AS hosts,
        MAX(live) AS live, COUNT(CASE WHEN level IN ('suspect', 'proven') THEN 1 END) AS leaks,
        MAX(since_ms) AS since_ms, MAX(versions) AS versions
    FROM timed
    JOIN (
        SELECT service, MAX(first_ms) AS since_ms, COUNT(*) AS versions
        FROM (SELECT service, version, MIN(at_ms) AS first_ms FROM timed WHERE version IS NOT NULL GROUP BY service, version) AS seen
        GROUP BY service
    ) AS newest
    ON timed.service = newest.service
    GROUP BY timed.service, module, function, ordinal
) AS dated
WHERE first_ms >= since_ms AND versions > 1
ORDER BY service, function, ordinal, module
