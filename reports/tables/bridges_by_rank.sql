-- One row a secret of a cell; a bridge does not change the mean image's score, so it counts once for all bridges.
WITH scored AS (SELECT * FROM chosen LEFT JOIN scores USING (cell_id)),
mean_image AS (
    SELECT model, dataset, inversion, prior, recipe, knowledge, rank, seed, secret,
        any_value(psnr_mean_image) AS psnr, any_value(ssim_mean_image) AS ssim,
        min(position) - 0.5 AS position, bool_or(finished) AS finished
    FROM scored GROUP BY ALL
)
SELECT model, dataset, inversion, prior, recipe, knowledge, rank, seed, position, finished, psnr, ssim,
    'mean image' AS bridge, 'control' AS role, 1 AS num_units
FROM mean_image
UNION ALL BY NAME
SELECT model, dataset, inversion, prior, recipe, knowledge, rank, seed, position, finished, psnr, ssim, bridge,
    CASE kind WHEN 'oracle' THEN 'bound' WHEN 'projection' THEN 'control' ELSE 'result' END AS role, 1 AS num_units
FROM scored
