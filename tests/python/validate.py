"""Puts a signed PDF before pyHanko: integrity, trust, coverage, and the time-stamp. Usage: validate.py ANCHORS FILE"""

import sys

from pyhanko.keys import load_certs_from_pemder
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

anchors, path = sys.argv[1:]
roots = list(load_certs_from_pemder([anchors]))
with open(path, "rb") as file:
    signatures = PdfFileReader(file).embedded_signatures
    assert signatures, "no signature"
    for signature in signatures:
        context = ValidationContext(trust_roots=roots, allow_fetching=False)
        status = validate_pdf_signature(
            signature, signer_validation_context=context, ts_validation_context=context
        )
        print(status.pretty_print_details())
        assert status.bottom_line, "not valid"
        stamp = status.timestamp_validity
        assert stamp is not None and stamp.intact and stamp.valid and stamp.trusted, "time-stamp"
