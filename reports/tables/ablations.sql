-- One row a secret of every cell that differs from the suite's first one in a single axis, and of the first one itself
-- once an axis. Secrets of other data or numbers of samples are other units, and are never paired.
WITH long AS (
    UNPIVOT (
        SELECT cell_id, model, dataset, plain_recipe AS recipe, defence, knowledge, bridge, inversion, prior,
            rank::TEXT AS rank
        FROM image_cells
    ) ON model, dataset, recipe, defence, knowledge, bridge, inversion, prior, rank INTO NAME axis VALUE value
),
first_cell AS (
    SELECT axis, value FROM long WHERE cell_id = (SELECT arg_min(cell_id, position) FROM image_cells)
),
differing AS (
    SELECT cell_id, count(*) AS num, any_value(axis) AS axis
    FROM long JOIN first_cell USING (axis) WHERE long.value != first_cell.value GROUP BY cell_id
),
axes AS (SELECT DISTINCT axis FROM differing WHERE num = 1),
members AS (
    SELECT cell_id, axis FROM differing WHERE num = 1
    UNION ALL BY NAME
    SELECT cell_id, axis FROM image_cells CROSS JOIN axes WHERE cell_id NOT IN (SELECT cell_id FROM differing)
),
samples AS (SELECT cell_id, knobs ->> '$.recipe.num_samples' AS num_samples FROM suite_cells)
SELECT axis || ' varied' AS axis, value, 'all else as in the first cell' AS held,
    CASE WHEN axis != 'bridge' THEN 'result' WHEN kind = 'oracle' THEN 'bound' WHEN kind = 'projection' THEN 'control'
        ELSE 'result' END AS role,
    seed, position, finished, concat_ws('/', num_samples, dataset, secret) AS unit, 1 AS num_units,
    psnr, psnr AS psnr_median, ssim, psnr_mean_image,
    CASE WHEN psnr IS NOT NULL THEN (psnr >= 30)::INT::DOUBLE END AS above_30
FROM members JOIN long USING (cell_id, axis) JOIN image_cells USING (cell_id) JOIN samples USING (cell_id)
    LEFT JOIN scores USING (cell_id)
WHERE (SELECT count(*) FROM axes) >= 3
