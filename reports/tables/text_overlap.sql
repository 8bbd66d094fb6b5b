-- One row a secret.
SELECT model, dataset, inversion, recipe, knowledge, rank, bridge, role, seed, position, finished, secret AS unit, 1 AS num_units,
    scores['token_recall'] AS token_recall, scores['rouge2'] AS rouge_2, scores['bleu'] AS bleu,
    scores['edit_similarity'] AS edit_similarity
FROM sentences WHERE guess != 'unigram'
