"""Signs PDF files with pyHanko's own CSC client, unchanged, through version 1 in explicit mode, and validates them.

Reads a job from standard input: {service_url, token, credential, pin, otp, anchors, files: [[input, output], …]}.
All files go into one batch: one authorization, one call of signHash.
"""

import asyncio
import json
import sys

import aiohttp
from pyhanko.keys import load_certs_from_pemder
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import signers
from pyhanko.sign.signers import csc_signer
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

job = json.load(sys.stdin)


class Authorization(csc_signer.CSCAuthorizationManager):
    """What a program does that asks its user for PIN and one-time code."""

    def __init__(self, session, info, credential):
        super().__init__(info, credential)
        self.session = session

    async def authorize_signature(self, hash_b64s):
        request = self.format_csc_auth_request(
            pin=job["pin"], otp=job["otp"], hash_b64s=hash_b64s, description="pyHanko"
        )
        url = self.csc_session_info.endpoint_url("credentials/authorize")
        async with self.session.post(url, headers=self.auth_headers, json=request) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            return self.parse_csc_auth_response(body)

    @property
    def auth_headers(self):
        return self.csc_session_info.auth_headers


async def sign(signer, source, target):
    with open(source, "rb") as file:
        writer = IncrementalPdfFileWriter(file, strict=False)
        meta = signers.PdfSignatureMetadata(field_name="Signature1", md_algorithm="sha256")
        signed = await signers.async_sign_pdf(writer, meta, signer=signer)
    with open(target, "wb") as file:
        file.write(signed.getbuffer())


async def main():
    info = csc_signer.CSCServiceSessionInfo(
        service_url=job["service_url"],
        credential_id=job["credential"],
        oauth_token=job["token"],
        api_ver="v1",
    )
    async with aiohttp.ClientSession() as session:
        credential = await csc_signer.fetch_certs_in_csc_credential(session, info)
        assert credential.hash_pinning_required, "SCAL 2"
        signer = csc_signer.CSCSigner(
            session,
            Authorization(session, info, credential),
            batch_size=len(job["files"]),
        )
        await asyncio.gather(*(sign(signer, source, target) for source, target in job["files"]))


asyncio.run(main())
roots = list(load_certs_from_pemder([job["anchors"]]))
for _, target in job["files"]:
    with open(target, "rb") as file:
        (signature,) = PdfFileReader(file, strict=False).embedded_signatures
        context = ValidationContext(trust_roots=roots, allow_fetching=False)
        status = validate_pdf_signature(signature, signer_validation_context=context)
        assert status.bottom_line, status.pretty_print_details()
print("signed and valid:", len(job["files"]))
