"""Verifies the counter-signature (RFC 5652 section 11.4) in a signed PDF with asn1crypto and cryptography alone.

Usage: counter.py ANCHORS FILE
"""

import hashlib
import sys

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from pyhanko.pdf_utils.reader import PdfFileReader

anchors, path = sys.argv[1:]
with open(path, "rb") as file:
    (signature,) = PdfFileReader(file).embedded_signatures
    data = signature.signed_data
(signer,) = data["signer_infos"]
(counter,) = [
    value
    for attribute in signer["unsigned_attrs"]
    if attribute["type"].dotted == "1.2.840.113549.1.9.6"
    for value in attribute["values"]
]
counter = cms.SignerInfo.load(counter.dump())
signed = {attribute["type"].dotted: attribute["values"] for attribute in counter["signed_attrs"]}
assert "1.2.840.113549.1.9.3" not in signed, "contentType has no place here"
digest = signed["1.2.840.113549.1.9.4"][0].native
assert digest == hashlib.sha256(signer["signature"].native).digest(), "not over this value"

certificates = [c.chosen for c in data["certificates"]]
named = counter["sid"].chosen
(own,) = [
    c
    for c in certificates
    if c.issuer == named["issuer"] and c.serial_number == named["serial_number"].native
]
key = x509.load_der_x509_certificate(own.dump())
key.public_key().verify(
    counter["signature"].native,
    counter["signed_attrs"].untag().dump(),
    ec.ECDSA(SHA256()),
)
issuer = next(c for c in certificates if c.subject == own.issuer)
issuer = x509.load_der_x509_certificate(issuer.dump())
key.verify_directly_issued_by(issuer)
with open(anchors, "rb") as file:
    roots = x509.load_pem_x509_certificates(file.read())
for root in roots:
    if root.subject == issuer.issuer:
        issuer.verify_directly_issued_by(root)
        break
else:
    raise AssertionError("no way to an anchor")
print("counter-signed by", key.subject.rfc4514_string())
