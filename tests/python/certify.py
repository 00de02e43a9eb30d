"""Certifies a PDF with no changes allowed (DocMDP 1), by a key made for this. Usage: certify.py IN OUT"""

import datetime
import sys

from asn1crypto import keys, x509
from cryptography import x509 as build
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers
from pyhanko_certvalidator.registry import SimpleCertificateStore

given, result = sys.argv[1:]
key = ec.generate_private_key(ec.SECP256R1())
name = build.Name([build.NameAttribute(NameOID.COMMON_NAME, "Certifier of a test")])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    build.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(1)
    .not_valid_before(now - datetime.timedelta(hours=1))
    .not_valid_after(now + datetime.timedelta(hours=1))
    .sign(key, hashes.SHA256())
)
private = key.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
signer = signers.SimpleSigner(
    signing_cert=x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER)),
    signing_key=keys.PrivateKeyInfo.load(private),
    cert_registry=SimpleCertificateStore(),
)
how = signers.PdfSignatureMetadata(
    field_name="Certification", certify=True, docmdp_permissions=fields.MDPPerm.NO_CHANGES
)
with open(given, "rb") as file, open(result, "wb") as out:
    signers.sign_pdf(IncrementalPdfFileWriter(file), how, signer=signer, output=out)
