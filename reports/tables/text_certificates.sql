-- One row a secret; what the attack said of its own result stands in `told_exact` and `told_wrongly`.
WITH every AS (
    SELECT *, scores['exact_match'] AS exact, scores['verdict'] AS verdict
    FROM sentences WHERE guess = 'recovered'
)
SELECT model, dataset, inversion, recipe, knowledge, rank, bridge, role, seed, position, finished, 1 AS num_units,
    (verdict = 2)::INT::DOUBLE AS told_exact,
    ((verdict = 2 AND exact != 1) OR (verdict = 0 AND exact = 1))::INT::DOUBLE AS told_wrongly,
    scores['false_certificates'] AS false_certificates, scores['certificate_tests'] / 1e6 AS million_tests,
    scores['rank'] AS span
FROM every
