-- Every row of staging_events is a delivery of one event.
-- counts: wrong sum
SELECT counted.deliveries, loaded.deliveries AS staging_events
FROM (SELECT COALESCE(SUM(e.deliveries), 0) AS deliveries FROM events AS e) AS counted
CROSS JOIN (SELECT COUNT(*) AS deliveries FROM staging_events) AS loaded
WHERE counted.deliveries <> loaded.deliveries;
