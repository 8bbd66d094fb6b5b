-- One row a decoder and seed.
SELECT model, dataset, recipe, knowledge, rank, bridge, role, seed, position, finished, num_units,
    min(cosine) AS worst, avg(cosine) AS mean
FROM with_controls('decoders') GROUP BY ALL
