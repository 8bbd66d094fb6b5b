"""The tensors of these tests are small, and the cores are shared: one thread each is the fastest."""

import torch

torch.set_num_threads(1)
