"""The number of samples that a release was trained on, told by a zoo of adapters of known N.

After DSiRe (Salama et al., 2024); `zoo`, `dataset_size`, `evaluation`.
"""
