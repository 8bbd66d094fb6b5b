-- One row a secret, in suites that defend; what the adapter is good for was measured when it was published.
WITH useful AS (
    SELECT cell_id, secret,
        any_value(value) FILTER (name = 'heldout_loss') AS loss,
        any_value(value) FILTER (name = 'heldout_accuracy') AS accuracy
    FROM measured WHERE stage = 'victim' AND secret IS NOT NULL GROUP BY cell_id, secret
),
of_all AS (
    SELECT cell_id,
        any_value(value) FILTER (name = 'heldout_loss_base') AS base_loss,
        any_value(value) FILTER (name = 'heldout_accuracy_base') AS base_accuracy,
        any_value(value) FILTER (name = 'epsilon') AS epsilon
    FROM measured WHERE stage = 'victim' AND secret IS NULL GROUP BY cell_id
),
scored AS (
    SELECT * FROM image_cells LEFT JOIN scores USING (cell_id) LEFT JOIN useful USING (cell_id, secret)
        LEFT JOIN of_all USING (cell_id)
    WHERE kind != 'oracle' AND EXISTS (FROM suite_cells WHERE knobs ->> '$.defence.kind' IS NOT NULL)
),
controls AS (
    SELECT model, dataset, bridge, inversion, knowledge, plain_recipe, rank, seed, secret,
        any_value(psnr_mean_image) AS psnr, min(position) AS first, bool_or(finished) AS finished
    FROM scored GROUP BY ALL
),
every AS (
    SELECT * EXCLUDE (first), first - 0.5 AS position, 'nothing published' AS defence, 'control' AS role,
        CASE WHEN psnr IS NOT NULL THEN 0.0 END AS gain, CASE WHEN psnr IS NOT NULL THEN 0.0 END AS accuracy_gain
    FROM controls
    UNION ALL BY NAME
    SELECT model, dataset, bridge, inversion, knowledge, plain_recipe, rank, seed, secret, position, finished, defence,
        psnr, psnr_start, 'result' AS role, base_loss - loss AS gain, 100 * (accuracy - base_accuracy) AS accuracy_gain, epsilon
    FROM scored
)
SELECT * EXCLUDE (secret), secret AS unit, 1 AS num_units, psnr AS psnr_median,
    CASE WHEN psnr IS NOT NULL THEN (psnr >= 30)::INT::DOUBLE END AS above_30
FROM every
