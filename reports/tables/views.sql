-- What the tables stand on. The variable `suite` is set before.

-- A defence is a part of what the victim did: every table has it in the recipe's name. `plain_recipe` is without it.
CREATE TEMP VIEW suite_cells AS
SELECT * REPLACE (CASE WHEN knobs ->> '$.defence.kind' IS NULL THEN recipe ELSE recipe || ' + ' || defence END AS recipe),
    recipe AS plain_recipe
FROM cells WHERE suite = getvariable('suite');

-- The cells of the suite. `kind` is the bridge's kind, whatever its label; `data_kind` is 'images' or 'text', and data
-- that do not say their kind are images.
CREATE TEMP VIEW chosen AS
SELECT cell_id, model, dataset, inversion, prior, recipe, plain_recipe, defence, knowledge, rank, bridge, seed, position,
    knobs ->> '$.bridge.kind' AS kind, coalesce(knobs ->> '$.dataset.kind', 'images') AS data_kind,
    state = 'finished' AS finished
FROM suite_cells;

CREATE TEMP VIEW image_cells AS SELECT * EXCLUDE (data_kind) FROM chosen WHERE data_kind = 'images';
CREATE TEMP VIEW text_cells AS SELECT * EXCLUDE (data_kind) FROM chosen WHERE data_kind = 'text';

-- The final numbers of a cell, by the stage that measured them.
CREATE TEMP VIEW measured AS
SELECT cell_id, stage, name, value, secret, module
FROM cell_tasks JOIN facts USING (key)
WHERE suite = getvariable('suite') AND step IS NULL;

-- PSNR and SSIM of every secret, and of what stands in its place: the proxy's mean image, an inversion's start.
CREATE TEMP VIEW scores AS
SELECT cell_id, secret,
    any_value(value) FILTER (name = 'psnr') AS psnr,
    any_value(value) FILTER (name = 'ssim') AS ssim,
    any_value(value) FILTER (name = 'psnr_mean_image') AS psnr_mean_image,
    any_value(value) FILTER (name = 'ssim_mean_image') AS ssim_mean_image,
    any_value(value) FILTER (name = 'psnr_start') AS psnr_start,
    any_value(value) FILTER (name = 'ssim_start') AS ssim_start
FROM measured WHERE stage = 'score' AND secret IS NOT NULL AND module IS NULL
GROUP BY cell_id, secret;

-- What was measured of every text secret, as a map: of the sentences that came back, and of what stands in their place.
-- NaN stands for nothing to find where a secret has no marked span: that is not measured. Everywhere else it is a result.
CREATE TEMP VIEW text_scores AS
WITH named AS (
    SELECT cell_id, secret, any_value(value) AS value,
        regexp_extract(name, '^(.*?)(_frequent|_language_model|_unigram)?$', ['measure', 'suffix']) AS parts
    FROM measured JOIN text_cells USING (cell_id)
    WHERE finished AND secret IS NOT NULL AND module IS NULL
        AND (stage = 'score' OR (stage = 'attack' AND name IN ('verdict', 'rank')))
    GROUP BY cell_id, secret, name
)
SELECT cell_id, secret,
    CASE parts.suffix WHEN '_frequent' THEN 'frequent tokens' WHEN '_language_model' THEN 'language model'
        WHEN '_unigram' THEN 'unigram' ELSE 'recovered' END AS guess,
    map_from_entries(list((parts.measure, value))) AS scores
FROM named WHERE NOT (parts.measure = 'secrets_found' AND isnan(value))
GROUP BY ALL;

-- One row a text secret and guess. A bridge does not change the controls, all but 'recovered': they count once for all.
CREATE TEMP VIEW sentences AS
WITH controls AS (
    SELECT model, dataset, inversion, recipe, knowledge, rank, seed, secret, guess,
        any_value(scores) AS scores, min(position) AS first, bool_or(finished) AS finished
    FROM text_cells CROSS JOIN (SELECT unnest(['frequent tokens', 'language model', 'unigram']) AS guess)
        LEFT JOIN text_scores USING (cell_id, guess)
    GROUP BY ALL HAVING any_value(scores) IS NOT NULL OR NOT bool_or(finished)
)
SELECT * EXCLUDE (first), guess AS bridge, 'control' AS role,
    first - 0.5 + 0.1 * list_position(['frequent tokens', 'language model', 'unigram'], guess) AS position
FROM controls
UNION ALL BY NAME
SELECT model, dataset, inversion, recipe, knowledge, rank, seed, secret, 'recovered' AS guess, scores, finished, bridge,
    CASE kind WHEN 'oracle' THEN 'bound' WHEN 'projection' THEN 'control' ELSE 'result' END AS role, position
FROM text_cells LEFT JOIN (FROM text_scores WHERE guess = 'recovered') USING (cell_id);

