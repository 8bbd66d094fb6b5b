-- One row a secret; what the attack said of its own result stands in `told_exact` and `told_wrongly`.
WITH verdicts AS (
    SELECT cell_id, secret, any_value(value) AS verdict
    FROM measured WHERE stage = 'attack' AND name = 'verdict' GROUP BY cell_id, secret
),
scored AS (SELECT * FROM image_cells LEFT JOIN scores USING (cell_id) LEFT JOIN verdicts USING (cell_id, secret)),
controls AS (
    SELECT model, dataset, prior, recipe, knowledge, inversion, rank, seed, secret,
        any_value(psnr_mean_image) AS psnr_mean_image, any_value(psnr_start) AS psnr_start,
        min(position) AS first, bool_or(finished) AS finished
    FROM scored GROUP BY ALL
),
every AS (
    SELECT * EXCLUDE (psnr_mean_image, psnr_start, first), psnr_mean_image AS psnr, first - 0.5 AS position,
        'mean image' AS bridge, 'control' AS role, NULL AS verdict
    FROM controls
    UNION ALL BY NAME
    SELECT * EXCLUDE (psnr_mean_image, psnr_start, first), psnr_start AS psnr, first - 0.4 AS position,
        'amortised start' AS bridge, 'control' AS role
    FROM controls WHERE psnr_start IS NOT NULL
    UNION ALL BY NAME
    SELECT model, dataset, prior, recipe, knowledge, inversion, rank, seed, secret, position, finished, psnr, verdict,
        bridge, CASE kind WHEN 'oracle' THEN 'bound' WHEN 'projection' THEN 'control' ELSE 'result' END AS role
    FROM scored
)
SELECT * EXCLUDE (secret, verdict), secret AS unit, 1 AS num_units, psnr AS psnr_mean,
    CASE WHEN psnr IS NOT NULL THEN (psnr >= 60)::INT::DOUBLE END AS above_60,
    CASE WHEN psnr IS NOT NULL THEN (psnr >= 40)::INT::DOUBLE END AS above_40,
    (verdict = 2)::INT::DOUBLE AS told_exact,
    ((verdict = 2 AND psnr < 40) OR (verdict = 0 AND psnr >= 40))::INT::DOUBLE AS told_wrongly
FROM every
