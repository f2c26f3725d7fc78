/* The versions of each service, in the order in which they were first seen. */
SELECT service, version, MIN(at_ms) AS first_ms, MAX(at_ms) AS last_ms, COUNT(DISTINCT host) AS hosts
FROM timed WHERE version IS NOT NULL
GROUP BY service, version
ORDER BY first_ms, version, service
