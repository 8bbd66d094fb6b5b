-- One row a secret.
SELECT model, dataset, inversion, recipe, knowledge, rank, bridge, role, seed, position, finished, secret AS unit, 1 AS num_units,
    scores['certified'] AS certified, scores['false_certificates'] AS false_certificates,
    scores['certificate_tests'] / 1e6 AS million_tests, scores['rank'] AS span,
    scores['certified_of_another'] AS of_another,
    scores['recall_ranked'] AS recall_ranked, scores['recall_100'] AS recall_100
FROM sentences WHERE guess IN ('recovered', 'unigram')
