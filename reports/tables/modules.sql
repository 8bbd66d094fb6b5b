-- One row a module and seed.
SELECT model, dataset, recipe, knowledge, rank, bridge, role, seed, position, finished, num_units, module, cosine
FROM with_controls('decoders') WHERE module IS NOT NULL
