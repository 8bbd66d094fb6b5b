"""What else a release tells: how many samples it was trained on, their labels, and whether a given sample was there.

zoo, dataset_size, evaluation   the number of samples, by a zoo of adapters of known N (DSiRe: Salama et al., 2024)
labels                          counts of classes, from the update of a released head
membership, text_membership     candidates, by alignment with the release or by its certificate
"""
