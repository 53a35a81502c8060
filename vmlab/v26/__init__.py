"""Linux 2.6.11, as far as it differs from 2.4.22: overrides of the classes in vmlab.mm, behind ``boot(kernel="2.6")``."""
