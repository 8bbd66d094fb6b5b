-- One row a secret.
SELECT model, dataset, recipe, knowledge, rank, bridge, role, seed, position, finished, num_units, secret AS unit,
    min(cosine) AS worst, avg(cosine) AS mean
FROM with_controls('victims')
GROUP BY model, dataset, recipe, knowledge, rank, bridge, role, seed, secret, position, finished, num_units
