"""genic, generative image compression: the folders of the repository under one name, in a checkout (through the links
beside this file) as in an installed wheel."""

__version__ = "0.1.0"
