"""GAN reversal: a picture is coded as the latent of a frozen generator, found by gradient descent."""

from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "GanReversal", "gr", publication="after Tolunay and Ghalayini 2018")
