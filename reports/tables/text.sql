-- One row a secret.
SELECT model, dataset, inversion, recipe, knowledge, rank, bridge, role, seed, position, finished, 1 AS num_units,
    scores['exact_match'] AS exact, scores['token_accuracy'] AS tokens, scores['rougeL'] AS rouge_l,
    scores['secrets_found'] AS secrets_found
FROM sentences WHERE guess != 'unigram'
