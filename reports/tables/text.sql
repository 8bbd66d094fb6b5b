-- One row a secret; what the attack said of its own result stands in `told_exact` and `told_wrongly`.
WITH every AS (
    SELECT *, scores['exact_match'] AS exact, scores['verdict'] AS verdict
    FROM sentences WHERE guess != 'unigram'
)
SELECT model, dataset, inversion, recipe, knowledge, rank, bridge, role, seed, position, finished, secret AS unit, 1 AS num_units,
    exact, scores['token_accuracy'] AS tokens, scores['rouge1'] AS rouge_1, scores['rougeL'] AS rouge_l,
    scores['secrets_found'] AS secrets_found, (verdict = 2)::INT::DOUBLE AS told_exact,
    ((verdict = 2 AND exact != 1) OR (verdict = 0 AND exact = 1))::INT::DOUBLE AS told_wrongly
FROM every
