"""Reconstruction from stationarity (Haim et al., NeurIPS 2022), for weights and for LoRA adapters.

Training that has converged leaves parameters that are a combination of the training samples' gradients,

    theta = sum_i lambda_i y_i grad f(x_i; theta),   lambda_i >= 0,

so images are sought that fulfil this. It holds in three cases, and is asked of no other (`docs/haim.md`):

    homogeneous  f is homogeneous in theta and trained far beyond zero logistic loss (Lyu & Li, 2020): W0 = 0, no bias
    decayed      gradient descent with L2 weight decay at its stationary point, whatever f is
    kernel       theta - theta_0 for theta, gradients at a known start theta_0: few or small steps

`gate` asks of the true data whether it does. It opens the secret, so no attack may import it.
"""
