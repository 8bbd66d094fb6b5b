-- One row a secret of a cell. A bridge changes neither the mean image nor the amortised start: they count once for all.
WITH scored AS (SELECT * FROM image_cells LEFT JOIN scores USING (cell_id)),
controls AS (
    SELECT model, dataset, inversion, prior, recipe, knowledge, rank, seed, secret,
        any_value(psnr_mean_image) AS psnr_mean_image, any_value(ssim_mean_image) AS ssim_mean_image,
        any_value(psnr_start) AS psnr_start, any_value(ssim_start) AS ssim_start,
        min(position) AS first, bool_or(finished) AS finished
    FROM scored GROUP BY ALL
),
every AS (
    SELECT * EXCLUDE (psnr_mean_image, ssim_mean_image, psnr_start, ssim_start, first),
        psnr_mean_image AS psnr, ssim_mean_image AS ssim, first - 0.5 AS position,
        'mean image' AS bridge, 'control' AS role
    FROM controls
    UNION ALL BY NAME
    SELECT * EXCLUDE (psnr_mean_image, ssim_mean_image, psnr_start, ssim_start, first),
        psnr_start AS psnr, ssim_start AS ssim, first - 0.4 AS position,
        'amortised start' AS bridge, 'control' AS role
    FROM controls WHERE psnr_start IS NOT NULL
    UNION ALL BY NAME
    SELECT model, dataset, inversion, prior, recipe, knowledge, rank, seed, secret, position, finished, psnr, ssim,
        bridge, CASE kind WHEN 'oracle' THEN 'bound' WHEN 'projection' THEN 'control' ELSE 'result' END AS role
    FROM scored
)
SELECT * RENAME (secret AS unit), psnr AS psnr_median, 1 AS num_units FROM every
