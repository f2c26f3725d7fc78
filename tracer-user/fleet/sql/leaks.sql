/* What the last sweep of each service of each host calls a leak, the most stack first. */
SELECT module, function, ordinal, cause, COUNT(DISTINCT host) AS hosts, SUM(live) AS live, MAX(live) AS most,
    SUM(stack_bytes) AS stack_bytes, MAX(line) AS line
FROM (
    SELECT timed.* FROM timed
    JOIN (SELECT host, service, MAX(at_ms) AS last_ms FROM timed GROUP BY host, service) AS last
    ON timed.host = last.host AND timed.service = last.service AND timed.at_ms = last.last_ms
) AS now
WHERE level IN ('suspect', 'proven')
GROUP BY module, function, ordinal, cause
ORDER BY stack_bytes DESC, live DESC, function, ordinal
