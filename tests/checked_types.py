"""beartype as the tests use it: a whole number is a float, as PEP 484 and pyright have it."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
