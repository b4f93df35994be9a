# The compiled twin of `_reference`; the tests hold the two equal.
from demesh.wire._reference import Allowance as Allowance
from demesh.wire._reference import Validator as Validator
from demesh.wire._reference import View as View
from demesh.wire._reference import Window as Window
from demesh.wire._reference import canonical as canonical
from demesh.wire._reference import read_envelope as read_envelope

DIRECT: bool