-- What cells are compared by: one row a secret. Secrets of one seed are the same wherever data and num_samples are.
CREATE TEMP VIEW compared AS
WITH samples AS (SELECT cell_id, (knobs ->> '$.recipe.num_samples')::INT AS num_samples FROM suite_cells)
SELECT model, dataset, plain_recipe AS recipe, defence, knowledge, bridge, inversion, prior, rank::TEXT AS rank,
    num_samples, seed, secret, position, kind, 'PSNR (dB)' AS measure, psnr AS value, psnr_mean_image AS control
FROM image_cells JOIN scores USING (cell_id) JOIN samples USING (cell_id) WHERE finished
UNION ALL BY NAME
SELECT model, dataset, plain_recipe AS recipe, defence, knowledge, bridge, inversion, prior, rank::TEXT AS rank,
    num_samples, seed, secret, position, kind, 'share of tokens' AS measure, scores['token_accuracy'] AS value, NULL AS control
FROM text_cells JOIN text_scores USING (cell_id) JOIN samples USING (cell_id) WHERE finished AND guess = 'recovered';

-- Cells whose bridge is a decoder that is fitted.
CREATE TEMP VIEW decoded_cells AS
SELECT DISTINCT cell_id FROM cell_tasks WHERE suite = getvariable('suite') AND stage = 'decoder';

-- Cosines of decoders on held-out pairs. Cells that differ in the attack alone share their decoder: they count once.
CREATE TEMP VIEW decoders AS
WITH modules AS (
    SELECT cell_id, module,
        any_value(value) FILTER (name = 'heldout_cosine') AS decoded,
        any_value(value) FILTER (name = 'heldout_cosine_floor') AS floor,
        any_value(value) FILTER (name = 'heldout_cosine_projection') AS projection,
        any_value(value) FILTER (name = 'heldout_cosine_mean_gradient') AS mean_gradient
    FROM measured WHERE stage = 'decoder' AND module IS NOT NULL GROUP BY cell_id, module
),
pairs AS (
    SELECT cell_id, any_value(value) AS num_units
    FROM measured WHERE stage = 'decoder' AND name = 'num_heldout' GROUP BY cell_id
)
SELECT model, dataset, recipe, knowledge, rank, bridge, kind, seed, module, NULL AS secret,
    any_value(decoded) AS decoded, any_value(floor) AS floor, any_value(projection) AS projection,
    any_value(mean_gradient) AS mean_gradient, any_value(num_units) AS num_units,
    min(position) AS position, bool_or(finished OR decoded IS NOT NULL) AS finished
FROM chosen JOIN decoded_cells USING (cell_id) LEFT JOIN modules USING (cell_id) LEFT JOIN pairs USING (cell_id)
GROUP BY ALL;

-- Cosines of decoded gradients with the victims' own. The inversion and the prior do not change what was decoded. Text
-- can be read out of a release without a decoder: such a cell has no row.
CREATE TEMP VIEW victims AS
WITH modules AS (
    SELECT cell_id, secret, module,
        any_value(value) FILTER (name = 'gradient_cosine') AS decoded,
        any_value(value) FILTER (name = 'gradient_cosine_floor') AS floor,
        any_value(value) FILTER (name = 'gradient_cosine_projection') AS projection,
        any_value(value) FILTER (name = 'gradient_cosine_mean_gradient') AS mean_gradient
    FROM measured WHERE stage = 'score' AND module IS NOT NULL GROUP BY cell_id, secret, module
)
SELECT model, dataset, recipe, knowledge, rank, bridge, kind, seed, module, secret,
    any_value(decoded) AS decoded, any_value(floor) AS floor, any_value(projection) AS projection,
    any_value(mean_gradient) AS mean_gradient, 1.0 AS num_units,
    min(position) AS position, bool_or(finished) AS finished
FROM chosen LEFT JOIN modules USING (cell_id)
WHERE kind != 'direct' AND (data_kind = 'images' OR module IS NOT NULL OR cell_id IN (SELECT cell_id FROM decoded_cells))
GROUP BY ALL;

-- `decoders` or `victims` with a row each for floor, projection and mean gradient, which do not depend on the bridge.
CREATE TEMP MACRO with_controls(cosines) AS TABLE
WITH every AS (FROM query_table(cosines)),
controls AS (
    SELECT model, dataset, recipe, knowledge, rank, seed, module, secret,
        any_value(floor) AS "floor √(r/d)", any_value(projection) AS projection,
        any_value(mean_gradient) AS "mean gradient", any_value(num_units) AS num_units,
        min(position) - 0.5 AS position, bool_or(finished) AS finished
    FROM every GROUP BY ALL
)
SELECT model, dataset, recipe, knowledge, rank, bridge, CASE kind WHEN 'oracle' THEN 'bound' ELSE 'result' END AS role,
    seed, module, secret, position, finished, num_units, decoded AS cosine
FROM every WHERE kind != 'projection'
UNION ALL BY NAME
SELECT 'control' AS role, *
    REPLACE (position + 0.1 * list_position(['floor √(r/d)', 'projection', 'mean gradient'], bridge) AS position)
FROM controls UNPIVOT INCLUDE NULLS (cosine FOR bridge IN ("floor √(r/d)", projection, "mean gradient"));
