"""GAN reversal: a picture is coded as the latent of a frozen generator, found by gradient descent."""
